/* The C library's mathematics, by all digits: long chains of floating point, and tables. */
#include "check.h"
#include <complex.h>
#include <math.h>

#define ONE(function) printf("%-9s", #function); for (int i = 0; i < COUNT; i++) printf(" %a %a", function(x[i]), (double)function##f((float)x[i])); puts("")
#define TWO(function) printf("%-9s", #function); for (int i = 1; i < COUNT; i++) printf(" %a", function(x[i], x[i - 1])); puts("")

int main(void) {
  volatile double x[] = {0.1, 1, -0.75, 3.14159265358979, 1e-9, 123.456, -40.5, 1e22, 0.999999};
  enum { COUNT = sizeof x / sizeof *x };
  ONE(sin); ONE(cos); ONE(tan); ONE(asin); ONE(atan); ONE(sinh); ONE(tanh); ONE(exp); ONE(exp2); ONE(expm1);
  ONE(log); ONE(log2); ONE(log1p); ONE(cbrt); ONE(erf); ONE(tgamma); ONE(lgamma); ONE(j0); ONE(round); ONE(nearbyint);
  ONE(trunc); ONE(ceil); ONE(logb);
  TWO(pow); TWO(atan2); TWO(hypot); TWO(fmod); TWO(remainder); TWO(nextafter); TWO(copysign); TWO(fdim);
  for (int i = 0; i < COUNT; i++) {
    int exponent;
    double whole, part = modf(x[i], &whole), mantissa = frexp(x[i], &exponent);
    printf("%a %a %a %d %ld %lld\n", part, whole, mantissa, exponent, lround(fmin(x[i], 1e6)), llrint(fmin(x[i], 1e6)));
    double complex z = cexp(x[i] * I) * csqrt(x[i]);
    printf("%a %a\n", creal(z), cimag(z));
    printf("%La\n", expl((long double)fmin(x[i], 100)) / 7);
  }
  return 0;
}
