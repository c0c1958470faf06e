//! A shard's tree while everything is in its memtable: `cargo bench -p ringkv-benches --bench tree`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::{KEYSPACE, key, scattered, value};
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_storage::disk::fault::testing::block_on;
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::tree::{Lookup, Sought, Tree};
use ringkv_wire::ids::ShardId;

/// Keys there are: 16 + 100 bytes each, more than the caches of a core hold.
const KEYS: u64 = 200_000;
/// Keys that are looked for at once: those of a call of 64 that are one shard's, or several calls'.
const BATCH: usize = 32;

fn empty() -> Tree<FaultDisk> {
    let engine = block_on(Engine::open(FaultDisk::new(1), "store-0000", EngineOptions::default()));
    engine.expect("an empty disk opens").tree(ShardId(1))
}

fn full() -> Tree<FaultDisk> {
    let tree = empty();
    (0..KEYS).for_each(|n| tree.put(n + 1, KEYSPACE, &key(n), value()));
    tree
}

fn puts(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(64));
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    let tree = full();
    let (mut index, mut numbers) = (KEYS, scattered(KEYS));
    group.bench_function("64 overwrites in 200,000", |b| {
        b.iter(|| {
            for number in numbers.by_ref().take(64) {
                index += 1;
                tree.put(index, KEYSPACE, &keys[number as usize], value());
            }
        });
    });
    group.bench_function("64 fresh keys in order", |b| {
        b.iter_batched_ref(
            empty,
            |tree| keys.iter().zip(1..).take(64).for_each(|(key, index)| tree.put(index, KEYSPACE, key, value())),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn gets(c: &mut Criterion) {
    let mut group = c.benchmark_group("get");
    group.throughput(Throughput::Elements(BATCH as u64));
    let tree = full();
    let (keys, absent): (Vec<_>, Vec<_>) = (0..KEYS).map(|n| (key(n), key(n + KEYS))).unzip();
    let look = |numbers: &mut dyn Iterator<Item = u64>, keys: &[bytes::Bytes]| {
        let sought = numbers.take(BATCH).map(|number| Sought::new(KEYSPACE, &keys[number as usize]));
        let mut found = 0;
        tree.look(sought, |lookup| found += usize::from(matches!(lookup, Lookup::Found { .. })));
        found
    };
    let mut numbers = scattered(KEYS);
    assert_eq!(look(&mut numbers, &keys), BATCH);
    assert_eq!(look(&mut numbers, &absent), 0);
    group.bench_function("32 of 200,000, side by side", |b| b.iter(|| look(&mut numbers, &keys)));
    group.bench_function("32 that are not there", |b| b.iter(|| look(&mut numbers, &absent)));
    group.throughput(Throughput::Elements(1));
    group.bench_function("one of 200,000, as a future", |b| {
        b.iter(|| block_on(tree.get(KEYSPACE, &keys[numbers.next().unwrap_or_default() as usize])));
    });
    group.finish();
}

criterion_group!(benches, puts, gets);
criterion_main!(benches);
