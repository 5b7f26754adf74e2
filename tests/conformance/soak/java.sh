#!/bin/sh
# Java: its compiler; threads, streams, garbage collection by G1, exceptions and virtual threads, interpreted and compiled.
set -eu
cd "$(mktemp -d)"
cat >Soak.java <<'END'
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.*;

public class Soak {
    record Point(int x, int y) {}

    static int deep(int n) { return n == 0 ? 0 : 1 + deep(n - 1); }

    public static void main(String[] words) throws Exception {
        long sum = IntStream.rangeClosed(1, 1_000_000).parallel().mapToLong(i -> (long) i * i % 1009).sum();
        // garbage of 1 GB, within 64 MB
        Map<Integer, byte[]> kept = new HashMap<>();
        for (int i = 0; i < 20_000; i++) kept.put(i % 500, new byte[50_000]);
        var counter = new LongAdder();
        try (var pool = Executors.newVirtualThreadPerTaskExecutor()) {
            for (int i = 0; i < 2000; i++) pool.submit(() -> { Thread.sleep(1); counter.increment(); return 0; });
        }
        int overflows = 0, nulls = 0;
        try { deep(10_000_000); } catch (StackOverflowError e) { overflows++; }
        for (int i = 0; i < 10_000; i++) {
            try { ((Object) (i % 2 == 0 ? null : "x")).hashCode(); } catch (NullPointerException e) { nulls++; }
        }
        var points = IntStream.range(0, 100_000).mapToObj(i -> new Point(i % 300, i % 700)).collect(Collectors.toSet());
        var sorted = new ArrayList<>(points);
        sorted.sort(Comparator.comparingInt(Point::y).thenComparing(Point::x));
        System.out.println(sum + " " + kept.size() + " " + counter + " " + overflows + " " + nulls + " " + sorted.size()
            + " " + sorted.get(1234));
    }
}
END
set -- /usr/lib/jvm/java-*-openjdk-*/bin
java=$1
"$java/javac" Soak.java
for mode in -Xint -XX:+UseG1GC -XX:+UseSerialGC; do
  "$java/java" -Xmx64m "$mode" Soak >result
  [ "$(cat result)" = '503993312 500 2000 1 5000 2100 Point[x=111, y=411]' ] || { echo "$mode"; cat result; exit 1; }
done
