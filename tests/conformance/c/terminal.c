/* A pseudo-terminal: its attributes, size, line discipline and signals. */
#include "check.h"
#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>

int main(void) {
  struct winsize size = {24, 80, 1, 2};
  struct termios t;
  int master;
  pid_t pid = forkpty(&master, NULL, NULL, &size);
  if (pid == 0) {
    struct winsize seen;
    char line[64] = "";
    VALUE(isatty(0));
    CALL(ioctl(0, TIOCGWINSZ, &seen));
    printf("%u %u %u %u\n", seen.ws_row, seen.ws_col, seen.ws_xpixel, seen.ws_ypixel);
    CALL(tcgetattr(0, &t));
    printf("%lx %lx %lx %lx %d\n", (long)t.c_iflag, (long)t.c_oflag, (long)t.c_cflag, (long)t.c_lflag, t.c_cc[VINTR]);
    IS(tcgetpgrp(0) == getpgrp() && tcgetsid(0) == getpid());
    (void)!read(0, line, sizeof line);
    printf("got %s", line);
    cfmakeraw(&t);
    cfsetspeed(&t, B38400);
    CALL(tcsetattr(0, TCSANOW, &t));
    CALL(tcgetattr(0, &t));
    VALUE(cfgetospeed(&t) == B38400);
    printf("%lx %lx\r\n", (long)t.c_iflag, (long)t.c_lflag);
    t.c_lflag |= ISIG;
    tcsetattr(0, TCSANOW, &t);
    puts("ready\r");
    for (;;) pause();
  }
  CALL(write(master, "typed\x7f!\n", 8));
  char text[4096] = "";
  ssize_t have = 0, got;
  while (!strstr(text, "ready") && (got = read(master, text + have, sizeof text - 1 - have)) > 0) have += got;
  /* the echo comes when it comes */
  for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n")) if (!strstr(line, "typed")) puts(line);
  CALL(write(master, "\x03", 1));
  int status;
  waitpid(pid, &status, 0);
  VALUE(WTERMSIG(status));
  CALL(tcgetattr(open("/dev/null", O_RDWR), &t));
  return 0;
}
