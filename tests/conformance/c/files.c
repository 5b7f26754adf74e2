/* Files and directories: every call that has a structure to translate, or an error that programs look for. */
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>

static void print_stat(const char *path) {
  struct stat s;
  struct statx x;
  CALL(lstat(path, &s));
  printf("%o %ld %lld %lld.%09ld\n", s.st_mode, (long)s.st_nlink, (long long)s.st_size, (long long)s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
  CALL(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &x));
  IS(x.stx_mode == s.st_mode && x.stx_size == (uint64_t)s.st_size && x.stx_ino == s.st_ino && x.stx_mtime.tv_nsec == s.st_mtim.tv_nsec);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

int main(void) {
  char folder[] = "/tmp/filesXXXXXX", text[64] = "";
  CALL(chdir(mkdtemp(folder)));
  int file = open("file", O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0640);
  CALL(write(file, "0123456789", 10));
  CALL(open("file", O_CREAT | O_EXCL, 0600));
  CALL(open("file", O_DIRECTORY));
  CALL(open("file/x", O_RDONLY));
  CALL(pwrite(file, "ab", 2, 4));
  CALL(lseek(file, -3, SEEK_END));
  CALL(read(file, text, 10));
  CALL(lseek(file, -30, SEEK_CUR));
  CALL(ftruncate(file, 5000000000LL) == 0);
  VALUE(lseek(file, 0, SEEK_END));
  CALL(lseek(file, 10, SEEK_HOLE));
  CALL(fallocate(file, FALLOC_FL_KEEP_SIZE, 0, 8192));
  CALL(ftruncate(file, 20));
  CALL(symlink("file", "link"));
  CALL(link("file", "hard"));
  CALL(mkdir("dir", 01775));
  CALL(mkfifo("fifo", 0600));
  CALL(mknod("device", S_IFCHR | 0600, 0x103));
  CALL(readlink("link", text, sizeof text));
  CALL(futimens(file, (struct timespec[]){{1, 2}, {1600000000, 123456789}}));
  CALL(utimensat(AT_FDCWD, "link", (struct timespec[]){{1, 2}, {5000000000, 9}}, AT_SYMLINK_NOFOLLOW));
  print_stat("file");
  print_stat("link");
  CALL(rename("hard", "dir/hard"));
  CALL(renameat2(AT_FDCWD, "dir", AT_FDCWD, "link", RENAME_EXCHANGE));
  CALL(renameat2(AT_FDCWD, "dir", AT_FDCWD, "link", RENAME_NOREPLACE));
  CALL(rmdir("link"));
  struct dirent **entries;
  int count = scandir(".", &entries, NULL, by_name);
  for (int i = 0; i < count; i++) printf("%s %d\n", entries[i]->d_name, entries[i]->d_type);
  for (int i = 0; i < 500; i++) {
    snprintf(text, sizeof text, "link/%0*d", i % 40 + 3, i);
    close(open(text, O_CREAT | O_WRONLY, 0600));
  }
  DIR *many = opendir("link");
  long place = 0;
  int seen = 0;
  for (struct dirent *entry; (entry = readdir(many)); seen++) if (seen == 250) place = telldir(many);
  VALUE(seen);
  seekdir(many, place);
  for (seen = 0; readdir(many); seen++);
  VALUE(seen);
  CALL(setxattr("file", "user.name", "value", 5, 0));
  CALL(getxattr("file", "user.name", text, sizeof text));
  CALL(listxattr("file", text, sizeof text));
  CALL(getxattr("file", "user.other", text, sizeof text));
  CALL(flock(file, LOCK_EX | LOCK_NB));
  int again = open("file", O_RDWR);
  CALL(flock(again, LOCK_SH | LOCK_NB));
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4};
  CALL(fcntl(file, F_OFD_SETLK, &lock));
  lock.l_len = 1;
  CALL(fcntl(again, F_OFD_SETLK, &lock));
  CALL(fcntl(again, F_OFD_GETLK, &lock));
  printf("%d %lld %lld\n", lock.l_type, (long long)lock.l_start, (long long)lock.l_len);
  int out = open("out", O_CREAT | O_WRONLY | O_APPEND, 0600);
  off_t offset = 2;
  fcntl(out, F_SETFL, 0);
  CALL(sendfile(out, file, &offset, 5));
  VALUE(offset);
  CALL(copy_file_range(file, NULL, out, NULL, 4, 0));
  CALL(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
  CALL(fsync(file));
  struct statvfs vfs;
  CALL(statvfs(".", &vfs));
  VALUE(vfs.f_namemax);
  CALL(access("file", X_OK));
  CALL(faccessat(AT_FDCWD, "nothing", F_OK, 0));
  CALL(chdir("file"));
  CALL(truncate("dir", 5));
  IS(getcwd(text, sizeof text) && strcmp(text, folder) == 0);
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}
