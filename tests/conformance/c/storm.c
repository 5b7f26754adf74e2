/* Many processes at once, from several threads: each must come back with what it was given. */
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>

enum { THREADS = 4, EACH = 12 };

static void *storm(void *number) {
  long me = (long)number, sum = 0;
  for (int i = 0; i < EACH; i++) {
    int ends[2], status;
    if (pipe2(ends, 02000000) != 0) return (void *)-1L;
    pid_t pid = fork();
    if (pid == 0) {
      char word[16];
      snprintf(word, sizeof word, "%ld", me * 100 + i);
      dup2(ends[1], 1);
      if (i % 3 == 0) execl("/bin/echo", "echo", word, NULL);
      if (i % 3 == 1) execl("/bin/sh", "sh", "-c", "echo $0", word, NULL);
      dprintf(1, "%s\n", word);
      _exit(0);
    }
    close(ends[1]);
    char text[16] = "";
    ssize_t size = 0, got;
    while ((got = read(ends[0], text + size, sizeof text - 1 - size)) > 0) size += got;
    close(ends[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0) return (void *)-2L;
    sum += atol(text);
  }
  return (void *)sum;
}

int main(void) {
  pthread_t threads[THREADS];
  void *sum;
  for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, storm, (void *)i);
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], &sum);
    VALUE((long)sum);
  }
  for (int i = 0; i < 100; i++) if (fork() == 0) _exit(i);
  int status, count = 0, total = 0;
  while (wait(&status) > 0) count++, total += WEXITSTATUS(status);
  VALUE(count);
  VALUE(total);
  /* a chain of exec: each shell becomes the next */
  VALUE(system("n=0; while [ $n -lt 20 ]; do n=$((n + 1)); sh -c 'exec sh -c \"exec true\"' || exit 1; done; echo $n"));
  return 0;
}
