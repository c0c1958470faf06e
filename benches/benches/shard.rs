//! A store's batched reads, whole but for the network: `cargo bench -p ringkv-benches --bench shard`.
//!
//! The loop that ships, as one store with one replica of each shard and everything in memtables: frames in, lease, lookups,
//! frames out. Its host hands bytes over and drops what is sent.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::{KEYSPACE, key, scattered, value};
use ringkv_shard::config::{Budgets, Control, StoreConfig};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_shard::store;
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_wire::entry::{OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Decoder, Kind};
use ringkv_wire::hello::Hello;
use ringkv_wire::ids::{ClientId, ClusterId, Incarnation, NodeId, Now, StoreId};
use ringkv_wire::msg::client::{ReadLevel, ReadRequest, RequestHeader, StatusHeader, WriteRequest};
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use ringkv_wire::status::Status;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

/// Keys there are: 16 + 100 bytes each, more than the caches of a core hold.
const KEYS: u64 = 200_000;
const CONN: ConnId = ConnId(1);
const CLIENT: ClientId = ClientId([3; 16]);
const SHARD_BITS: u8 = 4;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A host of which the other side is this bench.
#[derive(Clone)]
struct Desk(Rc<Inner>);

struct Inner {
    disk: FaultDisk,
    since: Instant,
    random: Cell<u64>,
    events: RefCell<Vec<NetEvent>>,
    sent: RefCell<Vec<Bytes>>,
    tasks: RefCell<Vec<Task>>,
    woken: Cell<bool>,
}

impl Desk {
    fn new() -> Desk {
        let (events, sent, tasks) = (RefCell::default(), RefCell::default(), RefCell::default());
        let (random, woken) = (Cell::new(1), Cell::new(false));
        Desk(Rc::new(Inner { disk: FaultDisk::new(1), since: Instant::now(), random, events, sent, tasks, woken }))
    }
}

impl Host for Desk {
    type Disk = FaultDisk;

    fn disk(&self) -> FaultDisk {
        self.0.disk.clone()
    }
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { boot_ns: self.0.since.elapsed().as_nanos() as u64 + 1, wall_ms: wall.as_millis() as u64 }
    }
    fn random(&self) -> u64 {
        self.0.random.set(self.0.random.get().wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1));
        self.0.random.get()
    }
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.tasks.borrow_mut().push(Box::pin(task));
    }
    fn connect(&self, _: SocketAddr, _: Hello) -> ConnId {
        ConnId(u64::MAX)
    }
    fn send(&self, _: ConnId, bytes: Bytes) {
        self.0.sent.borrow_mut().push(bytes);
    }
    fn backlog_bytes(&self, _: ConnId) -> usize {
        0
    }
    fn close(&self, _: ConnId) {}
    fn wake(&self) {
        self.0.woken.set(true);
    }
    async fn wait(&self, until_boot_ns: u64) {
        poll_fn(|_| {
            let ready =
                self.0.woken.take() || !self.0.events.borrow().is_empty() || self.now().boot_ns >= until_boot_ns;
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    fn take_events(&self, out: &mut Vec<NetEvent>) {
        out.append(&mut self.0.events.borrow_mut());
    }
}

/// A store that serves, and its map.
struct Serving {
    desk: Desk,
    map: Arc<ClusterMap>,
    run: Pin<Box<dyn Future<Output = ()>>>,
}

impl Serving {
    fn new() -> Serving {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let member = Member { id: NodeId(1), address, weight: 100, rack: String::new(), stores: vec![address] };
        let keyspace = KeyspaceInfo { id: KEYSPACE, name: "default".into(), pool: 1, routing: Routing::Whole };
        let pool = PoolInfo { id: 1, replicas: 1, shard_bits: SHARD_BITS };
        let map = Arc::new(ClusterMap::from_members(ClusterId([7; 16]), &[member], &[keyspace], &[pool]));
        let desk = Desk::new();
        let config = StoreConfig {
            id: StoreId::new(1, 0),
            incarnation: Incarnation(1),
            map: map.clone(),
            dir: "store-0000".into(),
            made: false,
            budgets: Budgets { memtable_bytes: 1 << 30, log_keep_bytes: 1 << 30, ..Budgets::default() },
        };
        let run = store::run(desk.clone(), config, Control::default());
        let run = Box::pin(async move { run.await.expect("it serves") });
        let mut serving = Serving { desk, map, run };
        let hello = Hello::client(CLIENT, StoreId::new(1, 0));
        serving.desk.0.events.borrow_mut().push(NetEvent::Opened { conn: CONN, hello, inbound: true });
        serving.load();
        serving
    }

    /// Lets the store and its jobs run once.
    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        assert!(self.run.as_mut().poll(&mut context).is_pending(), "it serves until it is stopped");
        let tasks = std::mem::take(&mut *self.desk.0.tasks.borrow_mut());
        let left =
            tasks.into_iter().filter_map(|mut task| task.as_mut().poll(&mut context).is_pending().then_some(task));
        let left: Vec<Task> = left.collect();
        self.desk.0.tasks.borrow_mut().extend(left);
    }

    /// Gives the store bytes, and takes `frames` answers; their bytes.
    fn ask(&mut self, bytes: &Bytes, answers: usize) -> usize {
        self.desk.0.sent.borrow_mut().clear();
        self.desk.0.events.borrow_mut().push(NetEvent::Received { conn: CONN, bytes: bytes.clone() });
        while self.sent_bytes() < answers {
            self.poll();
        }
        self.sent_bytes()
    }

    fn sent_bytes(&self) -> usize {
        self.desk.0.sent.borrow().iter().map(Bytes::len).sum()
    }

    fn header(&self, at: usize) -> RequestHeader {
        let shard = &self.map.shards[at];
        RequestHeader { shard: shard.id, generation: shard.generation, epoch: 1, deadline_ms: 60_000, attempt: 0 }
    }

    /// Writes all keys, a request of 512 to a shard at a time; repeats what is refused, as long as nobody leads.
    fn load(&mut self) {
        let finder = self.map.finder();
        let mut seq = 0;
        let mut by_shard: BTreeMap<usize, Vec<Operation>> = BTreeMap::new();
        for number in 0..KEYS {
            let at = finder.find(KEYSPACE, &key(number)).expect("the keyspace is there");
            let expiry_ms = self.desk.now().wall_ms + 60_000;
            let op = Operation {
                seq: 0,
                expiry_ms,
                keyspace: KEYSPACE,
                kind: OpKind::Put,
                key: key(number),
                value: value(),
            };
            by_shard.entry(at).or_default().push(op);
        }
        for (at, ops) in by_shard {
            for part in ops.chunks(512) {
                let mut part = part.to_vec();
                for op in &mut part {
                    seq += 1;
                    op.seq = seq;
                }
                let since = Instant::now();
                while !self.write(at, &Operations { client: CLIENT, floor: 1, ops: part.clone() }) {
                    assert!(since.elapsed() < Duration::from_secs(30), "nobody leads");
                }
            }
        }
    }

    fn write(&mut self, at: usize, ops: &Operations) -> bool {
        let (mut body, mut out) = (Vec::new(), Vec::new());
        WriteRequest::encode_header(&self.header(at), &mut body);
        Operations::encode_each(ops.client, ops.floor, ops.ops.iter(), &mut body);
        frame::encode(Kind::Write, 1, &body, &mut out);
        self.ask(&out.into(), 1);
        let mut decoder = Decoder::new(1 << 20);
        self.desk.0.sent.borrow().iter().filter(|sent| sent.len() != 96).for_each(|sent| decoder.feed(sent));
        let Ok(Some(message)) = decoder.next() else { return false };
        let mut reader = ringkv_wire::codec::Reader::new(message.body);
        StatusHeader::decode(&mut reader).is_ok_and(|(header, _)| header.status == Status::Ok)
    }

    /// One frame of `each` keys to every shard, in one piece.
    fn frames(&self, numbers: &mut dyn Iterator<Item = u64>, each: usize) -> Bytes {
        let finder = self.map.finder();
        let mut by_shard = vec![Vec::new(); self.map.shards.len()];
        while by_shard.iter().any(|keys| keys.len() < each) {
            let key = key(numbers.next().unwrap_or_default());
            let keys: &mut Vec<Bytes> = &mut by_shard[finder.find(KEYSPACE, &key).unwrap_or_default()];
            if keys.len() < each {
                keys.push(key);
            }
        }
        let mut out = Vec::new();
        for (at, keys) in by_shard.iter().enumerate() {
            let mut body = Vec::new();
            let keys = keys.iter().map(|key| (KEYSPACE, &key[..]));
            ReadRequest::encode_each(&self.header(at), ReadLevel::Linearizable, keys, &mut body);
            frame::encode(Kind::Read, at as u64 + 1, &body, &mut out);
        }
        out.into()
    }
}

fn reads(c: &mut Criterion) {
    let mut serving = Serving::new();
    let mut numbers = scattered(KEYS);
    let shards = serving.map.shards.len();
    let mut group = c.benchmark_group("store");
    for each in [32, 4, 1] {
        let asked: Vec<Bytes> = (0..512).map(|_| serving.frames(&mut numbers, each)).collect();
        let answers = shards * (frame::FRAME_HEADER_BYTES + 48 + each * (16 + value().len()));
        assert_eq!(serving.ask(&asked[0], answers), answers, "every key is found, and answered in one turn");
        let mut next = asked.iter().cycle();
        group.throughput(Throughput::Elements((shards * each) as u64));
        group.bench_function(format!("gets, {shards} frames of {each}"), |b| {
            b.iter(|| next.next().map(|bytes| serving.ask(bytes, answers)));
        });
    }
    group.finish();
}

criterion_group!(benches, reads);
criterion_main!(benches);
