#!/bin/sh
# What the emulators are trained on: the work of an emulated image build, in small. Runs in a Debian of the target.
#
# Most of it is starts of programs, since that is what such a build consists of, and most of a start is translation of
# code that runs once. Programs that run for longer are here for the paths that only they reach: chained blocks, floating
# point, signals, threads.
set -eu
cd /tmp

cat >hello.c <<'END'
#include <stdio.h>
int main(void) { puts("hello"); return 0; }
END
cat >work.c <<'END'
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
static jmp_buf back;
static void handler(int signal) { longjmp(back, signal); }
static void *thread(void *sum) {
  for (int i = 1; i < 30000; i++) *(double *)sum += sqrt(i) / i;
  return sum;
}
int main(void) {
  pthread_t threads[3];
  double sums[3] = {0};
  char text[4096];
  for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, thread, &sums[i]);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
  signal(SIGUSR1, handler);
  if (!setjmp(back)) raise(SIGUSR1);
  for (int i = 0; i < 2000; i++) memset(text, 'a' + i % 26, sizeof text - 1), text[sizeof text - 1] = 0;
  printf("%.3f %zu\n", sums[0] + sums[1] + sums[2], strlen(text));
  return 0;
}
END
gcc -O2 -c work.c
gcc work.o -o work -lpthread -lm
gcc -O2 -static hello.c -o hello-static
gcc -O2 hello.c -o hello
./work

for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
  true; /bin/true; ./hello; ./hello-static; ls /usr/bin; cat /etc/passwd
done >/dev/null
find /etc -name '*.conf' | sed 's/etc/ETC/' | sort | uniq -c | awk '{ n += $1 } END { print n }' >/dev/null
grep -rl root /etc >/dev/null 2>&1 || :
mkdir -p a/b/c && touch a/b/c/d && cp -r a e && tar -cf a.tar a e && rm -r a e
dpkg --print-architecture >/dev/null
dpkg-query --list >/dev/null
apt-config dump >/dev/null
perl -e 'my %h; $h{$_ % 97} .= chr(65 + $_ % 26) for 1 .. 20000;
  my $n = () = join("", values %h) =~ /[AEIOU]+/g; print "$n\n"' >/dev/null
python3 -c 'print(len(",".join(sorted(str(n * n) for n in range(30000)))))' >/dev/null
head -c 400000 /usr/bin/perl | gzip -6 | gzip -d | sha256sum >/dev/null
