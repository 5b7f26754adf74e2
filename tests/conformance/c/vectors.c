/* Vector arithmetic, which compilers make of loops: all widths, shuffles, comparisons, reductions, conversions. */
#include "check.h"
#include <math.h>

enum { N = 257 };
static uint8_t u8[3][N];
static int16_t s16[3][N];
static uint32_t u32[3][N];
static int64_t s64[3][N];
static float f32[3][N];
static double f64[3][N];
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));

static uint64_t hash = 1;
static void mix(const void *at, size_t size) { for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)at)[i]) * 0x100000001b3; }
#define LOOP(array, expression) do { for (int i = 0; i < N; i++) array[2][i] = expression; mix(array[2], sizeof array[2]); printf("%s: %016llx\n", #expression, (unsigned long long)hash); } while (0)

__attribute__((optimize("O3"))) int main(void) {
  uint64_t state = 99;
  for (int k = 0; k < 2; k++) for (int i = 0; i < N; i++) {
    uint64_t r = random_number(&state);
    u8[k][i] = r; s16[k][i] = r >> 8; u32[k][i] = r >> 16; s64[k][i] = r;
    f32[k][i] = (float)(int32_t)r / 65536; f64[k][i] = (double)(int64_t)r / 1e9;
  }
  LOOP(u8, u8[0][i] + u8[1][i]);
  LOOP(u8, u8[0][i] + u8[1][i] > 255 ? 255 : u8[0][i] + u8[1][i]);
  LOOP(u8, (u8[0][i] + u8[1][i] + 1) >> 1);
  LOOP(u8, u8[0][i] > u8[1][i] ? u8[0][i] : u8[1][i]);
  LOOP(s16, s16[0][i] * s16[1][i] >> 15);
  LOOP(s16, s16[0][i] < 0 ? -s16[0][i] : s16[0][i]);
  LOOP(s16, s16[0][i] << (s16[1][i] & 7));
  LOOP(u32, u32[0][i] * u32[1][i]);
  LOOP(u32, (uint64_t)u32[0][i] * u32[1][i] >> 32);
  LOOP(u32, u32[0][i] >> 5 | u32[0][i] << 27);
  LOOP(u32, __builtin_popcount(u32[0][i]));
  LOOP(u32, __builtin_bswap32(u32[0][i]));
  LOOP(s64, s64[0][i] - s64[1][i]);
  LOOP(s64, s64[0][i] > s64[1][i] ? s64[0][i] : ~s64[1][i]);
  LOOP(s64, s64[0][i] >> 7);
  LOOP(f32, f32[0][i] * f32[1][i] + f32[0][i]);
  LOOP(f32, f32[0][i] / f32[1][i]);
  LOOP(f32, sqrtf(fabsf(f32[0][i])));
  LOOP(f32, u32[0][i]);
  LOOP(f64, f64[0][i] * f64[1][i] - f64[1][i]);
  LOOP(f64, f32[0][i]);
  LOOP(f64, f64[0][i] < f64[1][i] ? f64[0][i] : floor(f64[1][i]));
  LOOP(s64, (int64_t)f64[0][i]);
  uint32_t sum = 0;
  uint64_t dot = 0;
  for (int i = 0; i < N; i++) sum += u8[0][i], dot += (uint64_t)u32[0][i] * u32[1][i];
  printf("%u %llu\n", sum, (unsigned long long)dot);
  u32x4 a, b;
  f32x4 x;
  u8x16 c, order;
  memcpy(&a, u32[0], 16); memcpy(&b, u32[1], 16); memcpy(&x, f32[0], 16); memcpy(&c, u8[0], 16); memcpy(&order, u8[1], 16);
  u32x4 results[] = {a + b, a * b, a ^ ~b, a >> 3, a << (b & 31), (u32x4)(a > b), __builtin_shuffle(a, b, (u32x4){7, 0, 5, 2}), __builtin_convertvector(x, u32x4)};
  u8x16 shuffled = __builtin_shuffle(c, order & 15);
  f32x4 floats[] = {x * x, x - 1.5f, (f32x4)(x < 0)};
  bytes("words", results, 7 * 16);
  bytes("bytes", &shuffled, 16);
  bytes("floats", floats, sizeof floats);
  return 0;
}
