/* Atomics of every width that the processor has, from several threads at once, and their neighbours in memory. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 4, ROUNDS = 5000 };
#define WIDTH(type) \
  static struct { type before, added, xored, swapped, compared, after; } of_##type; \
  static void work_##type(type me) { \
    for (int i = 0; i < ROUNDS; i++) { \
      __atomic_fetch_add(&of_##type.added, (type)3, __ATOMIC_SEQ_CST); \
      __atomic_fetch_xor(&of_##type.xored, (type)(me * 0x1234567 + i), __ATOMIC_RELAXED); \
      of_##type.swapped = 0 * __atomic_exchange_n(&of_##type.swapped, me, __ATOMIC_ACQ_REL); \
      type seen = __atomic_load_n(&of_##type.compared, __ATOMIC_ACQUIRE); \
      while (!__atomic_compare_exchange_n(&of_##type.compared, &seen, (type)(seen + me), i & 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)); \
    } \
  } \
  static void print_##type(void) { bytes(#type, &of_##type, sizeof of_##type); }

WIDTH(uint8_t)
WIDTH(uint16_t)
WIDTH(uint32_t)
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
WIDTH(uint64_t)
#endif

static void *work(void *me) {
  work_uint8_t((long)me);
  work_uint16_t((long)me);
  work_uint32_t((long)me);
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
  work_uint64_t((long)me);
#endif
  return NULL;
}

int main(void) {
  pthread_t threads[THREADS];
  for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  of_uint8_t.swapped = of_uint16_t.swapped = of_uint32_t.swapped = 0;
  print_uint8_t();
  print_uint16_t();
  print_uint32_t();
#if __GCC_ATOMIC_LLONG_LOCK_FREE == 2
  of_uint64_t.swapped = 0;
  print_uint64_t();
#endif
/* in a library of their own, for s390x */
#if defined __SIZEOF_INT128__ && defined __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16 && !defined __s390x__
  unsigned __int128 wide = 1;
  for (int i = 0; i < 100; i++) {
    unsigned __int128 seen = wide;
    IS(__sync_bool_compare_and_swap(&wide, seen, seen * 3) || i < 0);
  }
  bytes("wide", &wide, sizeof wide);
#endif
  return 0;
}
