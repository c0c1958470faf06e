//! What a store does with a client's message before and after the work itself: `cargo bench -p ringkv-benches --bench requests`.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::{KEYSPACE, key, operations, value};
use ringkv_wire::entry::Operations;
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::ids::{Generation, ShardId};
use ringkv_wire::msg::client::{
    ReadKeys, ReadLevel, ReadRequest, RequestHeader, StatusHeader, WriteRequest, WriteResult, decode_read_reply,
    decode_write_reply, encode_write_reply, put_found,
};
use ringkv_wire::status::Status;
use std::hint::black_box;

const KEYS: u64 = 64;

fn header() -> RequestHeader {
    RequestHeader { shard: ShardId(1), generation: Generation(1), epoch: 1, deadline_ms: 1_000, attempt: 0 }
}

fn status() -> StatusHeader {
    StatusHeader {
        shard: ShardId(1),
        generation: Generation(1),
        status: Status::Ok,
        level: 1,
        leader: None,
        epoch: 1,
        log_time_ms: 1,
        index: 5,
        store_us: 0,
    }
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("read of 64 keys");
    group.throughput(Throughput::Elements(KEYS));
    let names: Vec<Bytes> = (0..KEYS).map(key).collect();
    let keys = ReadKeys::new(names.iter().map(|name| (KEYSPACE, name.as_ref())));
    let request = ReadRequest { header: header(), level: ReadLevel::Linearizable, keys };
    let mut body = Vec::new();
    request.encode(&mut body);
    let body = Bytes::from(body);
    group.bench_function("request encode", |b| {
        let mut out = Vec::with_capacity(16 << 10);
        b.iter(|| {
            out.clear();
            let keys = names.iter().map(|name| (KEYSPACE, name.as_ref()));
            ReadRequest::encode_each(&header(), ReadLevel::Linearizable, keys, &mut out);
            out.len()
        });
    });
    group.bench_function("request decode", |b| {
        b.iter(|| {
            let request = ReadRequest::decode(black_box(body.clone())).expect("it was encoded");
            request.keys.iter().map(|(_, key)| key.len()).sum::<usize>()
        });
    });
    let value = value();
    let reply = |out: &mut Vec<u8>| {
        frame::encode_with(Kind::ReadReply, 1, out, |out| {
            status().encode(KEYS as u32, out);
            (0..KEYS).for_each(|version| put_found(version, &value, out));
        });
    };
    group.bench_function("reply encode, in its frame", |b| {
        let mut out = Vec::with_capacity(16 << 10);
        b.iter(|| {
            out.clear();
            reply(&mut out);
            out.len()
        });
    });
    let mut framed = Vec::new();
    reply(&mut framed);
    let mut decoder = frame::Decoder::new(1 << 20);
    decoder.feed(&framed);
    let message = decoder.next().ok().flatten().expect("one frame");
    group.bench_function("reply decode", |b| b.iter(|| decode_read_reply(black_box(message.body.clone()))));
    group.finish();
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("write of 64 keys");
    group.throughput(Throughput::Elements(KEYS));
    let operations = operations(KEYS);
    let mut body = Vec::new();
    WriteRequest::encode(&header(), &operations, &mut body);
    let body = Bytes::from(body);
    group.bench_function("request decode", |b| {
        b.iter(|| {
            let request = WriteRequest::decode(black_box(body.clone())).expect("it was encoded");
            Operations::decode(request.body)
        });
    });
    let results: Vec<WriteResult> = (0..KEYS).map(|version| WriteResult { status: Status::Ok, version }).collect();
    let mut reply = Vec::new();
    group.bench_function("reply encode", |b| {
        b.iter(|| {
            reply.clear();
            encode_write_reply(&status(), &results, &mut reply);
            reply.len()
        });
    });
    let reply = Bytes::from(reply);
    group.bench_function("reply decode", |b| b.iter(|| decode_write_reply(black_box(reply.clone()))));
    group.finish();
}

criterion_group!(benches, reads, writes);
criterion_main!(benches);
