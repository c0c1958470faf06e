//! Real nodes on loopback, and a client of bare frames that hides nothing.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

use bytes::Bytes;
use ringkv_wire::entry::{OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{ANY_STORE, Answer, HELLO_BYTES, Hello};
use ringkv_wire::ids::{ClientId, KeyspaceId, ShardId, StoreId};
use ringkv_wire::msg::client::{
    self, ReadKeys, ReadLevel, ReadRequest, ReadResult, RequestHeader, StatusHeader, WriteRequest, WriteResult,
};
use ringkv_wire::ring::topology::ClusterMap;
use ringkv_wire::status::Status;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub const KEYSPACE: KeyspaceId = KeyspaceId(1);
const CLUSTER: &str = "00112233445566778899aabbccddeeff";
/// However slow the machine is, nothing here takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How the nodes are run.
#[derive(Clone)]
pub struct Shape {
    pub nodes: u32,
    pub replicas: u8,
    pub stores: u16,
    pub shard_bits: u8,
    pub host: &'static str,
    /// Lines for every node's file.
    pub extra: String,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape { nodes: 3, replicas: 3, stores: 1, shard_bits: 1, host: "auto", extra: String::new() }
    }
}

/// Nodes of this test; killed with it.
pub struct Cluster {
    shape: Shape,
    dir: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    children: Vec<Option<Child>>,
}

impl Cluster {
    pub fn start(shape: Shape) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let addresses = free_blocks(shape.nodes, shape.stores);
        let children = (0..shape.nodes).map(|_| None).collect();
        let mut cluster = Cluster { shape, dir, addresses, children };
        for node in 1..=cluster.shape.nodes {
            cluster.boot(node, None);
        }
        cluster
    }

    pub fn seeds(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn address(&self, node: u32) -> SocketAddr {
        self.addresses[node as usize - 1]
    }

    pub fn data_dir(&self, node: u32) -> PathBuf {
        self.dir.path().join(format!("n{node}"))
    }

    /// The command that runs a node, as its operator would.
    pub fn command(&self, node: u32, cores: Option<u32>) -> Command {
        let file = self.dir.path().join(format!("n{node}.toml"));
        std::fs::write(&file, &self.shape.extra).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvnode"));
        command
            .args(["--pin", "none", "--spin-us", "0", "--exit-with-stdin", "--cluster", CLUSTER])
            .args(["--host", self.shape.host])
            .arg("--config")
            .arg(file)
            .arg("--data-dir")
            .arg(self.data_dir(node))
            .args(["--node-id", &node.to_string(), "--listen", &self.address(node).to_string()])
            .args(["--replicas", &self.shape.replicas.to_string()])
            .args(["--shard-bits", &self.shape.shard_bits.to_string()])
            .args(["--stores", &self.shape.stores.to_string()])
            .args(["--cores", &cores.unwrap_or(1).to_string()]);
        for (at, address) in self.addresses.iter().enumerate() {
            command.arg("--member").arg(format!("{}@{address}/{}", at + 1, self.shape.stores));
        }
        command
    }

    pub fn boot(&mut self, node: u32, cores: Option<u32>) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("n{node}.log")))
            .unwrap();
        let child = self.command(node, cores).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.children[node as usize - 1] = Some(child);
    }

    fn signal(&self, node: u32, signal: rustix::process::Signal) {
        let child = self.children[node as usize - 1].as_ref().expect("the node runs");
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn pause(&self, node: u32) {
        self.signal(node, rustix::process::Signal::STOP);
    }

    pub fn resume(&self, node: u32) {
        self.signal(node, rustix::process::Signal::CONT);
    }

    pub fn kill(&mut self, node: u32) {
        let mut child = self.children[node as usize - 1].take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks the node to end, and waits until it has.
    pub fn end(&mut self, node: u32) -> ExitStatus {
        self.signal(node, rustix::process::Signal::TERM);
        let mut child = self.children[node as usize - 1].take().expect("the node runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "node {node} does not end\n{}", self.log(node));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self, node: u32) -> String {
        std::fs::read_to_string(self.dir.path().join(format!("n{node}.log"))).unwrap_or_default()
    }

    pub fn alive(&mut self, node: u32) -> bool {
        self.children[node as usize - 1].as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for node in 1..=self.shape.nodes {
                eprintln!("--- node {node} said:\n{}", self.log(node));
            }
        }
    }
}

/// Where this process looks for ports next.
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);

/// Blocks of consecutive free ports, below those that the system gives to clients; none twice in this process.
fn free_blocks(nodes: u32, stores: u16) -> Vec<SocketAddr> {
    const FIRST: u16 = 12_000;
    const SPAN: u16 = 19_000;
    let start = (std::process::id() as u16 % 1_000) * 19;
    let mut addresses = Vec::new();
    while addresses.len() < nodes as usize {
        let offset = NEXT_PORT.fetch_add(1 + stores, Ordering::Relaxed);
        let at = FIRST + (start + offset) % SPAN;
        let held: Vec<_> = (at..at + 1 + stores).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if held.iter().all(|listener| listener.is_ok()) {
            addresses.push(SocketAddr::from(([127, 0, 0, 1], at)));
        }
    }
    addresses
}

/// One connection that speaks bare frames.
pub struct Raw {
    pub stream: TcpStream,
    decoder: Decoder,
    next_id: u64,
}

impl Raw {
    /// Connects to a node's common port and asks for one of its stores.
    pub fn connect(address: SocketAddr, wanted: StoreId, client: ClientId) -> std::io::Result<Raw> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(&Hello::client(client, wanted).encode())?;
        let mut answer = [0; HELLO_BYTES];
        stream.read_exact(&mut answer)?;
        let answer = Hello::decode(&answer).map_err(std::io::Error::other)?;
        if answer.answer != Answer::Welcome {
            return Err(std::io::Error::other(format!("{:?}", answer.answer)));
        }
        Ok(Raw { stream, decoder: Decoder::new(64 << 20), next_id: 1 })
    }

    pub fn send(&mut self, kind: Kind, body: &[u8]) -> std::io::Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = Vec::new();
        frame::encode(kind, id, body, &mut bytes);
        self.stream.write_all(&bytes)?;
        Ok(id)
    }

    pub fn receive(&mut self) -> std::io::Result<Message> {
        let mut buf = vec![0; 64 << 10];
        loop {
            if let Some(message) = self.decoder.next().map_err(std::io::Error::other)? {
                return Ok(message);
            }
            match self.stream.read(&mut buf)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                n => self.decoder.feed(&buf[..n]),
            }
        }
    }

    pub fn ask(&mut self, kind: Kind, body: &[u8]) -> std::io::Result<Message> {
        let id = self.send(kind, body)?;
        loop {
            let message = self.receive()?;
            if message.id == id {
                return Ok(message);
            }
        }
    }
}

/// A client that finds leaders by asking around, retries with the same sequence, and keeps nothing back.
pub struct Probe {
    pub map: ClusterMap,
    client: ClientId,
    conns: BTreeMap<StoreId, Raw>,
    seqs: BTreeMap<ShardId, u64>,
}

pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Probe {
    /// A client of its own; waits until any node answers.
    pub fn new(cluster: &Cluster, number: u8) -> Probe {
        let mut client = [number; 16];
        client[..8].copy_from_slice(&(std::process::id() as u64 ^ wall_ms()).to_le_bytes());
        let client = ClientId(client);
        let any = StoreId { store: ANY_STORE, ..StoreId::default() };
        let began = Instant::now();
        loop {
            for &seed in cluster.seeds() {
                let Ok(mut raw) = Raw::connect(seed, any, client) else { continue };
                let Ok(reply) = raw.ask(Kind::Map, &0u64.to_le_bytes()) else { continue };
                assert_eq!(reply.kind, Kind::MapReply);
                let map = ClusterMap::decode(reply.body.slice(client::STATUS_HEADER_BYTES..)).unwrap();
                return Probe { map, client, conns: BTreeMap::new(), seqs: BTreeMap::new() };
            }
            assert!(began.elapsed() < PATIENCE, "no node answers");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn header(&self, key: &[u8]) -> RequestHeader {
        let shard = self.map.shard_of(KEYSPACE, key).unwrap();
        let (generation, epoch) = (shard.generation, self.map.epoch);
        RequestHeader { shard: shard.id, generation, epoch, deadline_ms: 5_000, attempt: 0 }
    }

    pub fn connect(&self, store: StoreId) -> std::io::Result<Raw> {
        Raw::connect(self.map.address(store).unwrap(), store, self.client)
    }

    fn conn(&mut self, store: StoreId) -> std::io::Result<&mut Raw> {
        if !self.conns.contains_key(&store) {
            let raw = self.connect(store)?;
            raw.stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            self.conns.insert(store, raw);
        }
        Ok(self.conns.get_mut(&store).unwrap())
    }

    /// One attempt at one store; an error of the connection forgets it.
    pub fn at(&mut self, store: StoreId, kind: Kind, body: &[u8]) -> std::io::Result<Message> {
        let result = self.conn(store).and_then(|raw| raw.ask(kind, body));
        if result.is_err() {
            self.conns.remove(&store);
        }
        result
    }

    /// Asks replica after replica, except of `without`, until one answers with something final.
    fn until<T>(
        &mut self,
        key: &[u8],
        without: Option<u32>,
        mut ask: impl FnMut(&mut Probe, StoreId) -> Option<T>,
    ) -> (T, StoreId) {
        let replicas = self.map.shard_of(KEYSPACE, key).unwrap().replicas.clone();
        let began = Instant::now();
        loop {
            for &store in replicas.iter().filter(|store| Some(store.node.0) != without) {
                if let Some(answer) = ask(self, store) {
                    return (answer, store);
                }
            }
            assert!(began.elapsed() < PATIENCE, "nobody answers for {key:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Writes until it is acknowledged; who acknowledged it.
    pub fn put(&mut self, key: &[u8], value: &[u8], without: Option<u32>) -> StoreId {
        let body = self.write_body(key, value);
        self.until(key, without, |probe, store| {
            let (header, results) = decode_write(probe.at(store, Kind::Write, &body).ok()?)?;
            let applied = header.status == Status::Ok && results.first()?.status == Status::Ok;
            applied.then_some(())
        })
        .1
    }

    pub fn write_body(&mut self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let header = self.header(key);
        let seq = self.seqs.entry(header.shard).or_insert(0);
        *seq += 1;
        let op = Operation {
            seq: *seq,
            expiry_ms: wall_ms() + 60_000,
            keyspace: KEYSPACE,
            kind: OpKind::Put,
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
        };
        let ops = Operations { client: self.client, floor: *seq, ops: vec![op] };
        let mut body = Vec::new();
        WriteRequest::encode(&header, &ops, &mut body);
        body
    }

    pub fn read_body(&self, key: &[u8]) -> Vec<u8> {
        let keys = ReadKeys::new(std::iter::once((KEYSPACE, key)));
        let request = ReadRequest { header: self.header(key), level: ReadLevel::Linearizable, keys };
        let mut body = Vec::new();
        request.encode(&mut body);
        body
    }

    /// Reads until someone answers.
    pub fn get(&mut self, key: &[u8], without: Option<u32>) -> Option<Bytes> {
        let body = self.read_body(key);
        let answer = self.until(key, without, |probe, store| {
            let (_, results) = decode_read(probe.at(store, Kind::Read, &body).ok()?)?;
            results.into_iter().next().filter(|r| *r != ReadResult::Unreadable)
        });
        match answer.0 {
            ReadResult::Found { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Who leads a key's shard, by asking until someone serves it.
    pub fn leader(&mut self, key: &[u8], without: Option<u32>) -> StoreId {
        let body = self.read_body(key);
        self.until(key, without, |probe, store| decode_read(probe.at(store, Kind::Read, &body).ok()?).map(|_| ())).1
    }
}

/// A served write's answer; `None` for any refusal.
pub fn decode_write(message: Message) -> Option<(StatusHeader, Vec<WriteResult>)> {
    if message.kind != Kind::WriteReply {
        return None;
    }
    Some(client::decode_write_reply(message.body).unwrap())
}

/// A served read's answer; `None` for any refusal.
pub fn decode_read(message: Message) -> Option<(StatusHeader, Vec<ReadResult>)> {
    if message.kind != Kind::ReadReply {
        return None;
    }
    let (header, results) = client::decode_read_reply(message.body).unwrap();
    Some((header, results.iter().collect()))
}
