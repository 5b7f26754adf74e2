/* Clocks and timers: that time passes as it should, and what the calls refuse. */
#include "check.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <time.h>

static long long now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static volatile int ticks, told;

static void tick(int number, siginfo_t *info, void *context) {
  (void)context;
  if (number == SIGRTMIN && info->si_code == SI_TIMER && info->si_value.sival_int == 99) told = 1;
  ticks++;
}

static void notify(union sigval value) { __atomic_add_fetch((int *)value.sival_ptr, 1, __ATOMIC_SEQ_CST); }

int main(void) {
  struct timespec short_time = {0, 20000000}, resolution;
  long long before = now(CLOCK_MONOTONIC);
  CALL(nanosleep(&short_time, NULL));
  IS(now(CLOCK_MONOTONIC) - before >= 20000000);
  before = now(CLOCK_MONOTONIC);
  long long until = before + 20000000;
  CALL(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){until / 1000000000, until % 1000000000}, NULL));
  IS(now(CLOCK_MONOTONIC) >= until);
  IS(now(CLOCK_REALTIME) / 1000000000 - time(NULL) <= 1);
  IS(now(CLOCK_REALTIME) > 1500000000000000000LL);
  struct timeval day;
  CALL(gettimeofday(&day, NULL));
  IS(llabs(now(CLOCK_REALTIME) / 1000 - (day.tv_sec * 1000000LL + day.tv_usec)) < 10000000);
  for (int clock = 0; clock < 12; clock++) CALL(clock_getres(clock, &resolution));
  volatile double work = 0;
  long long used = now(CLOCK_PROCESS_CPUTIME_ID);
  for (int i = 0; i < 300000; i++) work += i;
  IS(now(CLOCK_PROCESS_CPUTIME_ID) > used && now(CLOCK_THREAD_CPUTIME_ID) > 0);
  CALL(nanosleep(&(struct timespec){0, 1000000000}, NULL));
  CALL(clock_gettime(77, &resolution));

  struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO};
  sigaction(SIGRTMIN, &action, NULL);
  sigaction(SIGALRM, &action, NULL);
  timer_t timer;
  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 99};
  CALL(timer_create(CLOCK_MONOTONIC, &event, &timer));
  struct itimerspec often = {{0, 50000000}, {0, 50000000}}, left;
  CALL(timer_settime(timer, 0, &often, NULL));
  while (ticks < 3) usleep(1000);
  CALL(timer_gettime(timer, &left));
  VALUE(left.it_interval.tv_nsec);
  IS(timer_getoverrun(timer) >= 0);
  CALL(timer_delete(timer));
  VALUE(told);
  int calls = 0;
  event = (struct sigevent){.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notify, .sigev_value.sival_ptr = &calls};
  CALL(timer_create(CLOCK_REALTIME, &event, &timer));
  CALL(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, NULL));
  /* QEMU loses the value on mips64el, and nobody is told. */
  for (int wait = 0; wait < 10000 && __atomic_load_n(&calls, __ATOMIC_SEQ_CST) == 0; wait++) usleep(1000);
  VALUE(calls);
  int file = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
  uint64_t expired = 0;
  CALL(timerfd_settime(file, 0, &often, NULL));
  CALL(read(file, &expired, 8));
  IS(expired >= 1);
  ticks = 0;
  CALL(setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 5000}}, NULL));
  while (ticks == 0) usleep(1000);
  VALUE(ticks);
  struct rusage usage;
  CALL(getrusage(RUSAGE_SELF, &usage));
  IS(usage.ru_utime.tv_sec < 60 && usage.ru_maxrss > 0);
  struct tms tms;
  IS(times(&tms) != -1);
  VALUE(sysconf(_SC_CLK_TCK));
  struct tm *date = gmtime(&(time_t){951782400});
  printf("%04d-%02d-%02d %d\n", date->tm_year + 1900, date->tm_mon + 1, date->tm_mday, date->tm_yday);
  return 0;
}
