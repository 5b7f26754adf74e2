/* Integer arithmetic at its edges: division, shifts, overflow, bits, bytes, 64 bits on any machine, unaligned access. */
#include "check.h"

static const uint64_t edges[] = {0, 1, 2, 7, 31, 32, 63, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
  0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x0123456789abcdef};
enum { EDGES = sizeof edges / sizeof *edges };
static uint64_t hash = 1;

static void mix(uint64_t value) { hash = (hash ^ value) * 0x100000001b3 + (hash >> 29); }

#define WIDTH(u, s, w) \
  __attribute__((noinline)) static void of_##u(u a, u b) { \
    s x = (s)a, y = (s)b, r; \
    u q; \
    mix((u)(a + b)); mix((u)(a - b)); mix((u)(a * b)); mix((u)~(a & b)); mix((u)(a ^ (b | 1))); \
    if (b) { mix((u)(a / b)); mix((u)(a % b)); } \
    if (y && !(y == -1 && a == (u)1 << (w - 1))) { mix((u)(x / y)); mix((u)(x % y)); } \
    mix((u)(a << (b & (w - 1)))); mix((u)(a >> (b & (w - 1)))); mix((u)(x >> (b & (w - 1)))); \
    mix((u)(a << (b & (w - 1)) | a >> (-b & (w - 1)))); \
    mix(__builtin_add_overflow(x, y, &r)); mix((u)r); mix(__builtin_mul_overflow(x, y, &r)); mix((u)r); \
    mix(__builtin_sub_overflow(a, b, &q)); mix(q); mix(__builtin_mul_overflow(a, b, &q)); mix(q); \
    mix((x < y) | (a < b) << 1 | (x <= y) << 2 | (a == b) << 3); \
    mix(__builtin_popcountll(a)); if (a) { mix(__builtin_clzll(a)); mix(__builtin_ctzll(a)); } \
    mix((uint64_t)(int64_t)x); mix((u)(x < y ? x : y)); mix((u)(x < 0 ? -a : a)); \
  }
WIDTH(uint8_t, int8_t, 8)
WIDTH(uint16_t, int16_t, 16)
WIDTH(uint32_t, int32_t, 32)
WIDTH(uint64_t, int64_t, 64)

static void all(uint64_t a, uint64_t b) {
  of_uint8_t(a, b);
  of_uint16_t(a, b);
  of_uint32_t(a, b);
  of_uint64_t(a, b);
  mix(__builtin_bswap16(a) ^ __builtin_bswap32(b) ^ __builtin_bswap64(a));
#ifdef __SIZEOF_INT128__
  unsigned __int128 wide = (unsigned __int128)a << 64 | b, product = wide * (a | 3);
  __int128 negative = -(__int128)product / (int64_t)(b | 1);
  mix(wide / (a | 1)); mix((wide % (b | 5)) >> 1); mix(product >> 64); mix(product >> (b & 127)); mix(negative >> 64); mix(negative);
#endif
}

struct fields { unsigned a : 3; int b : 7; uint64_t c : 41; unsigned d : 1; int e : 12; } __attribute__((packed));

int main(void) {
  for (int i = 0; i < EDGES; i++) {
    for (int j = 0; j < EDGES; j++) all(edges[i], edges[j]);
    printf("%016llx %016llx\n", (unsigned long long)edges[i], (unsigned long long)hash);
  }
  uint64_t state = 7;
  for (int i = 0; i < 20000; i++) all(random_number(&state), random_number(&state) >> (i & 63));
  printf("random: %016llx\n", (unsigned long long)hash);
  volatile struct fields fields = {5, -60, 0x123456789a, 1, -2000};
  fields.b -= 10;
  fields.c <<= 3;
  printf("%u %d %llx %u %d\n", fields.a, fields.b, (unsigned long long)fields.c, fields.d, fields.e);
  unsigned char room[32];
  for (int i = 0; i < 32; i++) room[i] = i * 37;
  for (int i = 0; i < 17; i++) {
    uint64_t d;
    uint32_t w;
    uint16_t h;
    memcpy(&d, room + i, 8);
    memcpy(&w, room + i, 4);
    memcpy(&h, room + i, 2);
    d = d * 3 + w - h;
    memcpy(room + i, &d, 8);
  }
  bytes("unaligned", room, sizeof room);
  return 0;
}
