/* Plain work, as programs do it: hashing, sorting, searching, recursion, indirect calls, a small interpreter. */
#include "check.h"

static uint32_t table[256];

static uint32_t crc(const uint8_t *at, size_t size) {
  uint32_t c = ~0u;
  while (size--) c = table[(c ^ *at++) & 255] ^ c >> 8;
  return ~c;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

static unsigned ackermann(unsigned m, unsigned n) { return m == 0 ? n + 1 : ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1)); }

static long increment(long x) { return x + 3; }
static long twice(long x) { return x * 2; }
static long halve(long x) { return x / 3; }
static long (*const steps[])(long) = {increment, twice, halve, increment};

/* A stack machine: sums the squares of 1 to n, by a jump table. */
static long machine(long n) {
  static const char program[] = {0, 1, 2, 3, 4, 5};
  long sum = 0, i = 1, square = 0;
  for (int at = 0;;) switch (program[at]) {
    case 0: square = i; at++; break;
    case 1: square *= square; at++; break;
    case 2: sum += square; at++; break;
    case 3: i++; at++; break;
    case 4: at = i <= n ? 0 : 5; break;
    default: return sum;
  }
}

int main(void) {
  for (uint32_t i = 0; i < 256; i++) {
    table[i] = i;
    for (int k = 0; k < 8; k++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
  }
  enum { COUNT = 50000 };
  uint32_t *numbers = malloc(COUNT * sizeof *numbers);
  uint64_t state = 3;
  for (int i = 0; i < COUNT; i++) numbers[i] = random_number(&state);
  printf("%08x\n", crc((uint8_t *)numbers, COUNT * 4));
  qsort(numbers, COUNT, 4, ascending);
  printf("%08x\n", crc((uint8_t *)numbers, COUNT * 4));
  int found = 0;
  for (int i = 0; i < COUNT; i += 7) found += bsearch(&numbers[i], numbers, COUNT, 4, ascending) == &numbers[i];
  VALUE(found);
  VALUE(ackermann(2, 200));
  long x = 1;
  for (int i = 0; i < 200000; i++) x = steps[(x ^ i) & 3](x) & 0xffffff;
  VALUE(x);
  VALUE(machine(20000));
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  for (int i = 0; i < 2000; i++) fprintf(stream, "%d %x %s %5.2f %c|", i, i * i, i % 15 ? i % 5 ? "-" : "buzz" : "fizzbuzz", i / 7.0, 'a' + i % 26);
  fclose(stream);
  printf("%zu %08x\n", size, crc((uint8_t *)text, size));
  return 0;
}
