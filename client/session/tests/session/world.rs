//! A session and the stores it talks to, one step at a time: a test sees each request and says what is answered.

use bytes::Bytes;
use ringkv_session::{
    Actions, Ask, Call, CallId, ClientId, Completion, ConnKey, Error, KeyspaceId, NodeId, Now, Session, SessionConfig,
    StoreId, Value, Written,
};
use ringkv_wire::entry::Operations;
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{Answer, Hello};
use ringkv_wire::ids::{ClusterId, Generation, ShardId};
use ringkv_wire::limits;
use ringkv_wire::msg::client::*;
use ringkv_wire::msg::node;
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use ringkv_wire::status::Status;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub const KEYSPACE: KeyspaceId = KeyspaceId(1);
pub const CLIENT: ClientId = ClientId([9; 16]);

/// A request as a store sees it.
#[derive(Debug)]
pub struct Asked {
    pub conn: ConnKey,
    pub store: StoreId,
    pub id: u64,
    pub kind: Kind,
    pub body: Bytes,
}

impl Asked {
    pub fn write(&self) -> (RequestHeader, Operations) {
        assert_eq!(self.kind, Kind::Write);
        let request = WriteRequest::decode(self.body.clone()).expect("a write");
        (request.header, Operations::decode(request.body).expect("operations"))
    }

    pub fn read(&self) -> ReadRequest {
        assert_eq!(self.kind, Kind::Read);
        ReadRequest::decode(self.body.clone()).expect("a read")
    }
}

pub struct World {
    pub session: Session,
    pub now: Now,
    pub map: ClusterMap,
    pub open: BTreeMap<ConnKey, (StoreId, Decoder)>,
    pub asked: VecDeque<Asked>,
    pub done: BTreeMap<CallId, Completion>,
    pub closed: Vec<ConnKey>,
    /// Stores that refuse connections.
    pub down: BTreeSet<StoreId>,
    /// Stores whose connects are never answered.
    pub mute: BTreeSet<StoreId>,
    /// Requests for the map are answered without the test.
    pub maps_answered: bool,
    random: u64,
}

/// Three nodes of two stores, four shards, three replicas.
pub fn map() -> ClusterMap {
    let member = |id: u32| Member {
        id: NodeId(id),
        address: ([127, 0, 0, id as u8], 7000).into(),
        weight: 100,
        rack: String::new(),
        stores: vec![([127, 0, 0, id as u8], 7001).into(), ([127, 0, 0, id as u8], 7002).into()],
    };
    let keyspace = KeyspaceInfo { id: KEYSPACE, name: "default".into(), pool: 1, routing: Routing::Whole };
    let pool = PoolInfo { id: 1, replicas: 3, shard_bits: 2 };
    ClusterMap::from_members(ClusterId([1; 16]), &[member(1), member(2), member(3)], &[keyspace], &[pool])
}

impl World {
    /// A session that has not yet turned. Seeds are the nodes' common ports.
    pub fn new(change: impl FnOnce(&mut SessionConfig)) -> World {
        let map = map();
        let mut config = SessionConfig::new(map.nodes.iter().map(|n| n.address).collect(), CLIENT);
        change(&mut config);
        let now = Now { boot_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        World {
            session: Session::new(config, now, 7),
            now,
            map,
            open: BTreeMap::new(),
            asked: VecDeque::new(),
            done: BTreeMap::new(),
            closed: Vec::new(),
            down: BTreeSet::new(),
            mute: BTreeSet::new(),
            maps_answered: false,
            random: 0,
        }
    }

    /// A session that has its map.
    pub fn ready() -> World {
        World::ready_with(|_| {})
    }

    pub fn ready_with(change: impl FnOnce(&mut SessionConfig)) -> World {
        let mut world = World::new(change);
        world.turn();
        let asked = world.ask();
        assert_eq!(asked.kind, Kind::Map);
        world.answer_map(&asked);
        world.turn();
        assert!(world.session.map().is_some());
        world.maps_answered = true;
        world
    }

    /// Turns until there is nothing more to do now. Connects are answered at once.
    pub fn turn(&mut self) {
        for _ in 0..20 {
            let mut actions = Actions::default();
            self.random += 1;
            self.session.turn(self.now, self.random, &mut actions);
            let mut idle = actions.connect.is_empty();
            for (key, address, hello) in actions.connect {
                self.connect(key, address, hello);
            }
            for (key, bytes) in actions.send {
                self.take(key, &bytes);
            }
            for key in actions.close {
                self.open.remove(&key);
                self.closed.push(key);
            }
            self.done.extend(actions.done);
            while let Some(at) = self.asked.iter().position(|a| self.maps_answered && a.kind == Kind::Map) {
                let asked = self.asked.remove(at).expect("just found");
                self.answer_map(&asked);
                idle = false;
            }
            if idle {
                return;
            }
        }
        panic!("the session never comes to rest");
    }

    fn connect(&mut self, key: ConnKey, address: SocketAddr, hello: Hello) {
        let store = self.map.nodes.iter().find_map(|n| {
            let own = n.stores.iter().position(|&s| s == address);
            own.or((n.address == address).then_some(0)).map(|s| StoreId { node: n.id, store: s as u16 })
        });
        let store = store.expect("an address of the map");
        assert_eq!(hello.client, CLIENT);
        if self.mute.contains(&store) {
            return;
        }
        if self.down.contains(&store) {
            self.session.closed(self.now, key);
            return;
        }
        self.open.insert(key, (store, Decoder::new(limits::MESSAGE_BYTES_MAX)));
        let welcome = Hello { answer: Answer::Welcome, from: store, cluster: self.map.cluster, ..hello };
        self.session.opened(self.now, key, &welcome);
    }

    fn take(&mut self, key: ConnKey, bytes: &[u8]) {
        let (store, decoder) = self.open.get_mut(&key).expect("bytes only on open connections");
        decoder.feed(bytes);
        while let Some(Message { kind, id, body }) = decoder.next().expect("the session speaks the protocol") {
            self.asked.push_back(Asked { conn: key, store: *store, id, kind, body });
        }
    }

    /// The next request; there must be one.
    pub fn ask(&mut self) -> Asked {
        self.asked.pop_front().expect("a request")
    }

    /// Goes on to when the session wants to be turned, at most `ms`.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now.boot_ns + ms * 1_000_000;
        loop {
            let due = self.session.next_deadline_ns();
            if due > end {
                break;
            }
            self.at(due.max(self.now.boot_ns));
            self.turn();
            assert!(self.session.next_deadline_ns() > self.now.boot_ns, "a turn that leaves work behind");
        }
        self.at(end);
    }

    fn at(&mut self, boot_ns: u64) {
        self.now.wall_ms += (boot_ns - self.now.boot_ns) / 1_000_000;
        self.now.boot_ns = boot_ns;
    }

    pub fn submit(&mut self, ask: Ask) -> CallId {
        self.session.submit(self.now, Call::new(ask))
    }

    pub fn put(&mut self, key: &str, value: &str) -> CallId {
        self.submit(Ask::Put { keyspace: KEYSPACE, key: bytes(key), value: bytes(value) })
    }

    pub fn get(&mut self, key: &str) -> CallId {
        self.submit(Ask::Get { keyspace: KEYSPACE, key: bytes(key) })
    }

    pub fn header(&self, status: Status) -> StatusHeader {
        StatusHeader {
            shard: ShardId(0),
            generation: Generation(1),
            status,
            level: 1,
            leader: None,
            epoch: self.map.epoch,
            log_time_ms: self.now.wall_ms,
            index: 5,
            store_us: 2_000,
        }
    }

    pub fn answer(&mut self, asked: &Asked, kind: Kind, body: &[u8]) {
        let mut out = Vec::new();
        frame::encode(kind, asked.id, body, &mut out);
        self.session.received(self.now, asked.conn, out.into());
    }

    pub fn answer_map(&mut self, asked: &Asked) {
        let mut body = Vec::new();
        node::encode_map_reply(&self.header(Status::Ok), Some(&self.map), &mut body);
        self.answer(asked, Kind::MapReply, &body);
    }

    /// One status for each operation, versions from 100 on.
    pub fn answer_write(&mut self, asked: &Asked, statuses: &[Status]) {
        let result = |(i, &status): (usize, &Status)| {
            let version = if status == Status::Ok { 100 + i as u64 } else { 0 };
            WriteResult { status, version }
        };
        let results: Vec<WriteResult> = statuses.iter().enumerate().map(result).collect();
        let mut body = Vec::new();
        encode_write_reply(&self.header(Status::Ok), &results, &mut body);
        self.answer(asked, Kind::WriteReply, &body);
    }

    pub fn answer_read(&mut self, asked: &Asked, results: &[ReadResult]) {
        let mut body = Vec::new();
        self.header(Status::Ok).encode(results.len() as u32, &mut body);
        results.iter().for_each(|r| put_read_result(r, &mut body));
        self.answer(asked, Kind::ReadReply, &body);
    }

    /// Refuses the whole request.
    pub fn refuse(&mut self, asked: &Asked, status: Status, leader: Option<StoreId>) {
        let mut body = Vec::new();
        StatusHeader { leader, ..self.header(status) }.encode(0, &mut body);
        self.answer(asked, Kind::Refused, &body);
    }

    /// The connection breaks.
    pub fn cut(&mut self, conn: ConnKey) {
        self.open.remove(&conn);
        self.session.closed(self.now, conn);
    }

    /// The first replica of a key's shard.
    pub fn leader(&self, key: &str) -> StoreId {
        self.map.shard_of(KEYSPACE, key.as_bytes()).expect("a shard").replicas[0]
    }

    pub fn replicas(&self, key: &str) -> Vec<StoreId> {
        self.map.shard_of(KEYSPACE, key.as_bytes()).expect("a shard").replicas.clone()
    }

    pub fn written(&mut self, call: CallId) -> Result<Written, Error> {
        match self.done.remove(&call) {
            Some(Completion::Written(result)) => result,
            other => panic!("no write done: {other:?}"),
        }
    }

    pub fn got(&mut self, call: CallId) -> Result<Option<Value>, Error> {
        match self.done.remove(&call) {
            Some(Completion::Got(result)) => result,
            other => panic!("no read done: {other:?}"),
        }
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn found(value: &str, version: u64) -> ReadResult {
    ReadResult::Found { value: bytes(value), version }
}
