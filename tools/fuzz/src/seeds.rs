//! What fuzzing starts from: real things, encoded.

use crate::edits::{edit, samples};
use bytes::Bytes;
use ringkv_core::sessions::Sessions;
use ringkv_storage::sst::block::BlockBuilder;
use ringkv_storage::sst::compress::{Compression, Compressor};
use ringkv_storage::sst::filter::FilterBuilder;
use ringkv_storage::sst::index::IndexBuilder;
use ringkv_storage::sst::properties::Properties;
use ringkv_storage::sst::{NEVER_MS, Record, TableId};
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::hello::Hello;
use ringkv_wire::ids::{ClientId, ClusterId, Generation, Incarnation, KeyspaceId, NodeId, ShardId, StoreId};
use ringkv_wire::msg::client::{
    ReadKeys, ReadLevel, ReadRequest, ReadResult, RequestHeader, StatusHeader, WriteRequest, WriteResult,
    encode_write_reply, put_read_result,
};
use ringkv_wire::msg::config::{Configuration, Replica};
use ringkv_wire::msg::node;
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use ringkv_wire::msg::snapshot::{OfferedTable, SnapshotBody, SnapshotMessage};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::hash::key_hash;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use ringkv_wire::status::Status;

const SHARD: ShardId = ShardId(0x0100_0005);

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// The seeds of the target called `name`: each is accepted by it, or at least reaches deep.
pub fn seeds(name: &str) -> Vec<Vec<u8>> {
    match name {
        "frame" => frames(),
        "resp" => crate::resp::seeds(),
        "hello" => vec![Hello::client(ClientId([9; 16]), StoreId::new(1, 0)).encode().to_vec()],
        "request" => requests(),
        "reply" => replies(),
        "peer" => peers(),
        "snapshot" => snapshots(),
        "map" => vec![encoded(|out| cluster_map().encode(out)), encoded(|out| configuration().encode(out))],
        "operations" => {
            vec![encoded(|out| operations().encode(out)), encoded(|out| entry().encode(out))]
        }
        "sessions" => vec![sessions()],
        "history" => vec![HISTORY.as_bytes().to_vec()],
        "log" | "tree" => samples(),
        "compressed" => compressed(),
        "records" => records(),
        "tables" => tables(),
        "manifest" => manifests(),
        "sections" => sections(),
        _ => Vec::new(),
    }
}

const HISTORY: &str = r#"{"client":3,"key":"k","op":"put","value":"3.42","call":1200,"return":1900,"outcome":"ok","version":12,"shard":1}
{"client":4,"key":"k","op":"get","value":"3.42","call":1950,"return":2100,"outcome":"ok","version":12}

{"client":3,"key":"k","op":"delete","call":2000,"return":2200,"outcome":"ok","version":13}
{"client":5,"key":"k","op":"put","value":"5.1","call":2000,"outcome":"unknown"}
{"client":4,"key":"k","op":"get","value":null,"call":2250,"return":2300,"outcome":"failed"}
"#;

fn frames() -> Vec<Vec<u8>> {
    let stream = encoded(|out| {
        frame::encode(Kind::Read, 7, b"hello", out);
        frame::encode(Kind::Peer, 8, &[3; 100], out);
    });
    // Pieces of 64 bytes; as it is, and with checksums corrected.
    [126, 127].map(|how| [&[how], stream.as_slice()].concat()).to_vec()
}

fn header() -> RequestHeader {
    RequestHeader { shard: SHARD, generation: Generation(2), epoch: 4, deadline_ms: 1500, attempt: 1 }
}

fn operations() -> Operations {
    let put = Operation {
        seq: 7,
        expiry_ms: 60_000,
        keyspace: KeyspaceId(1),
        kind: OpKind::Put,
        key: Bytes::from_static(b"key"),
        value: Bytes::from_static(b"10"),
    };
    let delete = Operation { seq: 8, kind: OpKind::Delete, value: Bytes::new(), ..put.clone() };
    Operations { client: ClientId([0xa0; 16]), floor: 6, ops: vec![put, delete] }
}

fn entry() -> Entry {
    let body = Bytes::from(encoded(|out| operations().encode(out)));
    Entry {
        shard: SHARD,
        generation: Generation(2),
        term: 3,
        index: 10,
        log_time_ms: 1_000,
        kind: EntryKind::Operations,
        body_crc: crc32c::crc32c(&body),
        body,
    }
}

fn requests() -> Vec<Vec<u8>> {
    let keys = ReadKeys::new([(KeyspaceId(1), b"key".as_slice()), (KeyspaceId(2), b"k")].into_iter());
    let read = ReadRequest { header: header(), level: ReadLevel::ReadIndex, keys };
    vec![
        encoded(|out| WriteRequest::encode(&header(), &operations(), out)),
        encoded(|out| read.encode(out)),
        encoded(|out| node::encode_map_request(3, out)),
    ]
}

fn replies() -> Vec<Vec<u8>> {
    let header = StatusHeader {
        shard: SHARD,
        generation: Generation(2),
        status: Status::Ok,
        level: 1,
        leader: Some(StoreId::new(2, 0)),
        epoch: 4,
        log_time_ms: 5,
        index: 77,
        store_us: 0,
    };
    let results = [WriteResult { status: Status::Ok, version: 77 }, WriteResult { status: Status::Busy, version: 0 }];
    let found = ReadResult::Found { value: Bytes::from_static(b"10"), version: 9 };
    let read = [found, ReadResult::Absent, ReadResult::AskAgain, ReadResult::Unreadable];
    vec![
        encoded(|out| encode_write_reply(&header, &results, out)),
        encoded(|out| {
            header.encode(read.len() as u32, out);
            read.iter().for_each(|result| put_read_result(result, out));
        }),
        encoded(|out| node::encode_map_reply(&header, Some(&cluster_map()), out)),
        encoded(|out| node::encode_status_reply(&header, "{\"store\":\"n1/0\"}", out)),
        encoded(|out| StatusHeader { leader: None, status: Status::NotLeader, ..header }.encode(0, out)),
    ]
}

fn peers() -> Vec<Vec<u8>> {
    let bodies = [
        PeerBody::PreVote { last_index: 9, last_term: 2, transfer: true },
        PeerBody::PreVoteReply { granted: false },
        PeerBody::Vote { last_index: 9, last_term: 2, transfer: false },
        PeerBody::VoteReply { granted: true },
        PeerBody::Append { round: 12, prev_index: 9, prev_term: 2, commit: 8, entries: vec![entry()] },
        PeerBody::AppendReply { round: 12, accepted: true, index: 10, term: 0, wall_ms: 5 },
        PeerBody::Heartbeat { round: 13, commit: 8 },
        PeerBody::HeartbeatReply { round: 13, follows: true, wall_ms: 6 },
        PeerBody::TimeoutNow,
    ];
    let message = |body| PeerMessage { shard: SHARD, generation: Generation(2), term: 3, body };
    let each: Vec<Vec<u8>> = bodies.into_iter().map(|body| encoded(|out| message(body).encode(out))).collect();
    let together = each.concat();
    [each, vec![together]].concat()
}

fn configuration() -> Configuration {
    let replica = |node| Replica { store: StoreId::new(node, 0), incarnation: Incarnation(u64::from(node) * 17) };
    Configuration { voters: vec![replica(1), replica(2)], learners: vec![replica(3)], outgoing: vec![replica(1)] }
}

fn snapshots() -> Vec<Vec<u8>> {
    let bodies = [
        SnapshotBody::Offer {
            term: 3,
            index: 10,
            index_term: 2,
            log_time_ms: 5,
            config_index: 1,
            config: configuration(),
            tables: vec![OfferedTable { id: [4; 16], bytes: 8_192 }],
        },
        SnapshotBody::Fetch { table: [4; 16], offset: 4_096, bytes: 1_024 },
        SnapshotBody::Piece { table: [4; 16], offset: 4_096, bytes: Bytes::from_static(b"piece") },
        SnapshotBody::Gone,
    ];
    let message = |body| SnapshotMessage { shard: SHARD, generation: Generation(2), snapshot: 5, body };
    bodies.into_iter().map(|body| encoded(|out| message(body).encode(out))).collect()
}

fn cluster_map() -> ClusterMap {
    let member = |id: u32| {
        let address = |port| ([127, 0, 0, 1], port).into();
        let port = 7_000 + id as u16 * 10;
        Member {
            id: NodeId(id),
            address: address(port),
            weight: 100,
            rack: "r".into(),
            stores: vec![address(port + 1)],
        }
    };
    let members = [member(1), member(2), member(3)];
    let keyspaces =
        vec![KeyspaceInfo { id: KeyspaceId(1), name: "default".into(), pool: 1, routing: Routing::Prefix(b'/') }];
    let pools = vec![PoolInfo { id: 1, replicas: 3, shard_bits: 2 }];
    ClusterMap::from_members(ClusterId([1; 16]), &members, &keyspaces, &pools)
}

fn sessions() -> Vec<u8> {
    let mut table = Sessions::new(1 << 20);
    for (client, seq) in [(1u8, 1u64), (1, 2), (2, 1)] {
        let client = ClientId([client; 16]);
        table.begin(client, 1, 1_000);
        let _runs = table.apply_one(client, seq, 60_000 + seq, 1_000, 10 + seq);
    }
    table.encode()
}

fn sections() -> Vec<Vec<u8>> {
    let keys: [&[u8]; 3] = [b"a", b"bb", b"bc"];
    let (mut index, mut filter, mut block, mut properties) =
        (IndexBuilder::default(), FilterBuilder::default(), BlockBuilder::default(), Properties::default());
    let mut before = None;
    for (at, key) in keys.iter().enumerate() {
        let key = (KeyspaceId(1), *key);
        index.add(before, key, at as u64 * 100, 100);
        filter.add(at as u64 * 0x1234_5678_9abc_def1);
        let expiry_ms = if at == 1 { 1_700_000_000_000 } else { NEVER_MS };
        let record = Record { expiry_ms, ..Record::new(5, Some(b"value")) };
        block.add(key, key_hash(key.0, key.1), &record);
        properties.count(key, &record);
        before = Some(key);
    }
    while filter.step() {}
    let smaller = |way| {
        let (mut block, mut out) = (BlockBuilder::default(), Vec::new());
        for n in 0..30u8 {
            let value = [n; 40];
            let record = Record::new(7 + u64::from(n), (n % 3 > 0).then_some(&value));
            block.add((KeyspaceId(1), &[b'k', n]), u64::from(n), &record);
        }
        block.finish(&TableId([3; 16]), 0, &mut Compressor::new(way), &mut out);
        out
    };
    let claimed = |count: u8, section: Vec<u8>| [&[count], section.as_slice()].concat();
    let mut filtered = Vec::new();
    let pieces = filter.finish(&mut filtered);
    vec![
        claimed(3, encoded(|out| index.finish(0, out))),
        claimed(pieces as u8, filtered),
        claimed(1, encoded(|out| properties.encode(out))),
        claimed(
            0,
            encoded(|out| {
                block.finish(&TableId([3; 16]), 0, &mut Compressor::default(), out);
            }),
        ),
        claimed(0, smaller(Compression::Lz4)),
        claimed(0, smaller(Compression::Zstd)),
    ]
}

fn compressed() -> Vec<Vec<u8>> {
    let raw: Vec<u8> = (0..3000u32).map(|n| (n / 30) as u8).collect();
    let [a, b, c, _] = (raw.len() as u32).to_le_bytes();
    let made = |way: Compression| [&[way.kind(), a, b, c], Compressor::new(way).make(&raw).1].concat();
    [Compression::Lz4, Compression::Zstd].map(made).to_vec()
}

/// Edits of what batches carry: kinds, flags and lengths of records, states, votes and indexes.
fn records() -> Vec<Vec<u8>> {
    let page = 8 * 496;
    let each = |offset: u32, bytes: &[u8]| edit(0, offset, 1, bytes);
    vec![
        Vec::new(),
        each(page + 64, &[3, 3, 0, 0, 24]),
        each(2 * page + 64, &[1, 2, 0, 0, 0xff]),
        each(3 * page + 72, &[0xff; 8]),
        [each(page + 36, &[16, 0, 0, 0, 9]), each(page + 64, &[4, 3, 0, 0, 4, 0, 0, 0])].concat(),
        [each(2 * page + 24, &[0xff; 8]), each(4 * page + 64, &[7, 3, 0, 0, 24])].concat(),
        edit(1, 64, 1, &[8, 3, 0, 0, 24, 0, 0, 0]),
    ]
}

/// Edits of blocks, trailers, indexes, filters, properties and footers, of both versions of tables.
fn tables() -> Vec<Vec<u8>> {
    let ends: Vec<u32> = (1..4).map(|pages| pages * 4096 - 128).collect();
    let mut seeds = Vec::new();
    for old in [0, 1] {
        let with = |edits: Vec<u8>| [&[old], edits.as_slice()].concat();
        seeds.push(with(edit(0, 0, 0, b"")));
        seeds.push(with(edit(1, 12, 0, &[0xff, 0x7f])));
        seeds.push(with([edit(0, 4, 0, b"key"), edit(1, 300, 0, &[8; 20])].concat()));
        for end in &ends {
            seeds.push(with(edit(0, *end + 104, 0, &[1])));
            seeds.push(with(edit(1, *end - 80, 0, &[0, 0, 0, 1])));
        }
    }
    seeds
}

/// Edits of edits: heads, trees, tables and their bounds, of both versions; and of CURRENT.
fn manifests() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for old in [0, 1] {
        let with = |edits: Vec<u8>| [&[old], edits.as_slice()].concat();
        seeds.push(with(edit(0, 0, 0, b"RKME")));
        seeds.push(with(edit(0, 4096 + 24, 0, &[2])));
        seeds.push(with(edit(0, 4096 + 32 + 8, 0, &[0xff; 8])));
        seeds.push(with(edit(0, 2 * 4096 + 32 + 48 + 6 + 16, 0, &[0xff; 8])));
        seeds.push(with(edit(0, 2 * 4096 + 32 + 48 + 6 + 40, 0, &[1, 1, 9])));
        seeds.push(with(edit(3, 8, 0, &[2])));
    }
    seeds
}
