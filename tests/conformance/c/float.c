/* Floating point, every operand volatile lest the compiler does it: rounding modes, exceptions, NaN payloads, denormals, conversions, by their bits. */
#include "check.h"
#include <fenv.h>
#include <math.h>

static int flags(void) {
  int raised = 0;
  if (fetestexcept(FE_INEXACT)) raised |= 1;
  if (fetestexcept(FE_UNDERFLOW)) raised |= 2;
  if (fetestexcept(FE_OVERFLOW)) raised |= 4;
  if (fetestexcept(FE_DIVBYZERO)) raised |= 8;
  if (fetestexcept(FE_INVALID)) raised |= 16;
  feclearexcept(FE_ALL_EXCEPT);
  return raised;
}

static uint64_t bits(double x) { uint64_t b; memcpy(&b, &x, 8); return b; }
static uint32_t bits32(float x) { uint32_t b; memcpy(&b, &x, 4); return b; }
static double number(uint64_t b) { double x; memcpy(&x, &b, 8); return x; }

/* Infinities, NaNs quiet and signalling with payloads, zeros, denormals, extremes, and plain numbers. */
static const uint64_t special[] = {
  0, 1ULL << 63, 1, 0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x7ff0000000000000, 0xfff0000000000000,
  0x7ff8000000000123, 0xfff8000000000456, 0x7ff0000000000789, 0x3ff0000000000000, 0xbff8000000000000, 0x3fd5555555555555,
  0x41dfffffffc00000, 0x43e0000000000000, 0x3690000000000000, 0x47f0000000000000, 0x380fffffffffffff,
};
enum { SPECIAL = sizeof special / sizeof *special };

#define OPERATION(expression) \
  do { \
    double r = (expression); \
    int raised = flags(); \
    hash = (hash ^ bits(r) ^ (uint64_t)raised << 40) * 0x100000001b3; \
    if (mode == 0) printf(" %016llx/%x", (unsigned long long)bits(r), raised); \
  } while (0)

int main(void) {
  static const int modes[] = {
    FE_TONEAREST,
#ifdef FE_UPWARD
    FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO,
#endif
  };
  for (unsigned mode = 0; mode < sizeof modes / sizeof *modes; mode++) {
    VALUE(fesetround(modes[mode]));
    flags();
    uint64_t hash = 14695981039346656037ULL;
    for (int i = 0; i < SPECIAL; i++) {
      for (int j = 0; j < SPECIAL; j++) {
        volatile double a = number(special[i]), b = number(special[j]);
        volatile float f = (float)a, g = (float)b;
        flags();
        OPERATION(a + b);
        OPERATION(a * b);
        OPERATION(a / b);
        OPERATION(fma(a, b, 1.0));
        OPERATION(a < b);
        OPERATION(a == b);
        OPERATION(fmax(a, b));
        float h = f / g;
        hash = (hash ^ bits32(h) ^ (uint64_t)flags() << 40) * 0x100000001b3;
      }
      volatile double a = number(special[i]);
      OPERATION(sqrt(a));
      OPERATION((float)a);
      OPERATION(rint(a));
      OPERATION(floor(a));
      OPERATION((double)(int32_t)a);
      OPERATION((double)(int64_t)a);
      OPERATION((double)(uint32_t)a);
      OPERATION((double)(uint64_t)a);
      if (mode == 0) puts("");
    }
    uint64_t state = 42;
    for (int i = 0; i < 5000; i++) {
      volatile double a = number(random_number(&state)), b = number(random_number(&state));
      volatile float f = (float)a;
      flags();
      double r = a * b + a / b - sqrt(fabs(a));
      hash = (hash ^ bits(r) ^ bits32(f * f + f) ^ (uint64_t)flags() << 40) * 0x100000001b3;
      r = (double)(int64_t)random_number(&state) + (double)random_number(&state) + (float)random_number(&state);
      hash = (hash ^ bits(r)) * 0x100000001b3;
    }
    printf("mode %u: %016llx\n", mode, (unsigned long long)hash);
  }
  fesetround(FE_TONEAREST);
  volatile long double wide = 1;
  wide = wide / 3 + sqrtl(2) * 1e300L;
  printf("%La %La\n", wide, fmal(wide, wide, -wide));
  volatile double tiny = 4.9e-324;
  printf("%a %a %g %.17g %.3f\n", tiny, tiny * 3, 1e308 * 10, 0.1, 2.5);
  return 0;
}
