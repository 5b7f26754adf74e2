/* Threads: mutexes, condition variables, thread-local storage, barriers, once, read-write locks, cancellation. */
#include "check.h"
#include <pthread.h>

enum { THREADS = 6, ROUNDS = 2000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turned = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_key_t key;
static __thread long own = 7;
static long counter, turn, starts, ended, serial, at_barrier;

static void start(void) { starts++; }

static void end(void *value) { __atomic_add_fetch(&ended, (long)value, __ATOMIC_SEQ_CST); }

static void *work(void *number) {
  long me = (long)number, wrong = 0;
  pthread_once(&once, start);
  pthread_setspecific(key, (void *)(me + 1));
  for (int i = 0; i < ROUNDS; i++) {
    own += me;
    pthread_mutex_lock(&mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
    if (i % 100 == 0) {
      pthread_rwlock_rdlock(&shared);
      long seen = serial;
      pthread_rwlock_unlock(&shared);
      pthread_rwlock_wrlock(&shared);
      if (serial < seen) wrong++;
      serial++;
      pthread_rwlock_unlock(&shared);
    }
  }
  if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) at_barrier += counter;
  for (int i = 0; i < 50; i++) { /* they take turns */
    pthread_mutex_lock(&mutex);
    while (turn % THREADS != me) pthread_cond_wait(&turned, &mutex);
    turn++;
    pthread_cond_broadcast(&turned);
    pthread_mutex_unlock(&mutex);
  }
  return (void *)(wrong ? -1 : own);
}

static void *sleep_on(void *nothing) {
  for (;;) pause();
  return nothing;
}

int main(void) {
  pthread_t threads[THREADS], sleeper;
  void *result;
  pthread_barrier_init(&barrier, NULL, THREADS);
  pthread_key_create(&key, end);
  for (long i = 0; i < THREADS; i++) VALUE(pthread_create(&threads[i], NULL, work, (void *)i));
  for (long i = 0; i < THREADS; i++) {
    pthread_join(threads[i], &result);
    VALUE((long)result);
  }
  VALUE(at_barrier);
  VALUE(starts);
  VALUE(turn);
  VALUE(serial);
  VALUE(ended);
  VALUE(own);
  pthread_create(&sleeper, NULL, sleep_on, NULL);
  VALUE(pthread_cancel(sleeper));
  pthread_join(sleeper, &result);
  IS(result == PTHREAD_CANCELED);
  struct timespec past = {1, 0};
  pthread_mutex_lock(&mutex);
  IS(pthread_cond_timedwait(&turned, &mutex, &past) == ETIMEDOUT);
  IS(pthread_mutex_trylock(&mutex) == EBUSY);
  return 0;
}
