/* Pointer authentication of arm64: what AT_HWCAP says and what the instructions do agree. It is off, for its price is
 * that of a call of a function, twice in each call; naming an algorithm turns it on. */
#include "must.h"
#include <sys/auxv.h>
#include <sys/wait.h>

#ifdef __aarch64__
static uintptr_t sign(uintptr_t pointer) {
  __asm__("mov x17, %0; mov x16, #42; hint #8; mov %0, x17" : "+r"(pointer) : : "x16", "x17"); /* pacia1716 */
  return pointer;
}
#else
static uintptr_t sign(uintptr_t pointer) { return pointer; }
#endif

int main(int argc, char **argv) {
  int bits = 0, status;
#ifdef __aarch64__
  bits = getauxval(AT_HWCAP) >> 30 & 3; /* PACA, PACG */
#endif
  if (argc > 1) return bits == 3 && sign((uintptr_t)main) != (uintptr_t)main;
  MUST(bits == 0 && sign((uintptr_t)main) == (uintptr_t)main);
#ifdef __aarch64__
  for (int i = 0; i < 2; i++) {
    if (fork() == 0) {
      execle(argv[0], argv[0], "on", NULL, (char *[]){i ? "QEMU_CPU=max,pauth-impdef=on" : "QEMU_CPU=max,pauth=on", NULL});
      _exit(9);
    }
    wait(&status);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 1);
  }
#else
  (void)argv, (void)status;
#endif
  return broken;
}
