/* What the programs of this folder share: how they print, so that two runs of one program print the same.
 *
 * Nothing is buffered, since many of them fork. What differs from run to run, such as pids, addresses and times, is
 * never printed; whether it is as it should be, is. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void print_at_once(void) { setvbuf(stdout, NULL, _IONBF, 0); }

/* The value of an expression that is true or not, an integer, or a system call. */
#define IS(expression) printf("%s: %s\n", #expression, (expression) ? "yes" : "NO")
#define VALUE(expression) printf("%s = %lld\n", #expression, (long long)(expression))
#define CALL(expression) called(#expression, (long)(expression))

__attribute__((unused)) static void called(const char *what, long result) {
  int error = errno;
  if (result == -1) printf("%s: %s\n", what, strerrorname_np(error));
  else printf("%s = %ld\n", what, result);
}

__attribute__((unused)) static void bytes(const char *what, const void *at, size_t size) {
  printf("%s =", what);
  for (size_t i = 0; i < size; i++) printf(" %02x", ((const unsigned char *)at)[i]);
  puts("");
}

/* Values that no compiler foresees, and the same in every run. */
__attribute__((unused)) static uint64_t random_number(uint64_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state * 0x2545f4914f6cdd1dULL;
}
