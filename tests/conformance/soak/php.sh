#!/bin/sh
# PHP, with and without its compiler: the same results.
set -eu
cd "$(mktemp -d)"
cat >soak.php <<'END'
<?php
function fib(int $n): int { return $n < 2 ? $n : fib($n - 1) + fib($n - 2); }
function sieve(int $n): int {
    $composite = array_fill(0, $n + 1, false);
    for ($i = 2; $i * $i <= $n; $i++) {
        if (!$composite[$i]) { for ($j = $i * $i; $j <= $n; $j += $i) { $composite[$j] = true; } }
    }
    return count(array_filter($composite, fn($c) => !$c)) - 2;
}
$sum = 0.0;
for ($i = 1; $i <= 2000000; $i++) { $sum += 1.0 / ($i * $i); }
preg_match_all('/(\d+)[a-f]+(?=x)/', str_repeat('12abx 345fx y9ax ', 5000), $found);
usort($found[1], fn($a, $b) => strcmp($b, $a));
echo fib(25), ' ', sieve(200000), ' ', round($sum, 9), ' ', count($found[1]), ' ', $found[1][0], ' ';
echo hash('sha256', serialize(array_map(fn($n) => $n ** 3 % 1009, range(1, 50000)))), "\n";
END
php=$(command -v php || echo /usr/bin/php[0-9].[0-9])
$php -d opcache.enable_cli=0 soak.php >interpreted
for jit in function tracing; do
  $php -d opcache.enable_cli=1 -d opcache.jit=$jit -d opcache.jit_buffer_size=32M soak.php >compiled
  cmp interpreted compiled
done
grep -q '^75025 17984 1.644933567 15000 9 ' interpreted || { cat interpreted; exit 1; }
