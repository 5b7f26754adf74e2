/* Pipes and descriptors: capacity, EAGAIN, EPIPE, dup, close-on-exec, poll, select, splice, passing them on. */
#include "check.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>

int main(void) {
  int ends[2], pair[2], waiting;
  char room[65536] = "";
  signal(SIGPIPE, SIG_IGN);
  CALL(pipe2(ends, O_NONBLOCK | O_CLOEXEC));
  VALUE(fcntl(ends[0], F_GETFD));
  IS(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
  VALUE(fcntl(ends[0], F_GETPIPE_SZ));
  CALL(read(ends[0], room, 1));
  CALL(write(ends[1], room, sizeof room));
  CALL(write(ends[1], room, 1));
  CALL(ioctl(ends[0], FIONREAD, &waiting));
  VALUE(waiting);
  struct pollfd polled[2] = {{ends[0], POLLIN, 0}, {ends[1], POLLOUT, 0}};
  CALL(poll(polled, 2, 0));
  VALUE(polled[0].revents);
  VALUE(polled[1].revents);
  fd_set readable, writable;
  FD_ZERO(&readable);
  FD_ZERO(&writable);
  FD_SET(ends[0], &readable);
  FD_SET(ends[1], &writable);
  CALL(select(ends[1] + 1, &readable, &writable, NULL, &(struct timeval){0, 0}));
  IS(FD_ISSET(ends[0], &readable) && !FD_ISSET(ends[1], &writable));
  CALL(read(ends[0], room, sizeof room));
  CALL(close(ends[0]));
  CALL(write(ends[1], room, 1));
  CALL(poll(polled + 1, 1, 0));
  VALUE(polled[1].revents);
  CALL(dup2(ends[1], 77));
  CALL(fcntl(77, F_DUPFD_CLOEXEC, 200));
  CALL(dup3(77, 77, 0));
  CALL(close(123));
  CALL(close_range(77, 300, 0));
  CALL(fcntl(77, F_GETFD));

  CALL(pipe(ends));
  CALL(writev(ends[1], (struct iovec[]){{"one ", 4}, {"two ", 4}, {"three", 5}}, 3));
  int file = memfd_create("file", 0);
  CALL(splice(ends[0], NULL, file, NULL, 8, 0));
  CALL(preadv(file, (struct iovec[]){{room, 3}, {room + 10, 3}}, 2, 1));
  puts(room);
  puts(room + 10);

  CALL(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
  union { struct cmsghdr header; char room[CMSG_SPACE(2 * sizeof(int))]; } control = {0};
  struct iovec text = {"fds", 3};
  struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  control.header.cmsg_level = SOL_SOCKET;
  control.header.cmsg_type = SCM_RIGHTS;
  control.header.cmsg_len = CMSG_LEN(2 * sizeof(int));
  memcpy(CMSG_DATA(&control.header), (int[]){file, ends[0]}, 2 * sizeof(int));
  CALL(sendmsg(pair[0], &message, 0));
  memset(&control, 0, sizeof control);
  text.iov_base = room;
  CALL(recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC));
  int got[2];
  memcpy(got, CMSG_DATA(&control.header), sizeof got);
  VALUE(control.header.cmsg_len == CMSG_LEN(2 * sizeof(int)));
  VALUE(fcntl(got[0], F_GETFD));
  CALL(pread(got[0], room, 3, 0));
  CALL(read(got[1], room, 5));
  CALL(lseek(got[1], 0, SEEK_SET));
  return 0;
}
