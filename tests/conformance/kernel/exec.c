/* execve(2): which file runs, as what, and which errors there are. Scripts above all, of which the kernel reads 256 bytes. */
#include "must.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char program[512];
static char seen[8192];

/* Runs it, and returns what it says of itself, or the error. */
static const char *runs_as(const char *path, char **argv) {
  int ends[2], length = 0, size;
  pipe(ends);
  if (fork() == 0) {
    dup2(ends[1], 1), close(ends[0]), close(ends[1]);
    execve(path, argv, (char *[]){"A=B", NULL});
    printf("%s", strerrorname_np(errno)), fflush(stdout);
    _exit(1);
  }
  close(ends[1]);
  while ((size = read(ends[0], seen + length, sizeof seen - 1 - length)) > 0) length += size;
  close(ends[0]), wait(NULL);
  seen[length] = 0;
  return seen;
}
static const char *runs(const char *path) { return runs_as(path, (char *[]){"-name", "one", "", NULL}); }
/* What a program says that is called so by this name, with these arguments. */
static int is(const char *said, const char *name, const char *arguments) {
  char expected[8192];
  snprintf(expected, sizeof expected, "%.15s: %s|", name, arguments);
  if (strcmp(said, expected)) printf("\"%s\" is not \"%s\": ", said, expected);
  return !strcmp(said, expected);
}
static int fails(const char *said, const char *error) {
  if (strcmp(said, error)) printf("\"%s\": ", said);
  return !strcmp(said, error);
}

static const char *file(const char *name, const char *text, int mode) {
  int written = open(name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0755);
  write(written, text, strlen(text));
  fchmod(written, mode);
  close(written);
  return name;
}
/* A script of this interpreter. */
static const char *script(const char *name, const char *before, const char *interpreter, const char *after) {
  char text[2048];
  snprintf(text, sizeof text, "#!%s%s%s", before, interpreter, after);
  return file(name, text, 0755);
}

static int started(int argc, char **argv, char **environment) {
  char name[17] = "";
  prctl(PR_GET_NAME, name);
  printf("%s: ", name);
  for (int i = 0; i < argc; i++) printf("%s|", argv[i]);
  if (strcmp(environment[0], "A=B") || environment[1]) printf(" environment");
  if (open("/dev/null", O_RDONLY | O_CLOEXEC) != 3) printf(" descriptors");
  return 0;
}

int main(int argc, char **argv, char **environment) {
  char folder[] = "/tmp/exec-XXXXXX", expected[4096], text[1024];
  if (getenv("A")) return started(argc, argv, environment);
  for (int i = 3; i < 64; i++) close(i);
  realpath(argv[0], program);
  mkdtemp(folder), chdir(folder);
  symlink(program, "link"), symlink(program, "a name of many letters");
  // that what is executed does not find
  open("/dev/null", O_RDONLY | O_CLOEXEC), open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const char *base = strrchr(program, '/') + 1;

  MUST(is(runs(program), base, "-name|one|"));
  MUST(is(runs("link"), "link", "-name|one|"));
  MUST(is(runs("./link"), "link", "-name|one|"));
  MUST(is(runs("a name of many letters"), "a name of many letters", "-name|one|"));
  MUST(is(runs_as("link", (char *[]){NULL}), "link", ""));
  MUST(is(runs_as("link", (char *[]){"", NULL}), "link", ""));
  MUST(is(runs_as("link", (char *[]){"-0", "-strace", "--", NULL}), "link", "-0|-strace|--"));

  snprintf(expected, sizeof expected, "%s|plain|one|", program);
  MUST(is(runs(script("plain", "", program, "\n")), "plain", expected));
  MUST(is(runs(script("plain", " \t ", program, " \t \nmore")), "plain", expected));
  MUST(is(runs(script("plain", "", program, "")), "plain", expected));
  MUST(is(runs_as("plain", (char *[]){NULL}), "plain", (snprintf(text, sizeof text, "%s|plain", program), text)));
  snprintf(expected, sizeof expected, "%s|./plain|one|", program);
  MUST(is(runs("./plain"), "plain", expected));
  snprintf(expected, sizeof expected, "%s|-x  y|argument|one|", program);
  MUST(is(runs(script("argument", " ", program, "\t -x  y \t\n")), "argument", expected));
  MUST(is(runs(script("argument", "", program, " -x  y")), "argument", expected));
  snprintf(expected, sizeof expected, "./link|relative|one|");
  MUST(is(runs(script("relative", "", "./link", "\n")), "relative", expected));

  snprintf(expected, sizeof expected, "%s|-x  y|argument|z|nested|one|", program);
  MUST(is(runs(script("nested", "", "argument", " z\n")), "nested", expected));
  script("1", "", program, "\n"), script("2", "", "./1", "\n"), script("3", "", "./2", "\n"), script("4", "", "./3", "\n");
  script("5", "", "./4", "\n"), script("6", "", "./5", "\n");
  snprintf(expected, sizeof expected, "%s|./1|./2|./3|./4|one|", program);
  MUST(is(runs("./4"), "4", expected));
  MUST(fails(runs("./6"), "ELOOP"));

  memset(text, 'x', 600), text[0] = ' ', text[600] = 0;
  int length = 255 - 2 - strlen(program) - 1;
  snprintf(expected, sizeof expected, "%s|%.*s|long|one|", program, length, text + 1);
  MUST(is(runs(script("long", "", program, text)), "long", expected));
  text[0] = '/';
  MUST(fails(runs(script("cut", "", program, text)), "ENOEXEC"));
  memset(text, ' ', 600);
  MUST(fails(runs(script("blank", "", text, "")), "ENOEXEC"));

  MUST(fails(runs(file("text", "exit 0\n", 0755)), "ENOEXEC"));
  MUST(fails(runs(file("empty", "", 0755)), "ENOEXEC"));
  MUST(fails(runs(file("bare", "#!\n", 0755)), "ENOEXEC"));
  MUST(fails(runs(file("bare", "#! \t \nsh", 0755)), "ENOEXEC"));
  MUST(fails(runs(file("broken", "\177ELF and no more", 0755)), "ENOEXEC"));
  MUST(fails(runs(script("of text", "", "./text", "\n")), "ENOEXEC"));
  MUST(fails(runs(script("missing", "", "./nothing", "\n")), "ENOENT"));
  MUST(fails(runs("nothing"), "ENOENT"));
  MUST(fails(runs("text/nothing"), "ENOTDIR"));
  MUST(fails(runs("."), "EACCES"));
  MUST(fails(runs(file("unexecutable", "#!/bin/sh\n", 0644)), "EACCES"));
  MUST(fails(runs(script("of folder", "", "/tmp", "\n")), "EACCES"));
  MUST(fails(runs(script("of unexecutable", "", "./unexecutable", "\n")), "EACCES"));
  if (fork() == 0) execlp("rm", "rm", "-r", folder, NULL);
  wait(NULL);
  return broken;
}
