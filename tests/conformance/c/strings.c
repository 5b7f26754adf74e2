/* String functions up to the last byte before a page that is not there: none reads or writes beyond. */
#include "check.h"
#include <sys/mman.h>
#include <wchar.h>

static char *room(long page) { /* a page between two that fault */
  char *at = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(at + page, page, PROT_READ | PROT_WRITE);
  return at + page;
}

int main(void) {
  long page = sysconf(_SC_PAGESIZE);
  char *one = room(page), *other = room(page);
  uint64_t hash = 1;
#define MIX(value) hash = (hash ^ (uint64_t)(value)) * 0x100000001b3
  for (int length = 0; length < 140; length++) {
    for (int back = 0; back < 18; back++) { /* how far from the end, which makes every alignment */
      char *s = one + page - length - 1 - back, *t = other + page - length - 1 - back / 2;
      memset(s, 'a' + length % 20, length + 1 + back);
      s[length] = 0;
      memset(t, 'x', length + 1);
      MIX(strlen(s));
      MIX(strnlen(s, length + 1));
      MIX(memchr(s, 0, length + 1) == s + length);
      MIX(strchr(s, 'z') == NULL);
      MIX(strrchr(s, 0) == s + length);
      MIX(stpcpy(t, s) - t);
      MIX(strcmp(s, t));
      MIX(strncmp(s, t, length + 5));
      MIX(memcmp(s, t, length + 1));
      if (length) {
        t[length - 1]++;
        MIX(strcmp(s, t) < 0);
        MIX(memcmp(t, s, length) > 0);
        MIX(strcasecmp(s, t) < 0);
        memmove(t, t + 1, length);
        memmove(t + 1, t, length);
        MIX(strspn(s, "abcdefghijklmnopqrstu"));
      }
      memcpy(t, s, length + 1);
      MIX(strstr(s, s + length / 2) == s || length < 2);
      for (int i = 0; i <= length; i++) MIX(t[i]);
    }
  }
  printf("%016llx\n", (unsigned long long)hash);
  /* from the start of the room */
  for (int length = 1; length < 70; length++) {
    memset(one, 'q', length);
    one[length] = 0;
    MIX(strrchr(one, 'z') == NULL);
    MIX(memrchr(one, 'z', length) == NULL);
    memmove(one + 1, one, length);
    memcpy(other, one, length);
    MIX(strlen(one));
  }
  printf("%016llx\n", (unsigned long long)hash);
  wchar_t *wide = (wchar_t *)(one + page) - 30;
  wmemset(wide, L'w', 29);
  wide[29] = 0;
  VALUE(wcslen(wide));
  VALUE(wcschr(wide, L'x') == NULL);
  memset(one, 1, page);
  memset(other, 2, page);
  memcpy(one + 3, other + 5, page - 8);
  for (long i = 0; i < page; i++) MIX(one[i]);
  printf("%016llx\n", (unsigned long long)hash);
  return 0;
}
