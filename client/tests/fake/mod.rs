//! A cluster in this process: stores that speak the protocol over real sockets, keep one map of keys between them, and do
//! what a test tells them to do wrong.

use bytes::Bytes;
use ringkv_wire::entry::{OpKind, Operations};
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{Answer, HELLO_BYTES, Hello};
use ringkv_wire::ids::*;
use ringkv_wire::limits;
use ringkv_wire::msg::client::*;
use ringkv_wire::msg::node;
use ringkv_wire::ring::hash::Routing;
use ringkv_wire::ring::topology::{ClusterMap, KeyspaceInfo, Member, PoolInfo};
use ringkv_wire::status::Status;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a request that names no shard is answered with.
const NO_SHARD: RequestHeader =
    RequestHeader { shard: ShardId(0), generation: Generation(0), epoch: 0, deadline_ms: 0, attempt: 0 };

/// What a store does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// What it should.
    Right,
    /// Refuses it.
    Refuse(Status),
    /// Nothing: neither applies nor answers.
    Nothing,
    /// Applies it and answers nothing.
    Swallow,
    /// Applies it and closes the connection.
    ApplyAndClose,
    /// Closes the connection.
    Close,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub store: StoreId,
    pub kind: Kind,
    pub keys: usize,
    pub attempt: u16,
    /// (shard, sequence, expiry) of each operation.
    pub tokens: Vec<(ShardId, u64, u64)>,
}

type Plan = Box<dyn FnMut(&Seen) -> Do + Send>;

#[derive(Default)]
pub struct State {
    pub data: BTreeMap<(KeyspaceId, Bytes), (Bytes, u64)>,
    /// The exactly-once table.
    applied: BTreeMap<(ClientId, ShardId, u64), WriteResult>,
    /// Operations applied, repeats left out.
    pub applications: u64,
    pub seen: Vec<Seen>,
    /// Leaders other than the preferred ones.
    pub leaders: BTreeMap<ShardId, StoreId>,
    /// Stores that accept no connection.
    pub down: Vec<StoreId>,
    plan: Option<Plan>,
}

/// A running cluster; it ends with the runtime.
#[derive(Clone)]
pub struct Fake {
    pub map: Arc<ClusterMap>,
    pub state: Arc<Mutex<State>>,
}

impl Fake {
    /// Three nodes of one store each, sixteen shards.
    pub async fn start() -> Fake {
        let mut listeners = Vec::new();
        let mut members = Vec::new();
        for id in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("its address");
            let stores = vec![address];
            members.push(Member { id: NodeId(id), address, weight: 100, rack: String::new(), stores });
            listeners.push(listener);
        }
        let keyspace =
            |id, name: &str| KeyspaceInfo { id: KeyspaceId(id), name: name.into(), pool: 1, routing: Routing::Whole };
        let pool = PoolInfo { id: 1, replicas: 3, shard_bits: 4 };
        let keyspaces = [keyspace(1, "default"), keyspace(2, "other")];
        let map = ClusterMap::from_members(ClusterId([3; 16]), &members, &keyspaces, &[pool]);
        let fake = Fake { map: Arc::new(map), state: Arc::default() };
        for (at, listener) in listeners.into_iter().enumerate() {
            let (fake, store) = (fake.clone(), StoreId::new(at as u32 + 1, 0));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(fake.clone().serve(store, stream));
                }
            });
        }
        fake
    }

    pub fn seeds(&self) -> Vec<String> {
        self.map.nodes.iter().map(|n| n.address.to_string()).collect()
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    /// From now on every request of a shard is treated as `plan` says.
    pub fn plan(&self, plan: impl FnMut(&Seen) -> Do + Send + 'static) {
        self.state().plan = Some(Box::new(plan));
    }

    async fn serve(self, store: StoreId, mut stream: TcpStream) -> Option<()> {
        let mut hello = [0; HELLO_BYTES];
        stream.read_exact(&mut hello).await.ok()?;
        let hello = Hello::decode(&hello).expect("a client says hello first");
        if self.state().down.contains(&store) {
            return None;
        }
        let answer = Hello { answer: Answer::Welcome, from: store, cluster: self.map.cluster, ..hello };
        stream.write_all(&answer.encode()).await.ok()?;
        let mut decoder = Decoder::new(64 << 20);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = stream.read(&mut buffer).await.ok().filter(|&n| n > 0)?;
            decoder.feed(&buffer[..n]);
            while let Some(message) = decoder.next().expect("the client speaks the protocol") {
                let (out, close) = self.answer(store, &message);
                stream.write_all(&out).await.ok()?;
                if close {
                    return None;
                }
            }
        }
    }

    /// The bytes to answer with, and whether to close.
    fn answer(&self, store: StoreId, message: &Message) -> (Vec<u8>, bool) {
        let mut state = self.state();
        let (mut body, mut out) = (Vec::new(), Vec::new());
        let kind = match message.kind {
            Kind::Map => {
                node::encode_map_reply(&header(NO_SHARD, Status::Ok), Some(&self.map), &mut body);
                Kind::MapReply
            }
            Kind::Status => {
                let header = header(NO_SHARD, Status::Ok);
                node::encode_status_reply(&header, &format!("{{\"store\":\"{store}\"}}"), &mut body);
                Kind::StatusReply
            }
            Kind::Write | Kind::Read => {
                let (request, seen) = look(store, message);
                let what = state.plan.as_mut().map_or(Do::Right, |plan| plan(&seen));
                state.seen.push(seen);
                match what {
                    Do::Nothing => return (out, false),
                    Do::Close => return (out, true),
                    Do::Refuse(status) => header(request, status).encode(0, &mut body),
                    _ => body = self.right(&mut state, store, request, message),
                }
                match what {
                    Do::Swallow => return (out, false),
                    Do::ApplyAndClose => return (out, true),
                    _ if message.kind == Kind::Write => Kind::WriteReply,
                    _ => Kind::ReadReply,
                }
            }
            other => panic!("a client sends no {other:?}"),
        };
        frame::encode(kind, message.id, &body, &mut out);
        (out, false)
    }

    fn right(&self, state: &mut State, store: StoreId, request: RequestHeader, message: &Message) -> Vec<u8> {
        let mut body = Vec::new();
        let shard = self.map.shard(request.shard).expect("a shard of the map");
        let leader = state.leaders.get(&shard.id).copied().unwrap_or(shard.replicas[0]);
        if leader != store {
            StatusHeader { leader: Some(leader), ..header(request, Status::NotLeader) }.encode(0, &mut body);
        } else if message.kind == Kind::Write {
            let write = WriteRequest::decode(message.body.clone()).expect("a write");
            let results = state.apply(request.shard, Operations::decode(write.body).expect("operations"));
            encode_write_reply(&header(request, Status::Ok), &results, &mut body);
        } else {
            let read = ReadRequest::decode(message.body.clone()).expect("a read");
            header(request, Status::Ok).encode(read.keys.len() as u32, &mut body);
            for (keyspace, key) in read.keys.iter() {
                let result = match state.data.get(&(keyspace, Bytes::copy_from_slice(key))) {
                    Some(_) if body.len() > limits::MESSAGE_BYTES_MAX - (17 << 20) => ReadResult::AskAgain,
                    Some((value, version)) => ReadResult::Found { value: value.clone(), version: *version },
                    None => ReadResult::Absent,
                };
                put_read_result(&result, &mut body);
            }
        }
        body
    }
}

impl State {
    fn apply(&mut self, shard: ShardId, operations: Operations) -> Vec<WriteResult> {
        let client = operations.client;
        let one = |op: ringkv_wire::entry::Operation| {
            if let Some(&known) = self.applied.get(&(client, shard, op.seq)) {
                return known;
            }
            self.applications += 1;
            let result = WriteResult { status: Status::Ok, version: self.applications };
            match op.kind {
                OpKind::Put => drop(self.data.insert((op.keyspace, op.key), (op.value, result.version))),
                OpKind::Delete => drop(self.data.remove(&(op.keyspace, op.key))),
            }
            self.applied.insert((client, shard, op.seq), result);
            result
        };
        operations.ops.into_iter().map(one).collect()
    }
}

fn look(store: StoreId, message: &Message) -> (RequestHeader, Seen) {
    let (header, keys, tokens) = if message.kind == Kind::Write {
        let write = WriteRequest::decode(message.body.clone()).expect("a write");
        let ops = Operations::decode(write.body).expect("operations");
        let tokens: Vec<_> = ops.ops.iter().map(|o| (write.header.shard, o.seq, o.expiry_ms)).collect();
        (write.header, ops.ops.len(), tokens)
    } else {
        let read = ReadRequest::decode(message.body.clone()).expect("a read");
        (read.header, read.keys.len(), Vec::new())
    };
    (header, Seen { store, kind: message.kind, keys, attempt: header.attempt, tokens })
}

fn header(request: RequestHeader, status: Status) -> StatusHeader {
    StatusHeader {
        shard: request.shard,
        generation: request.generation,
        status,
        level: 1,
        leader: None,
        epoch: 1,
        log_time_ms: 1_700_000_000_000,
        index: 1,
        store_us: 0,
    }
}
