/* Files of /proc that tell of the process itself are the program's, whatever leads to them; other files open as they are. */
#include "must.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>

static unsigned long entry_in(int fd) {
  unsigned long pair[2];
  while (read(fd, pair, sizeof pair) == sizeof pair)
    if (pair[0] == AT_ENTRY) return close(fd), pair[1];
  return 0;
}

int main(void) {
  char folder[] = "/tmp/open.XXXXXX", text[64] = "";
  int fd, file;
  MUST(mkdtemp(folder) != NULL && chdir(folder) == 0);
  MUST(entry_in(open("/proc/self/auxv", O_RDONLY)) == getauxval(AT_ENTRY));
  MUST(symlink("/proc/self/auxv", "link") == 0);
  MUST(entry_in(open("link", O_RDONLY)) == getauxval(AT_ENTRY));
  MUST(open("link", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
  MUST(chdir("/proc/self") == 0);
  MUST(entry_in(open("auxv", O_RDONLY)) == getauxval(AT_ENTRY));
  MUST(chdir(folder) == 0 && unlink("link") == 0);

  MUST((file = open("file", O_CREAT | O_EXCL | O_RDWR, 0600)) > 2 && write(file, "text", 4) == 4);
  MUST(open("file", O_CREAT | O_EXCL | O_RDWR, 0600) == -1 && errno == EEXIST);
  MUST(open("file", O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
  MUST(open("absent", O_RDONLY) == -1 && errno == ENOENT);
  MUST(open("file/below", O_RDONLY) == -1 && errno == ENOTDIR);
  snprintf(text, sizeof text, "/proc/self/fd/%d", file);
  MUST((fd = open(text, O_RDONLY)) == file + 1 && read(fd, text, 4) == 4 && !memcmp(text, "text", 4));
  MUST(open("file", O_WRONLY | O_TRUNC) == file + 2 && lseek(fd, 0, SEEK_END) == 0);
  MUST(unlink("file") == 0 && chdir("/") == 0 && rmdir(folder) == 0);
  return broken;
}
