//! A client's session from the call to its completion, without sockets: `cargo bench -p ringkv-benches --bench session`. What the
//! stores do is not counted.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::{KEYSPACE, key, scattered, value};
use ringkv_session::{Actions, Ask, Call, ClientId, ConnKey, NodeId, Now, Session, SessionConfig, StoreId};
use ringkv_wire::entry::Operations;
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{Answer, Hello};
use ringkv_wire::ids::{ClusterId, Generation, ShardId};
use ringkv_wire::msg::client::{ReadRequest, StatusHeader, WriteRequest, WriteResult, encode_write_reply, put_found};
use ringkv_wire::msg::node;
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use ringkv_wire::status::Status;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const KEYS: u64 = 100_000;
/// Time between two turns: about what the stores would take.
const TURN_NS: u64 = 50_000;

/// Three nodes of one store, 16 shards.
fn map() -> ClusterMap {
    let address = |node: u32, port| SocketAddr::from(([127, 0, 0, node as u8], port));
    let member = |node: u32| Member {
        id: NodeId(node),
        address: address(node, 7000),
        weight: 100,
        rack: String::new(),
        stores: vec![address(node, 7001)],
    };
    let keyspace = KeyspaceInfo { id: KEYSPACE, name: "default".into(), pool: 1, routing: Routing::Whole };
    let pool = PoolInfo { id: 1, replicas: 3, shard_bits: 4 };
    ClusterMap::from_members(ClusterId([1; 16]), &[member(1), member(2), member(3)], &[keyspace], &[pool])
}

/// A session and stores that answer everything at once.
struct World {
    session: Session,
    now: Now,
    map: ClusterMap,
    open: BTreeMap<ConnKey, Decoder>,
    actions: Actions,
    value: Bytes,
    /// Time that the session took.
    took: Duration,
}

impl World {
    fn new() -> World {
        let map = map();
        let config = SessionConfig::new(map.nodes.iter().map(|node| node.address).collect(), ClientId([9; 16]));
        let now = Now { boot_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        World {
            session: Session::new(config, now, 7),
            now,
            map,
            open: BTreeMap::new(),
            actions: Actions::default(),
            value: value(),
            took: Duration::ZERO,
        }
    }

    /// Has calls done.
    fn call(&mut self, asks: impl ExactSizeIterator<Item = Ask>) {
        let calls = asks.len();
        let began = Instant::now();
        for ask in asks {
            self.session.submit(self.now, Call::new(ask));
        }
        self.took += began.elapsed();
        let mut done = 0;
        for _ in 0..100 {
            done += self.turn();
            if done == calls {
                return;
            }
        }
        panic!("{done} of {calls} calls are done");
    }

    /// One turn, and what the stores have to say to it; gives how many calls are done.
    fn turn(&mut self) -> usize {
        self.now.boot_ns += TURN_NS;
        let began = Instant::now();
        self.session.turn(self.now, 7, &mut self.actions);
        self.took += began.elapsed();
        let mut actions = std::mem::take(&mut self.actions);
        for (key, address, hello) in actions.connect.drain(..) {
            self.connect(key, address, hello);
        }
        let mut replies = Vec::new();
        for (key, bytes) in actions.send.drain(..) {
            let decoder = self.open.get_mut(&key).expect("bytes go to open connections");
            decoder.feed(&bytes);
            let mut out = Vec::new();
            while let Some(message) = decoder.next().expect("the session speaks the protocol") {
                answer(&self.map, &self.value, message, &mut out);
            }
            replies.push((key, Bytes::from(out)));
        }
        let done = actions.done.len();
        let began = Instant::now();
        actions.done.clear();
        for (key, bytes) in replies {
            self.session.received(self.now, key, bytes);
        }
        self.took += began.elapsed();
        self.actions = actions;
        done
    }

    fn connect(&mut self, key: ConnKey, address: SocketAddr, hello: Hello) {
        let node = self.map.nodes.iter().find(|node| node.address == address || node.stores.contains(&address));
        let store = StoreId { node: node.expect("an address of the map").id, store: 0 };
        self.open.insert(key, Decoder::new(1 << 20));
        let welcome = Hello { answer: Answer::Welcome, from: store, cluster: self.map.cluster, ..hello };
        self.session.opened(self.now, key, &welcome);
    }
}

/// What a store answers: everything is there, everything is done.
fn answer(map: &ClusterMap, value: &Bytes, message: Message, out: &mut Vec<u8>) {
    let header = StatusHeader {
        shard: ShardId(0),
        generation: Generation(1),
        status: Status::Ok,
        level: 1,
        leader: None,
        epoch: map.epoch,
        log_time_ms: 0,
        index: 5,
        store_us: 0,
    };
    let Message { kind, id, body } = message;
    match kind {
        Kind::Map => frame::encode_with(Kind::MapReply, id, out, |out| node::encode_map_reply(&header, Some(map), out)),
        Kind::Read => {
            let keys = ReadRequest::decode(body).expect("a read").keys.len();
            frame::encode_with(Kind::ReadReply, id, out, |out| {
                header.encode(keys as u32, out);
                (0..keys).for_each(|_| put_found(5, value, out));
            });
        }
        Kind::Write => {
            let request = WriteRequest::decode(body).expect("a write");
            let count = Operations::decode(request.body).expect("operations").ops.len();
            let results = vec![WriteResult { status: Status::Ok, version: 5 }; count];
            frame::encode_with(Kind::WriteReply, id, out, |out| encode_write_reply(&header, &results, out));
        }
        other => panic!("what is {other:?}?"),
    }
}

fn calls(c: &mut Criterion) {
    let keys: Vec<Bytes> = (0..KEYS).map(key).collect();
    let mut numbers = scattered(KEYS);
    let mut draw = |count: usize| -> Vec<Bytes> {
        numbers.by_ref().take(count).map(|number| keys[number as usize].clone()).collect()
    };
    let mut group = c.benchmark_group("session");
    let mut world = World::new();
    let mut measure = |name: &str, keys: usize, asks: &mut dyn FnMut(usize) -> Vec<Ask>| {
        group.throughput(Throughput::Elements(keys as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                world.took = Duration::ZERO;
                for _ in 0..rounds {
                    let asks = asks(keys);
                    world.call(asks.into_iter());
                }
                world.took
            });
        });
    };
    measure("get_many(64)", 64, &mut |count| vec![Ask::GetMany { keyspace: KEYSPACE, keys: draw(count) }]);
    measure("512 gets", 512, &mut |count| {
        draw(count).into_iter().map(|key| Ask::Get { keyspace: KEYSPACE, key }).collect()
    });
    measure("put_many(64)", 64, &mut |count| {
        let pairs = draw(count).into_iter().map(|key| (key, value())).collect();
        vec![Ask::PutMany { keyspace: KEYSPACE, pairs }]
    });
    measure("512 puts", 512, &mut |count| {
        draw(count).into_iter().map(|key| Ask::Put { keyspace: KEYSPACE, key, value: value() }).collect()
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
