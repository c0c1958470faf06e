//! A client that asks whom it should not: it writes to every new leader, and then asks all others for what it wrote.
//!
//! Who was deposed and does not know it yet is so asked at the one moment at which a stale answer shows: right after its
//! successor's first acknowledgement. The shipped session seldom does: it stays with whom it knows, or follows hints. No fault
//! touches this client's machine, so it reaches leaders that nobody else reaches.

mod links;

use crate::client::value;
use crate::clients::Clients;
use crate::clock::MachineClock;
use crate::cluster::{Cluster, KEYSPACE};
use crate::dice::{Dice, Stream};
use crate::history::History;
use crate::host::{Parts, VirtualHost};
use bytes::Bytes;
use lincheck::{Kind, Outcome};
use links::Links;
use ringkv_session::Value;
use ringkv_shard::host::Host;
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_wire::entry::{OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Message};
use ringkv_wire::ids::{ClientId, ShardId, StoreId};
use ringkv_wire::limits::EXPIRY_DEFAULT_MS;
use ringkv_wire::msg::client::{
    ReadLevel, ReadRequest, ReadResult, RequestHeader, WriteRequest, decode_read_reply, decode_write_reply,
};
use ringkv_wire::ring::topology::{ClusterMap, ShardInfo};
use ringkv_wire::status::{self, Status};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// How long a store may take to answer, ms.
const DEADLINE_MS: u32 = 2_000;

/// What was asked and not yet answered, with its place in the history.
enum Asked {
    /// A put, and whom.
    Put(usize, StoreId, ShardId),
    Get(usize),
}

/// The client.
pub struct Rover {
    host: VirtualHost,
    map: Arc<ClusterMap>,
    /// What it writes in each shard.
    keys: BTreeMap<ShardId, Bytes>,
    history: Rc<History>,
    number: u64,
    id: ClientId,
    level: ReadLevel,
    /// Who was elected, and was not yet asked.
    elected: RefCell<Vec<(StoreId, ShardId)>>,
    links: RefCell<Links>,
    /// By number of the request, from 1.
    asked: RefCell<Vec<Option<Asked>>>,
}

impl Rover {
    /// Goes to work on a machine of its own.
    pub fn start(cluster: &Cluster, clients: &Clients, history: Rc<History>) {
        let (map, number) = (cluster.map.clone(), clients.number());
        let id = ClientId([number as u8 + 1; 16]);
        let host = host(cluster, number);
        let rover = Rc::new(Rover {
            links: RefCell::new(Links::new(host.clone(), &map, id)),
            host: host.clone(),
            keys: key_of_each(&map, "rover").into_iter().map(|(shard, key)| (shard, key.into())).collect(),
            map,
            history,
            number,
            id,
            level: if cluster.plan.load.no_lease { ReadLevel::ReadIndex } else { ReadLevel::Linearizable },
            elected: RefCell::default(),
            asked: RefCell::default(),
        });
        let told = Rc::downgrade(&rover);
        cluster.watch.when_elected(Rc::new(move |store, shard| {
            if let Some(rover) = told.upgrade() {
                rover.elected.borrow_mut().push((store, shard));
                rover.host.wake();
            }
        }));
        host.spawn(async move { rover.drive().await });
    }

    async fn drive(&self) {
        let mut events = Vec::new();
        loop {
            let until_ns = self.links.borrow_mut().connect();
            self.host.wait(until_ns).await;
            self.host.take_events(&mut events);
            for event in events.drain(..) {
                let heard = self.links.borrow_mut().hear(event);
                heard.into_iter().for_each(|message| self.answered(message));
            }
            for (leader, shard) in self.elected.take() {
                self.put(leader, shard);
            }
        }
    }

    fn shard(&self, id: ShardId) -> &ShardInfo {
        self.map.shards.iter().find(|shard| shard.id == id).expect("the map does not change")
    }

    fn header(&self, shard: &ShardInfo) -> RequestHeader {
        let (generation, epoch) = (shard.generation, self.map.epoch);
        RequestHeader { shard: shard.id, generation, epoch, deadline_ms: DEADLINE_MS, attempt: 0 }
    }

    fn put(&self, leader: StoreId, shard: ShardId) {
        if !self.links.borrow().reach(leader) {
            return;
        }
        let (name, key) = (self.history.name(self.number), self.keys[&shard].clone());
        let value = value(&name, 1);
        let at = self.history.begin(self.number, &text(&key), Kind::Put, Some(name));
        let mut asked = self.asked.borrow_mut();
        asked.push(Some(Asked::Put(at, leader, shard)));
        // Each is sent once, so all before it are given up.
        let seq = asked.len() as u64;
        let expiry_ms = self.host.now().wall_ms + EXPIRY_DEFAULT_MS;
        let op = Operation { seq, expiry_ms, keyspace: KEYSPACE, kind: OpKind::Put, key, value };
        let mut body = Vec::new();
        let ops = Operations { client: self.id, floor: seq, ops: vec![op] };
        WriteRequest::encode(&self.header(self.shard(shard)), &ops, &mut body);
        self.links.borrow().send(leader, frame::Kind::Write, seq, &body);
    }

    fn get(&self, store: StoreId, shard: &ShardInfo) {
        if !self.links.borrow().reach(store) {
            return;
        }
        let key = self.keys[&shard.id].clone();
        let at = self.history.begin(self.number, &text(&key), Kind::Get, None);
        let mut asked = self.asked.borrow_mut();
        asked.push(Some(Asked::Get(at)));
        let mut body = Vec::new();
        let keys = std::iter::once((KEYSPACE, &key[..]));
        ReadRequest::encode_each(&self.header(shard), self.level, keys, &mut body);
        self.links.borrow().send(store, frame::Kind::Read, asked.len() as u64, &body);
    }

    fn answered(&self, message: Message) {
        let asked = self.asked.borrow_mut().get_mut((message.id as usize).wrapping_sub(1)).and_then(Option::take);
        match asked {
            Some(Asked::Put(at, leader, shard)) => self.written(at, leader, shard, message.body),
            Some(Asked::Get(at)) => self.got(at, message.body),
            None => {}
        }
    }

    fn written(&self, at: usize, leader: StoreId, shard: ShardId, reply: Bytes) {
        let (header, results) = decode_write_reply(reply).expect("a put is answered as a put");
        let status = results.first().map_or(header.status, |result| result.status);
        let version = results.first().map(|result| result.version);
        match status.outcome() {
            status::Outcome::Applied => self.history.end(at, Outcome::Ok, version),
            status::Outcome::NotApplied => self.history.end(at, Outcome::Failed, None),
            status::Outcome::Unknown => {}
        }
        let shard = self.shard(shard);
        for &store in shard.replicas.iter().filter(|&&store| store != leader && status == Status::Ok) {
            self.get(store, shard);
        }
    }

    fn got(&self, at: usize, reply: Bytes) {
        let (_, results) = decode_read_reply(reply).expect("a get is answered as a get");
        match results.iter().next() {
            Some(ReadResult::Found { value, version }) => {
                self.history.got(at, Ok(Some(Value { value, version })));
            }
            Some(ReadResult::Absent) => drop(self.history.got(at, Ok(None))),
            Some(ReadResult::AskAgain | ReadResult::Unreadable) | None => self.history.end(at, Outcome::Failed, None),
        }
    }
}

fn text(key: &Bytes) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Its clocks are right, so that what it writes is not refused for its time.
fn host(cluster: &Cluster, number: u64) -> VirtualHost {
    VirtualHost::new(Parts {
        exec: cluster.exec.clone(),
        net: cluster.net.clone(),
        machine: cluster.net.machine(),
        group: cluster.exec.group(),
        clock: Rc::new(MachineClock::new(0, 0, 0)),
        disk: FaultDisk::new(0),
        dice: Dice::new(cluster.plan.seed, Stream::Client, number << 8),
    })
}

/// A key for each shard.
pub fn key_of_each(map: &ClusterMap, name: &str) -> BTreeMap<ShardId, String> {
    let mut keys = BTreeMap::new();
    for key in (0..).map(|n| format!("{name}{n}")) {
        if let Some(shard) = map.shard_of(KEYSPACE, key.as_bytes()) {
            keys.entry(shard.id).or_insert(key);
        }
        if keys.len() == map.shards.len() {
            break;
        }
    }
    keys
}
