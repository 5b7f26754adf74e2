/* Directories of many entries, on the file system of the folder named, or of the program: every entry is read once, and positions lead back. */
#include "must.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int entries;

/* How many there are, each once: names are numbers. */
static int once_each(DIR *dir) {
  unsigned char *seen = calloc(entries, 1);
  int count = 0, dots = 0, twice = 0;
  struct dirent *entry;
  errno = 0;
  while ((entry = readdir(dir))) {
    if (*entry->d_name == '.') dots++;
    else count++, twice += seen[atoi(entry->d_name)]++ != 0;
  }
  free(seen);
  return errno ? -errno : count == entries && dots == 2 && !twice;
}

static int back_and_forth(DIR *dir, int step) {
  enum { MARKS = 50 };
  long marks[MARKS];
  char names[MARKS][16];
  struct dirent *entry;
  int count = 0, good = 0;
  rewinddir(dir);
  for (int i = 0; count < MARKS; i++) {
    long position = telldir(dir);
    if (!(entry = readdir(dir))) break;
    if (i % step == 0) marks[count] = position, strcpy(names[count++], entry->d_name);
  }
  for (int i = 0; i < count; i++) {
    int mark = i * 7 % count;
    seekdir(dir, marks[mark]);
    good += telldir(dir) == marks[mark] && (entry = readdir(dir)) && !strcmp(entry->d_name, names[mark]);
  }
  if (good != count) printf("%d of %d ", good, count);
  return good == count;
}

int main(int argc, char **argv) {
  char name[512], path[16];
  struct dirent *entry;
  struct stat st;
  entries = argc > 2 ? atoi(argv[2]) : 3000;
  if (argc > 1) snprintf(name, sizeof name, "%s/directory-XXXXXX", argv[1]);
  else if (realpath(argv[0], name)) strcpy(strrchr(name, '/'), "/directory-XXXXXX");
  if (!mkdtemp(name) || chdir(name)) return 1;
  for (int i = 0; i < entries; i++) {
    snprintf(path, sizeof path, "%d", i);
    close(open(path, O_CREAT | O_WRONLY, 0600));
  }
  DIR *dir = opendir(".");
  MUST(once_each(dir) == 1);
  MUST(readdir(dir) == NULL && errno == 0);
  long end = telldir(dir);
  rewinddir(dir);
  MUST(once_each(dir) == 1);
  MUST(back_and_forth(dir, 1));
  MUST(back_and_forth(dir, entries / 60 + 1));
  seekdir(dir, end);
  MUST(readdir(dir) == NULL && errno == 0);
  rewinddir(dir);
  /* the rest from a position, as many as were left there */
  int left = 0, again = 0;
  for (int i = 0; i < entries / 2; i++) readdir(dir);
  long half = telldir(dir);
  while (readdir(dir)) left++;
  seekdir(dir, half);
  while (readdir(dir)) again++;
  MUST(left == entries + 2 - entries / 2 && again == left);
  /* by another descriptor of the same directory, and in a child */
  DIR *other = fdopendir(dup(dirfd(dir)));
  seekdir(dir, half);
  int status, pid = fork();
  if (pid == 0) {
    seekdir(other, half);
    again = 0;
    while (readdir(other)) again++;
    _exit(again == left ? 0 : 1);
  }
  waitpid(pid, &status, 0);
  MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  closedir(other);
  /* a plain file under the number of a directory is no directory */
  int number = dirfd(dir);
  closedir(dir);
  int file = open("0", O_RDWR);
  if (file != number) dup2(file, number);
  MUST(ftruncate(number, 5000) == 0 && lseek(number, 4097, SEEK_SET) == 4097 && lseek(number, 0, SEEK_CUR) == 4097);
  close(file), close(number);
  for (int i = 0; i < entries; i++) {
    snprintf(path, sizeof path, "%d", i);
    unlink(path);
  }
  MUST(rmdir(name) == 0);
  (void)st, (void)entry;
  return broken;
}
