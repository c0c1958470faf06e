//! Chaos: stores that lose, delay, refuse and apply late, over hours of virtual time from a seed. What a call is told must
//! be true in the end: applied exactly once, or never. Every seed runs twice and must leave the same trace.

use crate::world::*;
use bytes::Bytes;
use ringkv_session::{Ask, CallId, Completion, Outcome, Status, StoreId};
use ringkv_wire::entry::{OpKind, Operation};
use ringkv_wire::frame::Kind;
use ringkv_wire::ids::ShardId;
use ringkv_wire::limits;
use ringkv_wire::msg::client::*;
use std::collections::BTreeMap;

/// What the groups of stores agree on: the shards' state machines, as if consensus were perfect.
#[derive(Default)]
struct Group {
    leader: StoreId,
    /// Log time is the world's wall clock plus this, ms.
    ahead_ms: i64,
    floor: u64,
    /// Outcomes by sequence, with their expiry.
    outcomes: BTreeMap<u64, (u64, WriteResult)>,
    index: u64,
}

impl Group {
    fn log_time_ms(&self, w: &World) -> u64 {
        w.now.wall_ms.saturating_add_signed(self.ahead_ms)
    }

    /// PROTOCOL.md §8, for one client.
    fn apply(
        &mut self,
        log_time_ms: u64,
        floor: u64,
        op: &Operation,
        applied: &mut BTreeMap<Bytes, u32>,
    ) -> WriteResult {
        self.outcomes.retain(|&seq, (expiry_ms, _)| seq >= floor.max(self.floor) && *expiry_ms > log_time_ms);
        self.floor = self.floor.max(floor);
        let refuse = |status| WriteResult { status, version: 0 };
        if op.seq < self.floor {
            return refuse(Status::BelowFloor);
        }
        if op.expiry_ms <= log_time_ms || op.expiry_ms > log_time_ms + limits::EXPIRY_WINDOW_MS {
            return refuse(Status::ExpiryWindow);
        }
        if let Some((_, known)) = self.outcomes.get(&op.seq) {
            return *known;
        }
        self.index += 1;
        *applied.entry(op.value.clone()).or_default() += 1;
        let result = WriteResult { status: Status::Ok, version: self.index };
        self.outcomes.insert(op.seq, (op.expiry_ms, result));
        result
    }
}

enum Event {
    /// A request reaches its store.
    Arrive(Asked),
    /// A proposal commits, whoever still waits for it; answered when `Some`.
    Commit(ShardId, u64, Vec<Operation>, Option<Asked>),
}

struct Chaos {
    w: World,
    dice: u64,
    groups: BTreeMap<ShardId, Group>,
    /// Times a value was applied; values are unique.
    applied: BTreeMap<Bytes, u32>,
    events: BTreeMap<(u64, u64), Event>,
    waiting: BTreeMap<CallId, (u64, Vec<Bytes>)>,
    told: BTreeMap<Bytes, Outcome>,
    trace: u64,
    serial: u64,
}

impl Chaos {
    fn new(seed: u64) -> Chaos {
        let w = World::ready_with(|c| c.call_timeout_ms = 4_000);
        let mut chaos = Chaos {
            groups: BTreeMap::new(),
            w,
            dice: seed,
            applied: BTreeMap::new(),
            events: BTreeMap::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
            trace: 0,
            serial: 0,
        };
        for shard in chaos.w.map.shards.clone() {
            let ahead_ms = chaos.roll(200_000) as i64 - 100_000;
            chaos.groups.insert(shard.id, Group { leader: shard.replicas[0], ahead_ms, ..Group::default() });
        }
        chaos
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn later(&mut self, ms: u64, event: Event) {
        self.serial += 1;
        self.events.insert((self.w.now.boot_ns + ms * 1_000_000, self.serial), event);
    }

    fn mark(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3);
    }

    fn step(&mut self, faults: bool) {
        let ms = 1 + self.roll(15);
        self.w.now.boot_ns += ms * 1_000_000;
        self.w.now.wall_ms += ms;
        while let Some(entry) = self.events.first_entry().filter(|e| e.key().0 <= self.w.now.boot_ns) {
            match entry.remove() {
                Event::Arrive(asked) => self.arrive(asked, faults),
                Event::Commit(shard, floor, ops, asked) => self.commit(shard, floor, &ops, asked),
            }
        }
        if faults {
            self.submit();
            self.disturb();
        }
        self.w.turn();
        for asked in std::mem::take(&mut self.w.asked) {
            self.mark(asked.id ^ asked.body.len() as u64);
            // Some requests take long; what a store has read it handles though the connection is gone.
            let ms = if faults && self.roll(20) == 0 { self.roll(3_000) } else { self.roll(5) };
            self.later(ms, Event::Arrive(asked));
        }
        self.settle();
    }

    fn submit(&mut self) {
        for _ in 0..self.roll(3) {
            let count = if self.roll(4) == 0 { 1 + self.roll(30) } else { 1 };
            let pairs: Vec<(Bytes, Bytes)> = (0..count)
                .map(|_| {
                    self.serial += 1;
                    (bytes(&format!("k{}", self.roll(100))), bytes(&format!("v{}", self.serial)))
                })
                .collect();
            self.put_many(pairs);
        }
    }

    fn put_many(&mut self, pairs: Vec<(Bytes, Bytes)>) {
        let values = pairs.iter().map(|(_, v)| v.clone()).collect();
        let id = self.w.submit(Ask::PutMany { keyspace: KEYSPACE, pairs });
        self.waiting.insert(id, (self.w.now.boot_ns, values));
    }

    fn disturb(&mut self) {
        let store = StoreId::new(1 + self.roll(3) as u32, self.roll(2) as u16);
        match self.roll(400) {
            0..=3 => drop(self.w.down.insert(store)),
            4..=5 => drop(self.w.mute.insert(store)),
            6..=20 => {
                self.w.down.remove(&store);
                self.w.mute.remove(&store);
            }
            21..=26 => {
                let cut: Vec<_> = self.w.open.iter().filter(|(_, o)| o.0 == store).map(|(&k, _)| k).collect();
                cut.into_iter().for_each(|key| self.w.cut(key));
            }
            27..=34 => {
                let shards: Vec<ShardId> = self.groups.keys().copied().collect();
                let shard = shards[self.roll(shards.len() as u64) as usize];
                let replicas = self.w.map.shard(shard).expect("a shard").replicas.clone();
                let leader = replicas[self.roll(3) as usize];
                self.groups.get_mut(&shard).expect("a group").leader = leader;
            }
            35 => {
                // A clock that was wrong is set right, or the other way round. Log time never goes back.
                let jump = self.roll(90_000) as i64;
                self.groups.values_mut().for_each(|g| g.ahead_ms += jump);
            }
            _ => {}
        }
    }

    /// A store handles a request.
    fn arrive(&mut self, asked: Asked, faults: bool) {
        if asked.kind != Kind::Write || (faults && self.w.mute.contains(&asked.store)) {
            return;
        }
        let (header, operations) = asked.write();
        for op in &operations.ops {
            assert!(op.seq >= operations.floor && op.kind == OpKind::Put);
        }
        let leader = self.groups[&header.shard].leader;
        if asked.store != leader {
            let hint = (self.roll(3) > 0).then_some(leader);
            return self.refuse(&asked, header.shard, Status::NotLeader, hint);
        }
        let refusals =
            [Status::Busy, Status::DiskFull, Status::StoreFailed, Status::Starting, Status::Expired, Status::TooLarge];
        let (fate, which) = (if faults { self.roll(100) } else { 99 }, self.roll(refusals.len() as u64) as usize);
        match fate {
            0..=4 => self.refuse(&asked, header.shard, refusals[which], None),
            // Proposed, and never heard of again; or committed late, with the connection gone or the answer "unknown".
            5..=8 => {}
            9..=14 => {
                let ms = self.roll(3_000);
                self.later(ms, Event::Commit(header.shard, operations.floor, operations.ops, None));
                if self.roll(2) == 0 {
                    self.refuse(&asked, header.shard, Status::Unknown, None);
                }
            }
            _ => {
                let ms = self.roll(8);
                self.later(ms, Event::Commit(header.shard, operations.floor, operations.ops, Some(asked)));
            }
        }
    }

    fn commit(&mut self, shard: ShardId, floor: u64, ops: &[Operation], asked: Option<Asked>) {
        let group = self.groups.get_mut(&shard).expect("a group");
        let log_time_ms = group.log_time_ms(&self.w);
        let results: Vec<WriteResult> =
            ops.iter().map(|op| group.apply(log_time_ms, floor, op, &mut self.applied)).collect();
        let Some(asked) = asked.filter(|a| self.w.open.contains_key(&a.conn)) else { return };
        let mut body = Vec::new();
        let header = StatusHeader { shard, log_time_ms, ..self.w.header(Status::Ok) };
        encode_write_reply(&header, &results, &mut body);
        self.w.answer(&asked, Kind::WriteReply, &body);
    }

    fn refuse(&mut self, asked: &Asked, shard: ShardId, status: Status, leader: Option<StoreId>) {
        let log_time_ms = if status == Status::NotLeader { 0 } else { self.groups[&shard].log_time_ms(&self.w) };
        let mut body = Vec::new();
        StatusHeader { shard, leader, log_time_ms, ..self.w.header(status) }.encode(0, &mut body);
        self.w.answer(asked, Kind::Refused, &body);
    }

    /// Notes what calls were told.
    fn settle(&mut self) {
        for (id, completion) in std::mem::take(&mut self.w.done) {
            let Completion::WrittenMany(results) = completion else { panic!("only writes were made") };
            let (_, values) = self.waiting.remove(&id).expect("a call is done once");
            assert_eq!(values.len(), results.len());
            for (value, result) in values.into_iter().zip(results) {
                let outcome = result.map_or_else(|e| e.outcome(), |_| Outcome::Applied);
                self.mark(outcome as u64 + 1);
                self.told.insert(value, outcome);
            }
        }
        let now_ns = self.w.now.boot_ns;
        assert!(self.waiting.values().all(|(at_ns, _)| now_ns - at_ns < 4_100_000_000), "a call outlived its deadline");
    }
}

fn run(seed: u64) -> (u64, [usize; 3]) {
    let mut chaos = Chaos::new(seed);
    for _ in 0..2_500 {
        chaos.step(true);
    }
    chaos.w.down.clear();
    chaos.w.mute.clear();
    for _ in 0..1_000 {
        chaos.step(false);
    }
    assert!(chaos.waiting.is_empty(), "every call is done");
    let mut counts = [0; 3];
    for (value, outcome) in &chaos.told {
        let applied = chaos.applied.get(value).copied().unwrap_or(0);
        counts[*outcome as usize] += 1;
        match outcome {
            Outcome::Applied => assert_eq!(applied, 1, "seed {seed}: {value:?} acknowledged"),
            Outcome::NotApplied => assert_eq!(applied, 0, "seed {seed}: {value:?} refused"),
            Outcome::Unknown => assert!(applied <= 1, "seed {seed}: {value:?} applied {applied} times"),
        }
    }
    // When all is well again, calls succeed at once.
    chaos.put_many(vec![(bytes("after"), bytes("all"))]);
    (0..100).for_each(|_| chaos.step(false));
    assert_eq!(chaos.told.get(&bytes("all")), Some(&Outcome::Applied), "seed {seed}: alive after the faults");
    (chaos.trace, counts)
}

#[test]
fn what_calls_are_told_is_true() {
    let mut all = [0; 3];
    for seed in 0..8 {
        let (trace, counts) = run(seed);
        if seed == 0 {
            assert_eq!(run(seed), (trace, counts), "seed {seed}: the same seed, another trace");
        }
        all.iter_mut().zip(counts).for_each(|(a, c)| *a += c);
    }
    println!("applied, not applied, unknown: {all:?}");
    assert!(all[0] > 10 * (all[1] + all[2]), "most succeed: {all:?}");
    assert!(all[1] > 0 && all[2] > 0, "the faults are felt: {all:?}");
}
