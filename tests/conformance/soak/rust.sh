#!/bin/sh
# Rust: a crate with threads, channels and tests is built by cargo, optimized, and run.
set -eu
cd "$(mktemp -d)"
export HOME="$PWD" CARGO_HOME="$PWD/cargo" RUSTFLAGS="-C linker=gcc"
cargo new --quiet --vcs none --name soak soak
cd soak
cat >src/main.rs <<'END'
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

fn collatz(mut n: u64) -> u64 {
    let mut steps = 0;
    while n != 1 {
        n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
        steps += 1;
    }
    steps
}

fn main() {
    let (sender, receiver) = mpsc::channel();
    let total = Arc::new(AtomicU64::new(0));
    let longest = Arc::new(Mutex::new(BTreeMap::new()));
    let threads: Vec<_> = (0..8)
        .map(|part| {
            let (sender, total, longest) = (sender.clone(), Arc::clone(&total), Arc::clone(&longest));
            thread::spawn(move || {
                for n in (1..100_000_u64).filter(|n| n % 8 == part) {
                    let steps = collatz(n);
                    total.fetch_add(steps, Ordering::Relaxed);
                    if steps > 300 {
                        longest.lock().unwrap().insert(n, steps);
                    }
                    if n % 1000 == 0 {
                        sender.send(n).unwrap();
                    }
                }
            })
        })
        .collect();
    drop(sender);
    let sent: u64 = receiver.iter().sum();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let words: HashMap<String, usize> = (0..100_000).map(|n| (format!("{:x}", n % 4096), n)).collect();
    println!("{} {} {} {}", total.load(Ordering::Relaxed), longest.lock().unwrap().len(), sent, words.len());
    assert!(std::panic::catch_unwind(|| { let none: Option<u8> = None; none.unwrap() }).is_err());
}

#[test]
fn counts() {
    assert_eq!(collatz(27), 111);
}
END
cargo test --quiet --offline >/dev/null
cargo run --quiet --offline --release 2>/dev/null >result
cat result
[ "$(cat result)" = '10753712 71 4950000 4096' ]
