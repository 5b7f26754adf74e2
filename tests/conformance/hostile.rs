//! A process that writes anything into the blocks that the processes of a tree share, at any moment.
//!
//! Emulators of `make checked` do all that others do with a block that they find, except run it: they then translate the
//! same. So whatever is written, programs run as if nothing were shared, unless a number from there leads an emulator out of
//! the memory that it has mapped, which has guards on both sides, or out of its own.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::userland::in_userlands;

/// Where the bytes of the cache are that lead to others (`Header`, `BUCKETS_AT` and `Entry` in patch 31).
const USED: u64 = 616;
const BUCKETS: u64 = 4096;
const BUCKET_COUNT: u64 = 32 * 1024;
const LOG: u64 = 256 * 1024;
const UNIT: u64 = 16;
const ENTRY: u64 = 80;

#[test]
#[ignore = "needs emulators of make checked, which run no block that they find"]
fn a_hostile_process_leads_no_emulator_out_of_the_shared_blocks() {
    in_userlands(&["sh".to_owned()], |userland, shell| {
        let over = AtomicBool::new(false);
        let (ran, writes) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut writes = 0;
                while !over.load(Ordering::Relaxed) {
                    let found = userland.tested.shared_blocks((0, 0));
                    match found.and_then(|blocks| File::options().read(true).write(true).open(blocks).ok()) {
                        Some(cache) => writes += Writer { cache, state: 0x2545_f491_4f6c_dd1d }.write_until(&over),
                        None => thread::sleep(Duration::from_millis(1)),
                    }
                }
                writes
            });
            let storm = "i=0; while [ $i -lt 100 ]; do i=$((i+1)); /bin/ls / >/dev/null || exit; done; echo alive";
            let ran = userland.tested.run(&["env", "QEMU_TB_CACHE=1", "QEMU_TB_CACHE_HOSTILE=1", shell, "-c", storm]);
            over.store(true, Ordering::Relaxed);
            (ran, writer.join().expect("a writer that does not panic"))
        });
        if ran.stdout == "alive\n" && ran.stderr.is_empty() && writes > 10_000 {
            return Ok(());
        }
        Err(format!("{}, {writes} writes: {ran:#?}", userland.debian))
    });
}

/// Writes at random: the same series each time.
struct Writer {
    cache: File,
    state: u64,
}

impl Writer {
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number that is likely to be wrong: one, many, or any bits of a field of 1 to 8 bytes.
    fn value(&mut self) -> ([u8; 8], usize) {
        let any = self.next();
        let value = match self.next() % 4 {
            0 => any,
            1 => u64::MAX << (any % 64),
            2 => 1 << (any % 64),
            _ => any % 256,
        };
        (value.to_le_bytes(), 1 << (self.next() % 4))
    }

    fn write_until(mut self, over: &AtomicBool) -> usize {
        let mut writes = 0;
        while !over.load(Ordering::Relaxed) {
            let bucket = BUCKETS + self.next() % BUCKET_COUNT * 4;
            let (value, size) = self.value();
            match self.next() % 64 {
                0 => self.put(&value[..4], bucket),
                1 => self.put(&value, USED),
                // or soon nothing would be stored any more
                2 => self.put(&LOG.to_le_bytes(), USED),
                _ => {
                    let mut first = [0; 4];
                    let found = self.cache.read_exact_at(&mut first, bucket).is_ok() && first != [0; 4];
                    let field = self.next() % ENTRY;
                    if !found {
                        continue;
                    }
                    self.put(&value[..size], u64::from(u32::from_le_bytes(first)) * UNIT + field);
                }
            }
            writes += 1;
        }
        writes
    }

    /// Beyond the end nothing can be written: the size is sealed.
    fn put(&self, bytes: &[u8], at: u64) {
        let _ = self.cache.write_all_at(bytes, at);
    }
}
