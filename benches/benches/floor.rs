//! What nobody can be faster than on this machine, for ARCHITECTURE.md's table of nanoseconds:
//! `cargo bench -p ringkv-benches --bench floor`. The store's own figures stand beside these in the other benches.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Key and value of a record.
const RECORD_BYTES: usize = 116;
/// More memory than any cache holds.
const MEMORY_BYTES: usize = 256 << 20;
/// Keys of one frame.
const KEYS: usize = 64;
/// Records that are copied to and fro: they stay in the nearest cache.
const NEAR_BYTES: usize = 16 << 10;

/// A walk over `bytes` that no prefetcher guesses: places of records, all different.
fn places(bytes: usize) -> impl Iterator<Item = usize> {
    let records = bytes / 128;
    (0..).scan(0usize, move |at, _| {
        // A full-period step of a linear congruence; `records` is a power of two.
        *at = (*at * 1_664_525 + 1_013_904_223) % records;
        Some(*at * 128)
    })
}

fn memory(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    group.throughput(Throughput::Elements(KEYS as u64));
    for (name, bytes) in
        [("64 records copied, in the nearest cache", NEAR_BYTES), ("64 records copied, in no cache", MEMORY_BYTES)]
    {
        let memory = vec![7u8; bytes];
        let mut places = places(bytes);
        let mut out = Vec::with_capacity(KEYS * RECORD_BYTES);
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                for at in places.by_ref().take(KEYS) {
                    out.extend_from_slice(&memory[at..at + RECORD_BYTES]);
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

/// A frame of 64 keys there, one of 64 values back, one at a time: two sends, two receives, two wake-ups.
fn echo(c: &mut Criterion) {
    const ASK: usize = 64 + KEYS * 22;
    const ANSWER: usize = 80 + KEYS * RECORD_BYTES;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut near = TcpStream::connect(listener.local_addr().expect("it listens")).expect("it listens");
    near.set_nodelay(true).expect("a socket");
    let echoing = std::thread::spawn(move || {
        let (mut far, _) = listener.accept().expect("it was connected to");
        far.set_nodelay(true).expect("a socket");
        let (mut ask, answer) = ([0; ASK], [0; ANSWER]);
        while far.read_exact(&mut ask).is_ok() && far.write_all(&answer).is_ok() {}
    });
    let (ask, mut answer) = ([0; ASK], [0; ANSWER]);
    let mut group = c.benchmark_group("floor");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("a frame of 64 keys echoed by the kernel, alone", |b| {
        b.iter(|| {
            near.write_all(&ask).expect("the other side reads");
            near.read_exact(&mut answer).expect("the other side answers");
        });
    });
    group.finish();
    drop(near);
    echoing.join().expect("it ended by itself");
}

/// 4 KiB into a file that is long enough, and durable: the least a commit can be, on the disk of the build folder.
fn flush(c: &mut Criterion) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("floor-{}", std::process::id()));
    let file = File::create(&path).expect("the folder can be written to");
    std::fs::remove_file(&path).expect("it was made above");
    file.write_all_at(&vec![0; 1 << 20], 0).expect("there is space");
    file.sync_all().expect("the disk flushes");
    c.benchmark_group("floor").sample_size(50).bench_function("4 KiB written and flushed", |b| {
        b.iter(|| {
            file.write_all_at(&[1; 4096], 0).expect("there is space");
            file.sync_data().expect("the disk flushes");
        });
    });
}

criterion_group!(benches, memory, echo, flush);
criterion_main!(benches);
