# Word counts by regular expression, and a substitution over the whole text.
use strict;
use warnings;

my (%count, %follows, $last);
open my $file, '<', $ARGV[0] or die "$ARGV[0]: $!\n";
my $text = do { local $/; <$file> };
for my $word (map { lc } $text =~ /(\b[a-z]+\b)/gi) {
    $count{$word}++;
    $follows{"$last $word"}++ if defined $last;
    $last = $word;
}
my $vowels = (my $consonants = $text) =~ s/[aeiou]+//g;
my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%s %d\n", $_, $count{$_} for @sorted[0 .. 9];
printf "%d words, %d pairs, %d vowels, %d left\n",
    scalar @sorted, scalar keys %follows, $vowels, length $consonants;
