//! One sample of everything that travels: its golden bytes, the bytes our encoder gives, and a way to decode and encode
//! again.

mod bytes;

use ::bytes::Bytes;
use ringkv_wire::codec::{Reader, WireError};
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Decoder, Kind};
use ringkv_wire::hello::{Answer, Hello, Link, Role};
use ringkv_wire::ids::*;
use ringkv_wire::msg::client::*;
use ringkv_wire::msg::config::{Configuration, Replica};
use ringkv_wire::msg::node;
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use ringkv_wire::msg::snapshot::{OfferedTable, SnapshotBody, SnapshotMessage};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::*;
use ringkv_wire::status::Status;

/// One thing that travels.
pub struct Sample {
    pub name: &'static str,
    /// As PROTOCOL.md says.
    pub golden: Vec<u8>,
    /// As our encoder says.
    pub ours: Vec<u8>,
    /// Decodes, and encodes what came out.
    pub again: fn(Bytes) -> Result<Vec<u8>, WireError>,
    /// No byte can change unnoticed.
    pub checksummed: bool,
}

const SHARD: ShardId = ShardId(0x0100_0005);
const GENERATION: Generation = Generation(2);

pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |d: u8| (d as char).to_digit(16).expect("a hex digit") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn series(from: u8) -> [u8; 16] {
    std::array::from_fn(|i| from + i as u8)
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
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
    let delete = Operation {
        seq: 8,
        expiry_ms: 60_001,
        kind: OpKind::Delete,
        key: Bytes::from_static(b"k"),
        value: Bytes::new(),
        ..put.clone()
    };
    Operations { client: ClientId(series(0xa0)), floor: 6, ops: vec![put, delete] }
}

fn status(status: Status, level: u8, leader: Option<StoreId>) -> StatusHeader {
    StatusHeader {
        shard: SHARD,
        generation: GENERATION,
        status,
        level,
        leader,
        epoch: 4,
        log_time_ms: 0x18c0_ffee,
        index: 77,
        store_us: 0,
    }
}

fn header(attempt: u16) -> RequestHeader {
    RequestHeader { shard: SHARD, generation: GENERATION, epoch: 4, deadline_ms: 1500, attempt }
}

fn configuration() -> Configuration {
    let replica =
        |node, store, incarnation| Replica { store: StoreId::new(node, store), incarnation: Incarnation(incarnation) };
    Configuration {
        voters: vec![replica(1, 0, 0x11), replica(2, 1, 0)],
        learners: vec![replica(3, 0, 0x33)],
        outgoing: vec![replica(1, 0, 0x11)],
    }
}

fn map() -> ClusterMap {
    let local = |port| ([127, 0, 0, 1], port).into();
    let node = |id, address, weight, rack: &str, store| NodeInfo {
        id: NodeId(id),
        address,
        weight,
        rack: rack.into(),
        stores: vec![local(store)],
    };
    let shard = |arc, start, replicas: [u32; 2]| ShardInfo {
        id: ShardId::new(1, arc),
        generation: Generation(1),
        start: Position(start),
        replicas: replicas.map(|node| StoreId::new(node, 0)).to_vec(),
    };
    let keyspace = |id, name: &str, routing| KeyspaceInfo { id: KeyspaceId(id), name: name.into(), pool: 1, routing };
    ClusterMap {
        cluster: ClusterId(series(0x10)),
        epoch: 1,
        nodes: vec![
            node(1, local(7000), 100, "r", 7001),
            node(2, "[2001:db8::1]:7000".parse().expect("an address"), 50, "", 7002),
        ],
        keyspaces: vec![keyspace(1, "default", Routing::Whole), keyspace(2, "p", Routing::Prefix(b'/'))],
        pools: vec![PoolInfo { id: 1, replicas: 2, shard_bits: 1 }],
        shards: vec![shard(0, 0, [1, 2]), shard(1, 0x8000_0000, [2, 1])],
    }
}

/// Everything that travels.
pub fn all() -> Vec<Sample> {
    let mut samples = connection();
    samples.extend(client());
    samples.extend(peer());
    samples.extend(snapshot());
    samples
}

fn connection() -> Vec<Sample> {
    let hello = Hello {
        versions: (1, 1),
        cluster: ClusterId(series(0x10)),
        role: Role::Store,
        answer: Answer::Welcome,
        link: Link::Bulk,
        from: StoreId::new(7, 3),
        wanted: StoreId::new(9, 2),
        incarnation: Incarnation(0x1122_3344_5566_7788),
        client: ClientId(series(0xa0)),
        epoch: 5,
        settings: 0x0102_0304_0506_0708,
    };
    let body = encoded(|out| operations().encode(out));
    let entry = Entry {
        shard: SHARD,
        generation: GENERATION,
        term: 3,
        index: 9,
        log_time_ms: 0x18c0_ffee,
        kind: EntryKind::Operations,
        body_crc: crc32c::crc32c(&body),
        body: body.into(),
    };
    vec![
        Sample {
            name: "hello",
            golden: hex(bytes::HELLO),
            ours: hello.encode().to_vec(),
            again: |b| {
                let bytes = Reader::new(b).layout()?;
                Ok(Hello::decode(&bytes)?.encode().to_vec())
            },
            checksummed: true,
        },
        Sample {
            name: "frame",
            golden: hex(bytes::FRAME),
            ours: encoded(|out| frame::encode(Kind::Read, 0x42, b"hello", out)),
            again: |b| {
                let mut decoder = Decoder::new(1 << 20);
                decoder.feed(&b);
                let short = WireError::Short { wanted: 0, left: b.len() };
                let message = decoder.next()?.ok_or(short)?;
                Ok(encoded(|out| frame::encode(message.kind, message.id, &message.body, out)))
            },
            checksummed: true,
        },
        Sample {
            name: "entry",
            golden: [hex(bytes::ENTRY_HEADER), hex(bytes::OPERATIONS)].concat(),
            ours: encoded(|out| entry.encode(out)),
            again: |b| {
                let mut r = Reader::new(b);
                let entry = Entry::decode(&mut r)?;
                r.finish()?;
                Ok(encoded(|out| entry.encode(out)))
            },
            checksummed: true,
        },
        plain("operations", bytes::OPERATIONS, encoded(|out| operations().encode(out)), |b| {
            let operations = Operations::decode(b)?;
            Ok(encoded(|out| operations.encode(out)))
        }),
        plain("configuration", bytes::CONFIGURATION, encoded(|out| configuration().encode(out)), |b| {
            let configuration = Configuration::decode(b)?;
            Ok(encoded(|out| configuration.encode(out)))
        }),
    ]
}

fn plain(name: &'static str, golden: &str, ours: Vec<u8>, again: fn(Bytes) -> Result<Vec<u8>, WireError>) -> Sample {
    Sample { name, golden: hex(golden), ours, again, checksummed: false }
}

fn client() -> Vec<Sample> {
    let write = [hex(bytes::WRITE_HEADER), hex(bytes::OPERATIONS)].concat();
    let read = ReadRequest {
        header: header(0),
        level: ReadLevel::ReadIndex,
        keys: ReadKeys::new([(KeyspaceId(1), b"key".as_slice()), (KeyspaceId(2), b"k")].into_iter()),
    };
    let leader = Some(StoreId::new(2, 1));
    let results =
        [WriteResult { status: Status::Ok, version: 77 }, WriteResult { status: Status::BelowFloor, version: 0 }];
    let found = ReadResult::Found { value: Bytes::from_static(b"10"), version: 9 };
    let reads = [found, ReadResult::Absent, ReadResult::AskAgain, ReadResult::Unreadable];
    let write_again = |b: Bytes| {
        let (header, results) = decode_write_reply(b)?;
        Ok(encoded(|out| encode_write_reply(&header, &results, out)))
    };
    vec![
        Sample {
            name: "write",
            golden: write,
            ours: encoded(|out| WriteRequest::encode(&header(1), &operations(), out)),
            again: |b| {
                let request = WriteRequest::decode(b)?;
                let ops = Operations::decode(request.body)?;
                Ok(encoded(|out| WriteRequest::encode(&request.header, &ops, out)))
            },
            checksummed: false,
        },
        plain(
            "write reply",
            bytes::WRITE_REPLY,
            encoded(|out| encode_write_reply(&status(Status::Ok, 0, leader), &results, out)),
            write_again,
        ),
        plain(
            "refusal",
            bytes::REFUSAL,
            encoded(|out| encode_write_reply(&status(Status::NotLeader, 0, None), &[], out)),
            write_again,
        ),
        plain("read", bytes::READ, encoded(|out| read.encode(out)), |b| {
            let read = ReadRequest::decode(b)?;
            Ok(encoded(|out| read.encode(out)))
        }),
        plain("read reply", bytes::READ_REPLY, read_reply(&status(Status::Ok, 1, leader), &reads), |b| {
            let (header, reads) = decode_read_reply(b)?;
            Ok(read_reply(&header, &reads.iter().collect::<Vec<_>>()))
        }),
        plain("map request", bytes::MAP_REQUEST, encoded(|out| node::encode_map_request(4, out)), |b| {
            let epoch = node::decode_map_request(b)?;
            Ok(encoded(|out| node::encode_map_request(epoch, out)))
        }),
        plain("map", bytes::MAP, encoded(|out| map().encode(out)), |b| {
            let map = ClusterMap::decode(b)?;
            Ok(encoded(|out| map.encode(out)))
        }),
    ]
}

fn read_reply(header: &StatusHeader, results: &[ReadResult]) -> Vec<u8> {
    encoded(|out| {
        header.encode(results.len() as u32, out);
        results.iter().for_each(|r| put_read_result(r, out));
    })
}

fn peer() -> Vec<Sample> {
    let empty = Entry {
        shard: SHARD,
        generation: GENERATION,
        term: 3,
        index: 10,
        log_time_ms: 0x18c0_ffee,
        kind: EntryKind::Empty,
        body: Bytes::new(),
        body_crc: 0,
    };
    let (last_index, last_term, wall_ms) = (9, 2, 1_700_000_000_000);
    let messages = [
        ("pre-vote", bytes::PRE_VOTE, PeerBody::PreVote { last_index, last_term, transfer: true }),
        ("pre-vote reply", bytes::PRE_VOTE_REPLY, PeerBody::PreVoteReply { granted: true }),
        ("vote", bytes::VOTE, PeerBody::Vote { last_index, last_term, transfer: false }),
        ("vote reply", bytes::VOTE_REPLY, PeerBody::VoteReply { granted: false }),
        (
            "append",
            bytes::APPEND,
            PeerBody::Append { round: 12, prev_index: 9, prev_term: 2, commit: 8, entries: vec![empty] },
        ),
        (
            "append reply",
            bytes::APPEND_REPLY,
            PeerBody::AppendReply { round: 12, accepted: true, index: 10, term: 0, wall_ms },
        ),
        ("heartbeat", bytes::HEARTBEAT, PeerBody::Heartbeat { round: 13, commit: 8 }),
        ("heartbeat reply", bytes::HEARTBEAT_REPLY, PeerBody::HeartbeatReply { round: 13, follows: true, wall_ms }),
        ("timeout now", bytes::TIMEOUT_NOW, PeerBody::TimeoutNow),
    ];
    let sample = |(name, golden, body)| {
        let message = PeerMessage { shard: SHARD, generation: GENERATION, term: 3, body };
        plain(name, golden, encoded(|out| message.encode(out)), |b| {
            let messages = PeerMessage::decode_all(b)?;
            Ok(encoded(|out| messages.iter().for_each(|m| m.encode(out))))
        })
    };
    messages.into_iter().map(sample).collect()
}

fn snapshot() -> Vec<Sample> {
    let table = series(0xb0);
    let offer = SnapshotBody::Offer {
        term: 3,
        index: 99,
        index_term: 2,
        log_time_ms: 0x18c0_ffee,
        config_index: 1,
        config: Configuration {
            voters: vec![Replica { store: StoreId::new(1, 0), incarnation: Incarnation(0x11) }],
            ..Configuration::default()
        },
        tables: vec![OfferedTable { id: table, bytes: 4096 }],
    };
    let piece = Bytes::from_static(b"piece");
    let messages = [
        ("offer", bytes::OFFER, offer),
        ("fetch", bytes::FETCH, SnapshotBody::Fetch { table, offset: 131_072, bytes: 65_536 }),
        ("piece", bytes::PIECE, SnapshotBody::Piece { table, offset: 131_072, bytes: piece }),
        ("gone", bytes::GONE, SnapshotBody::Gone),
        ("installed", bytes::INSTALLED, SnapshotBody::Installed { index: 99 }),
        ("want", bytes::WANT, SnapshotBody::Want { index: 99 }),
    ];
    let sample = |(name, golden, body)| {
        let message = SnapshotMessage { shard: SHARD, generation: GENERATION, snapshot: 0x55, body };
        plain(name, golden, encoded(|out| message.encode(out)), |b| {
            let message = SnapshotMessage::decode(b)?;
            Ok(encoded(|out| message.encode(out)))
        })
    };
    messages.into_iter().map(sample).collect()
}
