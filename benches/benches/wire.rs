//! What a frame and an entry cost before any protocol looks at them: `cargo bench -p ringkv-benches --bench wire`.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::operations;
use ringkv_wire::codec::Reader;
use ringkv_wire::entry::{Entry, EntryKind, Operations};
use ringkv_wire::frame::{self, Decoder, Kind};
use ringkv_wire::ids::{Generation, KeyspaceId, ShardId};
use ringkv_wire::ring::hash::key_hash;
use std::hint::black_box;

fn hash(c: &mut Criterion) {
    c.bench_function("key hash, 16 bytes", |b| b.iter(|| key_hash(KeyspaceId(1), black_box(b"0123456789abcdef"))));
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("64 operations of 16 + 100 bytes");
    group.throughput(Throughput::Elements(64));
    let ops = operations(64);
    let mut body = Vec::new();
    ops.encode(&mut body);
    let body = Bytes::from(body);
    group.bench_function("encode", |b| {
        let mut out = Vec::with_capacity(16 << 10);
        b.iter(|| {
            out.clear();
            ops.encode(&mut out);
            out.len()
        });
    });
    group.bench_function("decode", |b| b.iter(|| Operations::decode(black_box(body.clone()))));
    let entry = Entry {
        shard: ShardId(1),
        generation: Generation(1),
        term: 1,
        index: 1,
        log_time_ms: 1,
        kind: EntryKind::Operations,
        body_crc: ringkv_wire::checksum(&body),
        body,
    };
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    let bytes = Bytes::from(bytes);
    group.bench_function("entry decode", |b| b.iter(|| Entry::decode(&mut Reader::new(black_box(bytes.clone())))));
    let mut frames = Vec::new();
    frame::encode(Kind::Write, 1, &bytes, &mut frames);
    group.bench_function("frame decode", |b| {
        let mut decoder = Decoder::new(1 << 20);
        b.iter(|| {
            decoder.feed(black_box(&frames));
            decoder.next()
        });
    });
    group.finish();
}

criterion_group!(benches, hash, bodies);
criterion_main!(benches);
