//! The world of the model: clocks, network, disks, faults, and what must always hold.

use crate::replica::Replica;
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ringkv_core::effects::{Effects, Outgoing, Persist};
use ringkv_core::raft::{Input, Role};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::config::Configuration;
use std::collections::BTreeMap;

/// A rule that the canaries break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    Nothing,
    /// What promises durability leaves at once.
    EarlyRelease,
    /// A crash loses term and vote.
    ForgetVote,
    /// A replica that was stopped answers reads by the time it took before the stop.
    StaleNow,
    /// A crash loses the last durable entry.
    LoseEntry,
}

struct Flying {
    due_ns: u64,
    from: StoreId,
    to: StoreId,
    message: Outgoing,
}

/// A snapshot on its way: index, term and log time; the configuration with its index.
struct Shipment {
    due_ns: u64,
    leader: usize,
    to: StoreId,
    at: (u64, u64, u64),
    config: (u64, Configuration),
}

struct Clock {
    rate_permille: u64,
    wall_offset_ms: u64,
    paused_since_ns: u64,
    paused_until_ns: u64,
    /// Nothing leaves, nothing arrives.
    mute_until_ns: u64,
    deaf_until_ns: u64,
}

struct WaitingRead {
    node: usize,
    /// The greatest index known committed when it was asked.
    least: u64,
}

pub struct World {
    rng: ChaCha8Rng,
    now_ns: u64,
    rule: Break,
    nodes: Vec<Replica>,
    clocks: Vec<Clock>,
    flying: Vec<Flying>,
    shipping: Vec<Shipment>,
    faults: bool,
    calm: u64,
    token: u64,
    reads: BTreeMap<u64, WaitingRead>,
    proposed: BTreeMap<u64, usize>,
    leaders: BTreeMap<u64, StoreId>,
    /// What was ever appended as (index, term): the entry and the term before it.
    appended: BTreeMap<(u64, u64), (Entry, u64)>,
    applied: BTreeMap<u64, Entry>,
    pub reads_granted: usize,
    pub reads_by_lease: usize,
    pub snapshots_installed: usize,
    pub trace: Vec<String>,
}

type Found = Result<(), String>;

impl World {
    /// Runs one seed; gives what was found wrong.
    pub fn run(seed: u64, replicas: usize, steps: usize, rule: Break) -> Result<World, String> {
        let stores: Vec<_> = (1..=replicas as u32).map(|node| StoreId::new(node, 0)).collect();
        let config = Configuration::of_voters(&stores);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let clocks = (0..replicas)
            .map(|_| Clock {
                rate_permille: 950 + rng.next_u64() % 100,
                wall_offset_ms: if rng.next_u64().is_multiple_of(4) { rng.next_u64() % 10_000_000 } else { 5_000_000 },
                paused_since_ns: 0,
                paused_until_ns: 0,
                mute_until_ns: 0,
                deaf_until_ns: 0,
            })
            .collect();
        let mut world = World {
            rng,
            now_ns: 1_000_000_000,
            rule,
            nodes: stores.iter().map(|&store| Replica::new(store, config.clone())).collect(),
            clocks,
            flying: Vec::new(),
            shipping: Vec::new(),
            faults: true,
            calm: if rule == Break::ForgetVote { 1 } else { 1 + seed % 4 },
            token: 0,
            reads: BTreeMap::new(),
            proposed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            appended: BTreeMap::new(),
            applied: BTreeMap::new(),
            reads_granted: 0,
            reads_by_lease: 0,
            snapshots_installed: 0,
            trace: Vec::new(),
        };
        for i in 0..replicas {
            world.boot(i);
        }
        for _ in 0..steps {
            world.turn()?;
        }
        world.heal()?;
        Ok(world)
    }

    pub fn committed(&self) -> usize {
        self.applied.len()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.faults && self.below(n) == 0
    }

    fn now(&self, i: usize) -> Now {
        let clock = &self.clocks[i];
        let asleep = self.now_ns < clock.paused_until_ns;
        let time_ns = if asleep { clock.paused_since_ns } else { self.now_ns };
        let boot_ns = time_ns / 1_000 * clock.rate_permille;
        Now { boot_ns, wall_ms: clock.wall_offset_ms + self.now_ns / 1_000_000 }
    }

    fn boot(&mut self, i: usize) {
        let (now, random) = (self.now(i), self.rng.next_u64());
        self.nodes[i].boot(now, random);
    }

    /// Time passes, and one or several things happen.
    fn turn(&mut self) -> Found {
        self.now_ns += self.below(12_000_000);
        self.deliver()?;
        self.ship()?;
        for i in 0..self.nodes.len() {
            if self.now_ns < self.clocks[i].paused_until_ns {
                continue;
            }
            let due = self.nodes[i].raft.as_ref().is_some_and(|raft| raft.next_deadline_ns() <= self.now(i).boot_ns);
            if due {
                self.step(i, Input::Tick)?;
            }
            if self.below(3) > 0 {
                self.persist(i)?;
            }
        }
        let i = self.below(self.nodes.len() as u64) as usize;
        self.clients(i)?;
        self.misfortune(i);
        self.check_leaders()
    }

    fn clients(&mut self, i: usize) -> Found {
        let asleep = self.now_ns < self.clocks[i].paused_until_ns;
        for _ in 0..if asleep { 0 } else { self.below(4) } {
            self.token += 1;
            let (token, body) = (self.token, Bytes::from(self.token.to_le_bytes().to_vec()));
            self.proposed.insert(token, i);
            self.step(i, Input::Propose { kind: EntryKind::Operations, body, body_crc: 0, token })?;
        }
        // Everyone is asked, also who only believes to lead.
        for i in 0..self.nodes.len() {
            let awake = self.now_ns >= self.clocks[i].paused_until_ns || self.rule == Break::StaleNow;
            if awake && self.below(3) == 0 {
                self.token += 1;
                let (token, read_index) = (self.token, self.token.is_multiple_of(3));
                self.reads.insert(token, WaitingRead { node: i, least: self.known_committed() });
                self.step(i, Input::Read { token, read_index })?;
            }
        }
        if self.below(40) == 0 {
            self.nodes[i].flush_tree();
            let (index, kept) = (self.nodes[i].disk.flushed.0, self.below(6));
            if let Some(index) = index.checked_sub(kept).filter(|_| self.below(2) == 0) {
                self.reclaim(i, index)?;
            }
        }
        if !asleep && self.one_in(150) {
            self.step(i, Input::Transfer { to: None })?;
        }
        Ok(())
    }

    fn reclaim(&mut self, i: usize, index: u64) -> Found {
        let node = &mut self.nodes[i];
        let (durable, believed) = (node.disk.get(index), node.believed.get(index));
        if durable.is_none() || durable != believed || node.raft.is_none() {
            return Ok(());
        }
        let term = durable.map_or(0, |entry| entry.term);
        node.disk.raise_floor(index, term);
        node.believed.raise_floor(index, term);
        self.step(i, Input::Reclaimed { index })
    }

    fn misfortune(&mut self, i: usize) {
        // Some seeds are calm enough that a group gets somewhere, some are not.
        let calm = self.calm;
        if self.nodes[i].raft.is_none() {
            if self.one_in(20) {
                self.boot(i);
            }
        } else if self.one_in(60 * calm) {
            self.crash(i);
        }
        if self.one_in(40 * calm) {
            let (until, side) = (self.now_ns + self.below(1_000) * 1_000_000, self.below(4));
            if side != 0 {
                self.clocks[i].mute_until_ns = until;
            }
            if side != 1 {
                self.clocks[i].deaf_until_ns = until;
            }
        }
        if self.one_in(40 * calm) {
            let length_ns = self.below(600) * 1_000_000;
            let (now, clock) = (self.now_ns, &mut self.clocks[i]);
            if now >= clock.paused_until_ns {
                (clock.paused_since_ns, clock.paused_until_ns) = (now, now + length_ns);
            }
        }
        if self.one_in(200) {
            self.clocks[i].wall_offset_ms = self.below(20_000_000);
        }
    }

    fn crash(&mut self, i: usize) {
        let kept = self.below(self.nodes[i].queue.len() as u64 + 1) as usize;
        self.trace.push(format!("{} crash {i}", self.now_ns));
        let node = &mut self.nodes[i];
        node.crash(kept);
        if self.rule == Break::ForgetVote {
            node.disk.vote = None;
            node.disk.term = node.disk.entries.last().map_or(node.disk.floor.1, |entry| entry.term);
        }
        if self.rule == Break::LoseEntry && node.disk.last_index() > node.disk.flushed.0 {
            node.disk.entries.pop();
        }
        self.reads.retain(|_, read| read.node != i);
        self.proposed.retain(|_, at| *at != i);
        self.shipping.retain(|ship| ship.leader != i);
    }

    fn persist(&mut self, i: usize) -> Found {
        let node = &mut self.nodes[i];
        let Some((ticket, after)) = node.flush_one() else { return Ok(()) };
        self.fly(i, after);
        self.step(i, Input::Persisted { ticket })
    }

    fn fly(&mut self, i: usize, messages: Vec<(StoreId, Outgoing)>) {
        let from = self.nodes[i].me;
        for (to, message) in messages {
            let clock = &self.clocks[i];
            let silent = self.now_ns < clock.mute_until_ns.max(clock.paused_until_ns);
            if silent || self.one_in(12) {
                continue;
            }
            let copies = if self.one_in(15) { 2 } else { 1 };
            for _ in 0..copies {
                let late = if self.one_in(30) { self.below(900) } else { self.below(8) };
                let due_ns = self.now_ns + late * 1_000_000;
                self.flying.push(Flying { due_ns, from, to, message: message.clone() });
            }
        }
    }

    fn deliver(&mut self) -> Found {
        let now = self.now_ns;
        let asleep: Vec<bool> = self.clocks.iter().map(|clock| now < clock.paused_until_ns).collect();
        let place = |store: StoreId| store.node.0 as usize - 1;
        let due: Vec<Flying> =
            self.flying.extract_if(.., |message| message.due_ns <= now && !asleep[place(message.to)]).collect();
        for Flying { from, to, message, .. } in due {
            if now < self.clocks[place(to)].deaf_until_ns {
                continue;
            }
            self.step(place(to), Input::Message { from, term: message.term, body: message.body })?;
        }
        Ok(())
    }

    fn ship(&mut self) -> Found {
        let now = self.now_ns;
        let due: Vec<Shipment> = self.shipping.extract_if(.., |ship| ship.due_ns <= now).collect();
        for Shipment { leader, to, at, config, .. } in due {
            let i = to.node.0 as usize - 1;
            let lost = self.one_in(4) || self.nodes[i].raft.is_none();
            if !lost {
                let (time, random) = (self.now(i), self.rng.next_u64());
                if let Some(out) = self.nodes[i].install(time, random, at, config) {
                    self.snapshots_installed += 1;
                    self.settle(i, out)?;
                }
            }
            self.step(leader, Input::SnapshotDone { to, index: if lost { 0 } else { at.0 } })?;
        }
        Ok(())
    }

    fn step(&mut self, i: usize, input: Input) -> Found {
        if self.nodes[i].raft.is_none() {
            return Ok(());
        }
        let (now, random) = (self.now(i), self.rng.next_u64());
        let mut out = Effects::default();
        self.nodes[i].raft.as_mut().expect("it runs").step(now, random, input, &mut out);
        self.check_appended(i, &out)?;
        if self.rule == Break::EarlyRelease {
            let early = std::mem::take(&mut out.after_persist);
            out.send.extend(early);
        }
        self.nodes[i].take(&mut out);
        self.settle(i, out)
    }

    /// Looks at what a step did, and lets it happen.
    fn settle(&mut self, i: usize, out: Effects) -> Found {
        for committed in &out.apply {
            self.check_applied(i, &committed.entry)?;
            if committed.token != 0 && self.proposed.remove(&committed.token) != Some(i) {
                return Err(format!("token {} came back from the wrong replica, or twice", committed.token));
            }
        }
        for token in out.dropped.iter().chain(out.refused.iter().map(|(token, _)| token)) {
            if self.proposed.remove(token).is_none() {
                return Err(format!("token {token} was answered twice"));
            }
        }
        for grant in &out.reads {
            let Some(read) = self.reads.remove(&grant.token) else {
                return Err(format!("read {} was answered twice", grant.token));
            };
            if let Ok(at) = grant.index {
                self.reads_granted += 1;
                self.reads_by_lease += usize::from(at.lease);
                if at.index < read.least {
                    let (least, lease) = (read.least, at.lease);
                    return Err(format!("a stale read: at {}, {least} was committed (lease: {lease})", at.index));
                }
            }
        }
        for fetch in &out.fetch {
            let disk = &self.nodes[i].disk;
            let from = fetch.from;
            let entries = disk.get(from).map_or(Vec::new(), |_| {
                disk.entries.iter().filter(|entry| entry.index >= from).take(3).cloned().collect()
            });
            self.step(i, Input::Fetched { to: fetch.to, entries })?;
        }
        for &to in &out.snapshot {
            self.nodes[i].flush_tree();
            let due_ns = self.now_ns + self.below(60) * 1_000_000;
            let disk = &self.nodes[i].disk;
            let (at, config) = (disk.flushed, disk.config.clone());
            self.shipping.push(Shipment { due_ns, leader: i, to, at, config });
        }
        self.fly(i, out.send);
        Ok(())
    }

    fn known_committed(&self) -> u64 {
        self.applied.last_key_value().map_or(0, |(&index, _)| index)
    }

    /// Log matching, by induction: one (index, term) is one entry behind one term. And log time never goes back.
    fn check_appended(&mut self, i: usize, out: &Effects) -> Found {
        let mut before: Option<(u64, u64)> = None;
        for record in &out.persist {
            let Persist::Entry(entry) = record else { continue };
            let node = &self.nodes[i].believed;
            let (index, term) = (entry.index, entry.term);
            let on_disk = || match node.get(index - 1) {
                Some(prev) => (prev.term, prev.log_time_ms),
                None => (node.floor.1, 0),
            };
            let (prev_term, prev_log_time) = before.unwrap_or_else(on_disk);
            if entry.log_time_ms < prev_log_time {
                return Err(format!("log time goes back at {index}"));
            }
            before = Some((term, entry.log_time_ms));
            let known = self.appended.entry((index, term)).or_insert_with(|| (entry.clone(), prev_term));
            if *known != (entry.clone(), prev_term) {
                return Err(format!("two entries at index {index} of term {term}"));
            }
        }
        Ok(())
    }

    /// State machine safety; and what is applied anywhere is durable on a majority.
    fn check_applied(&mut self, i: usize, entry: &Entry) -> Found {
        let (index, term) = (entry.index, entry.term);
        self.trace.push(format!("{} apply {i} {index} {term} {}", self.now_ns, entry.log_time_ms));
        if let Some(known) = self.applied.get(&index) {
            if known != entry {
                return Err(format!("two entries applied at {index}: terms {} and {term}", known.term));
            }
            return Ok(());
        }
        let holds = |node: &&Replica| {
            let disk = &node.disk;
            index <= disk.flushed.0 || disk.get(index).is_some_and(|entry| entry.term == term)
        };
        let holders = self.nodes.iter().filter(holds).count();
        self.applied.insert(index, entry.clone());
        if holders * 2 <= self.nodes.len() {
            return Err(format!("{index} of term {term} applied, durable on {holders} of {}", self.nodes.len()));
        }
        Ok(())
    }

    /// Election safety and leader completeness.
    fn check_leaders(&mut self) -> Found {
        for node in &self.nodes {
            let Some(raft) = node.raft.as_ref().filter(|raft| raft.role() == Role::Leader) else { continue };
            let term = raft.term();
            if *self.leaders.entry(term).or_insert(node.me) != node.me {
                return Err(format!("two leaders in term {term}"));
            }
            let newest = self.leaders.keys().next_back() == Some(&term);
            let missing = self.applied.iter().rev().take(20).find(|&(&index, entry)| {
                index > node.believed.floor.0 && node.believed.get(index).map(|own| own.term) != Some(entry.term)
            });
            if let Some((index, _)) = missing.filter(|_| newest) {
                return Err(format!("the leader of term {term} lacks {index}, which was committed"));
            }
        }
        Ok(())
    }

    /// The faults stop: within bounded time someone leads, and everyone applies what is proposed then.
    fn heal(&mut self) -> Found {
        self.faults = false;
        for i in 0..self.nodes.len() {
            let clock = &mut self.clocks[i];
            (clock.paused_until_ns, clock.mute_until_ns, clock.deaf_until_ns) = (0, 0, 0);
            if self.nodes[i].raft.is_none() {
                self.boot(i);
            }
        }
        for _ in 0..300 {
            self.turn()?;
        }
        let goal = self.known_committed();
        let before = self.applied.len();
        for _ in 0..4_000 {
            self.turn()?;
            let everywhere = self.nodes.iter().all(|node| node.applied.0 > goal);
            if everywhere && self.applied.len() > before {
                return Ok(());
            }
        }
        let applied: Vec<_> = self.nodes.iter().map(|node| node.applied.0).collect();
        let status: Vec<_> = self.nodes.iter().filter_map(|node| Some(node.raft.as_ref()?.status())).collect();
        Err(format!("not alive after the faults stopped: applied {applied:?}, goal {goal}, {status:#?}"))
    }
}
