//! Toy stores, wrong by themselves: what the checks say of a store that has no protocol at all.

#![expect(clippy::unwrap_used, reason = "a toy may stop at what the shipped session must never send")]

use bytes::Bytes;
use kvsim::cluster::Runner;
use kvsim::host::VirtualHost;
use kvsim::plan::{FaultKind, Options};
use kvsim::sim::{Outcome, run_with};
use ringkv_core::raft::Role;
use ringkv_shard::config::{Control, ShardView, StoreConfig, StoreView};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_wire::entry::{OpKind, Operations};
use ringkv_wire::frame::{Decoder, Kind, Message, encode};
use ringkv_wire::hello::{Answer, Hello};
use ringkv_wire::ids::ShardId;
use ringkv_wire::msg::client::{
    ReadRequest, ReadResult, StatusHeader, WriteRequest, WriteResult, encode_write_reply, put_read_result,
};
use ringkv_wire::ring::topology::ShardInfo;
use ringkv_wire::status::Status;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How a toy store is wrong.
#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    None,
    /// Now and then a read is answered from before the last write.
    Stale,
    /// Now and then a write is acknowledged and not done.
    Drops,
    /// It says that it leads although another does.
    TwoLeaders,
    /// It draws from a chance that is not the seed's.
    Chance,
}

/// A store without replication: the first replica of a shard keeps it in memory. Right as long as nobody dies.
struct Toy {
    host: VirtualHost,
    config: StoreConfig,
    flaw: Flaw,
    decoders: BTreeMap<ConnId, Decoder>,
    data: BTreeMap<Bytes, (Bytes, u64)>,
    old: BTreeMap<Bytes, (Bytes, u64)>,
    done: BTreeMap<(ShardId, [u8; 16], u64), WriteResult>,
    index: u64,
}

impl Toy {
    fn leads(&self, shard: ShardId) -> Option<&ShardInfo> {
        self.config.map.shard(shard).filter(|info| info.replicas[0] == self.config.id)
    }

    fn header(&self, shard: ShardId, status: Status) -> StatusHeader {
        let info = self.config.map.shard(shard);
        StatusHeader {
            shard,
            generation: info.map(|i| i.generation).unwrap_or_default(),
            status,
            level: u8::from(status == Status::Ok),
            leader: info.map(|i| i.replicas[0]),
            epoch: self.config.map.epoch,
            log_time_ms: self.host.now().wall_ms,
            index: self.index,
            store_us: 0,
        }
    }

    fn refuse(&self, shard: ShardId, status: Status, out: &mut Vec<u8>) -> Kind {
        self.header(shard, status).encode(0, out);
        Kind::Refused
    }

    fn write(&mut self, body: Bytes, out: &mut Vec<u8>) -> Kind {
        let request = WriteRequest::decode(body).unwrap();
        let shard = request.header.shard;
        if self.leads(shard).is_none() {
            return self.refuse(shard, Status::NotLeader, out);
        }
        let ops = Operations::decode(request.body).unwrap();
        self.index += 1;
        let mut results = Vec::new();
        for op in ops.ops {
            let result = WriteResult { status: Status::Ok, version: self.index };
            let seen = self.done.entry((shard, ops.client.0, op.seq)).or_insert(result);
            results.push(*seen);
            if seen.version != self.index || (self.flaw == Flaw::Drops && self.host.random().is_multiple_of(10)) {
                continue;
            }
            if let Some(old) = self.data.get(&op.key) {
                self.old.insert(op.key.clone(), old.clone());
            }
            match op.kind {
                OpKind::Put => self.data.insert(op.key, (op.value, self.index)),
                OpKind::Delete => self.data.remove(&op.key),
            };
        }
        encode_write_reply(&self.header(shard, Status::Ok), &results, out);
        Kind::WriteReply
    }

    fn read(&mut self, body: Bytes, out: &mut Vec<u8>) -> Kind {
        let request = ReadRequest::decode(body).unwrap();
        let shard = request.header.shard;
        if self.leads(shard).is_none() {
            return self.refuse(shard, Status::NotLeader, out);
        }
        self.header(shard, Status::Ok).encode(request.keys.len() as u32, out);
        for (_, key) in request.keys.iter() {
            let stale = self.flaw == Flaw::Stale && self.host.random().is_multiple_of(10);
            let found = if stale { self.old.get(key) } else { self.data.get(key) };
            let found = found.map(|(value, version)| ReadResult::Found { value: value.clone(), version: *version });
            put_read_result(&found.unwrap_or(ReadResult::Absent), out);
        }
        Kind::ReadReply
    }

    fn message(&mut self, conn: ConnId, message: Message) {
        let mut body = Vec::new();
        let kind = match message.kind {
            Kind::Write => self.write(message.body, &mut body),
            Kind::Read => self.read(message.body, &mut body),
            Kind::Map => {
                self.header(ShardId::default(), Status::Ok).encode(0, &mut body);
                self.config.map.encode(&mut body);
                Kind::MapReply
            }
            other => panic!("{other:?}"),
        };
        let mut frame = Vec::new();
        encode(kind, message.id, &body, &mut frame);
        self.host.send(conn, Bytes::from(frame));
    }

    fn event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Opened { conn, .. } => {
                let hello = Hello {
                    answer: Answer::Welcome,
                    from: self.config.id,
                    ..Hello::client(Default::default(), self.config.id)
                };
                self.host.send(conn, Bytes::copy_from_slice(&hello.encode()));
                self.decoders.insert(conn, Decoder::new(64 << 20));
            }
            NetEvent::Received { conn, bytes } => {
                let Some(decoder) = self.decoders.get_mut(&conn) else { return };
                decoder.feed(&bytes);
                let mut messages = Vec::new();
                while let Some(message) = decoder.next().unwrap() {
                    messages.push(message);
                }
                messages.into_iter().for_each(|message| self.message(conn, message));
            }
            NetEvent::Closed { conn } => drop(self.decoders.remove(&conn)),
        }
    }
}

fn view(config: &StoreConfig, flaw: Flaw, term: u64) -> StoreView {
    let here = config.map.shards.iter().filter(|s| s.replicas.contains(&config.id));
    let shards = here.map(|s| ShardView {
        shard: s.id,
        generation: s.generation,
        role: if s.replicas[0] == config.id || flaw == Flaw::TwoLeaders { Role::Leader } else { Role::Follower },
        term,
        leader: Some(s.replicas[0]),
        commit: 0,
        applied: 0,
        last_index: 0,
        log_time_ms: 0,
        session_bytes: 0,
        raft_bytes: 0,
    });
    StoreView {
        id: config.id,
        admitted: true,
        failed: false,
        memtable_bytes: 0,
        queues: Default::default(),
        shards: shards.collect(),
    }
}

fn toy(flaw: Flaw) -> Runner {
    Rc::new(move |host: VirtualHost, config: StoreConfig, control: Control| {
        let seen = config.clone();
        // Another term in each life: only what it forgets is wrong.
        let term = if flaw == Flaw::TwoLeaders { 1 } else { host.exec().now_ns() + 1 };
        control.attach(Rc::new(|| {}), Rc::new(move || view(&seen, flaw, term)));
        let (decoders, data, old, done) = Default::default();
        let mut toy = Toy { host: host.clone(), config, flaw, decoders, data, old, done, index: 0 };
        Box::pin(async move {
            let mut events = Vec::new();
            loop {
                host.wait(u64::MAX).await;
                host.take_events(&mut events);
                if flaw == Flaw::Chance {
                    let here = &events as *const Vec<NetEvent> as u64 ^ std::process::id() as u64;
                    host.exec().note(here ^ u64::from(std::time::Instant::now().elapsed().subsec_nanos()));
                }
                events.drain(..).for_each(|event| toy.event(event));
            }
        })
    })
}

fn go(seed: u64, flaw: Flaw, calm: bool) -> Outcome {
    run_with(seed, &Options { nodes: Some(3), seconds: Some(10), calm, ..Options::default() }, toy(flaw))
}

#[test]
fn a_right_store_passes_when_all_is_calm() {
    for seed in 0..10 {
        let outcome = go(seed, Flaw::None, true);
        assert_eq!(outcome.wrong, Vec::<String>::new(), "seed {seed}");
        assert!(outcome.operations.1 > 20, "seed {seed}: {:?}", outcome.operations);
        assert_eq!(outcome.trace, go(seed, Flaw::None, true).trace, "seed {seed}");
    }
}

/// How many of 10 seeds find it.
fn found(flaw: Flaw, calm: bool, word: &str) -> usize {
    (0..10).filter(|&seed| go(seed, flaw, calm).wrong.iter().any(|wrong| wrong.contains(word))).count()
}

#[test]
fn a_store_that_forgets_is_caught() {
    let options =
        Options { nodes: Some(3), seconds: Some(10), faults: Some(vec![FaultKind::KillProcess]), ..Options::default() };
    let forgets =
        |&seed: &u64| run_with(seed, &options, toy(Flaw::None)).wrong.iter().any(|w| w.contains("not linearizable"));
    assert!((0..10).filter(forgets).count() >= 3);
}

#[test]
fn stale_reads_are_caught() {
    assert!(found(Flaw::Stale, true, "not linearizable") >= 8);
}

#[test]
fn dropped_writes_are_caught() {
    assert!(found(Flaw::Drops, true, "not linearizable") >= 8);
}

#[test]
fn two_leaders_are_caught() {
    assert_eq!(found(Flaw::TwoLeaders, true, "two leaders"), 10);
}

#[test]
fn chance_that_is_not_the_seeds_is_caught() {
    assert!((0..10).any(|seed| go(seed, Flaw::Chance, true).trace != go(seed, Flaw::Chance, true).trace));
}
