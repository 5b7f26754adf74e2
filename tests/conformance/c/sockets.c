/* Sockets: unix with credentials, TCP and UDP over the loopback, options and names. */
#include "check.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static void option(const char *name, int socket, int level, int number) {
  int value = -1;
  socklen_t size = sizeof value;
  int failed = getsockopt(socket, level, number, &value, &size);
  printf("%s: %d %d %u\n", name, failed, value, size);
}

int main(void) {
  char text[64] = "";
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof here;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CALL(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)));
  CALL(bind(listener, (struct sockaddr *)&here, sizeof here));
  CALL(listen(listener, 5));
  CALL(getsockname(listener, (struct sockaddr *)&here, &size));
  IS(here.sin_family == AF_INET && ntohs(here.sin_port) > 0 && size == sizeof here);
  if (fork() == 0) {
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(client, (struct sockaddr *)&here, sizeof here)) _exit(9);
    send(client, "hello", 5, MSG_NOSIGNAL);
    shutdown(client, SHUT_WR);
    /* prints only when the server has ended, which is why it gets there */
    while (recv(client, text, 1, 0) == 1) usleep(100);
    CALL(recv(client, text, sizeof text, MSG_DONTWAIT));
    _exit(strcmp(text, "e") != 0);
  }
  struct sockaddr_in peer;
  size = sizeof peer;
  int server = accept4(listener, (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
  puts(inet_ntoa(peer.sin_addr));
  option("type", server, SOL_SOCKET, SO_TYPE);
  option("error", server, SOL_SOCKET, SO_ERROR);
  option("nodelay", server, IPPROTO_TCP, TCP_NODELAY);
  CALL(setsockopt(server, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 1000}, sizeof(struct timeval)));
  CALL(setsockopt(server, SOL_SOCKET, SO_LINGER, &(struct linger){1, 1}, sizeof(struct linger)));
  while (read(server, text, 5) == -1);
  puts(text);
  CALL(write(server, "good bye", 8));
  close(server);
  int status;
  wait(&status);
  VALUE(status);

  int one = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
  here.sin_port = 0;
  CALL(bind(one, (struct sockaddr *)&here, sizeof here));
  size = sizeof here;
  getsockname(one, (struct sockaddr *)&here, &size);
  CALL(sendto(other, "datagram", 8, 0, (struct sockaddr *)&here, sizeof here));
  size = sizeof peer;
  CALL(recvfrom(one, text, 4, MSG_TRUNC, (struct sockaddr *)&peer, &size));
  struct mmsghdr several[2] = {0};
  struct iovec parts[2] = {{"first", 5}, {"second", 6}};
  CALL(connect(other, (struct sockaddr *)&here, sizeof here));
  for (int i = 0; i < 2; i++) several[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  CALL(sendmmsg(other, several, 2, 0));
  char rooms[2][16] = {"", ""};
  for (int i = 0; i < 2; i++) parts[i] = (struct iovec){rooms[i], 16};
  CALL(recvmmsg(one, several, 2, 0, NULL));
  printf("%s %s %u\n", rooms[0], rooms[1], several[1].msg_len);

  int pair[2];
  CALL(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  CALL(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int)));
  CALL(send(pair[0], "who", 3, 0));
  union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(struct ucred))]; } control;
  struct iovec part = {text, sizeof text};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  CALL(recvmsg(pair[1], &message, 0));
  struct ucred from;
  memcpy(&from, CMSG_DATA(&control.header), sizeof from);
  VALUE(control.header.cmsg_type == SCM_CREDENTIALS);
  IS(from.pid == getpid() && from.uid == getuid());
  struct sockaddr_un name = {AF_UNIX, "\0abstract"};
  int unix_one = socket(AF_UNIX, SOCK_STREAM, 0);
  CALL(bind(unix_one, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 9));
  CALL(connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 9));
  size = sizeof name;
  CALL(getsockname(unix_one, (struct sockaddr *)&name, &size));
  VALUE(size);
  struct addrinfo *found = NULL, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  VALUE(getaddrinfo("localhost", "80", &hints, &found));
  struct sockaddr_in *address = (struct sockaddr_in *)found->ai_addr;
  printf("%s %d\n", inet_ntoa(address->sin_addr), ntohs(address->sin_port));
  return 0;
}
