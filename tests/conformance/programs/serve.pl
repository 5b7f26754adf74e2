#!/usr/bin/perl
# Serves the files of a folder by HTTP on the loopback: serve.pl PORT FOLDER. For packages.sh; it answers what apt asks.
use strict;
use warnings;
use IO::Socket::INET;

my ($port, $folder) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 5, ReuseAddr => 1) or die $!;
while (my $client = $listener->accept) {
  while (defined(my $request = <$client>)) {
    while (my $header = <$client>) { last if $header =~ /^\r?$/ }
    my ($path) = $request =~ m{^GET /(?:\./)?([\w.]+) };
    if (defined $path && open my $file, '<:raw', "$folder/$path") {
      local $/;
      my $content = <$file>;
      print $client "HTTP/1.1 200 OK\r\nContent-Length: ", length $content, "\r\n\r\n", $content;
    } else {
      print $client "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    }
  }
}
