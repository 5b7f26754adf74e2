#!/usr/bin/perl
# Perl: regular expressions, sorting, packing, big numbers, closures, fork, pipes, signals, sockets.
use strict;
use warnings;
use POSIX qw(floor fmod strftime WNOHANG :sys_wait_h);
use Socket;
use Data::Dumper;
use List::Util qw(sum reduce);
use Digest::SHA qw(sha256_hex);
use Time::HiRes qw(usleep);
$| = 1;
$Data::Dumper::Sortkeys = $Data::Dumper::Indent = 1;

my %count;
my $text = join ' ', map { sprintf '%s%d', chr(97 + $_ % 26), $_ ** 2 % 1009 } 1 .. 5000;
$count{$1}++ while $text =~ /\b([a-f])\d+/g;
print "$_ $count{$_}\n" for sort keys %count;
(my $swapped = $text) =~ s/(\w)(\d+)(?=\s\w1)/$2$1/g;
print sha256_hex($swapped), "\n";
print join(',', (sort { $a <=> $b } map { $_ * 7919 % 1000 } 1 .. 1000)[0 .. 9]), "\n";
print unpack('H*', pack('nNvVqQdfw A5 Z5 b8', 1, 2, 3, 4, -5, 6, 1.5, -2.25, 300, 'ab', 'cd', '10101')), "\n";
print join(' ', unpack '(A2)*', '0123456789'), "\n";
printf "%.15g %e %x %b %s\n", 2 ** 0.5, exp(1) ** 20, 0xdeadbeef, 10, 1e15 + 0.3;
print 9007199254740993, ' ', 18446744073709551615, ' ', 2 ** 70, ' ', -7 % 3, ' ', int(-3.7), "\n";
print Dumper({ list => [ 1, 'two', undef ], code => { a => 1.5 } });
my @closures = map { my $n = $_; sub { $n++ * shift } } 1 .. 3;
print join(' ', map { $_->(10), $_->(10) } @closures), "\n";
print reduce { "$a$b" } 'a' .. 'j';
print "\n", sum(1 .. 1000), "\n";
eval { die { code => 42 } };
print "died with $@->{code}\n";
print "recursion ", fib(18), "\n";
sub fib { my $n = shift; $n < 2 ? $n : fib($n - 1) + fib($n - 2) }

for my $i (1 .. 15) { my $pid = fork; if (!$pid) { exit $i } }
my $total = 0;
while ((my $pid = wait) > 0) { $total += $? >> 8 }
print "children $total\n";
open my $pipe, '|-', 'sort -r | tr a-z A-Z' or die;
print $pipe "$_\n" for qw(x z y);
close $pipe;
print "status $?\n", `echo backticks; exit 3`, $? >> 8, "\n";
my $got = '';
local $SIG{ALRM} = sub { $got .= 'alarm ' };
local $SIG{USR1} = sub { $got .= 'usr1 ' };
kill USR1 => $$;
alarm 1;
select undef, undef, undef, 5;
print "$got\n";
socketpair(my $one, my $other, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die;
if (!fork) { close $one; my $line = <$other>; print $other scalar reverse $line; exit }
close $other;
syswrite $one, "over a socket\n";
print <$one>, "\n";
wait;
print strftime('%Y-%m-%d %H:%M:%S', gmtime 1e9), ' ', floor(-2.5), ' ', fmod(7, 3), "\n";
opendir my $dir, '/etc' or die;
my @names = sort grep { /^pa/ } readdir $dir;
print "@names\n";
my @stat = stat '/etc/passwd';
printf "%o %d\n", $stat[2], $stat[4];
local $/;
open my $self, '<', $0 or die;
print sha256_hex(<$self>), " $0\n";
my $utf8 = "gr\x{fc}\x{df}e \x{4e16}\x{754c}";
binmode STDOUT, ':utf8';
print uc $utf8, ' ', length $utf8, "\n";
system 'kill -9 $$';
print $? & 127, "\n";
