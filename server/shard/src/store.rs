//! The loop of one store.
//!
//! A turn, in this order: take what the network and finished jobs brought; let the protocol cores step; apply what is
//! committed; answer; write all that is to be persisted in one commit; send. The rooms below each hold one of these.

mod alarms;
mod apply;
mod boot;
mod commit;
mod conns;
mod jobs;
mod links;
mod pace;
mod reads;
mod redo;
pub(crate) mod repair;
mod scrub;
mod ship;
mod status;
mod writes;

use crate::config::{Control, StoreConfig, StoreError, StoreView};
use crate::counters::StoreCounters;
use crate::host::{Host, NetEvent};
use crate::replica::{Asker, Replica};
use crate::witness::Witness;
use bytes::Bytes;
use ringkv_core::raft::{Input, Role};
use ringkv_storage::disk::Disk;
use ringkv_storage::engine::Engine;
use ringkv_storage::error::{DiskError, StorageError};
use ringkv_storage::wal::Log;
use ringkv_wire::ids::{Incarnation, Now, ShardId, StoreId};
use ringkv_wire::msg::client::StatusHeader;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// How long a stopping store waits for its leaderships to be taken over, ns.
const HANDOVER_NS: u64 = 1_000_000_000;
/// Between two looks after the log while it grows, ns.
const MAINTAIN_NS: u64 = 10_000_000;
/// The same while it does not, ns.
const MAINTAIN_IDLE_NS: u64 = 500_000_000;
/// A replica that cannot tick when it is due is looked at again after this, ns.
const TICK_AGAIN_NS: u64 = 20_000_000;
/// A store that finds no space to open is opened again after this, ns.
const OPEN_RETRY_NS: u64 = 500_000_000;
/// How often leaderships are moved towards their preferred stores, ns.
const BALANCE_NS: u64 = 500_000_000;

/// No delay counts for more: a process that was stopped for seconds is not on a slow core.
const DELAY_MAX_NS: u64 = 300_000_000;

type DiskOf<H> = <H as Host>::Disk;

/// Something a job has finished.
enum Done {
    Committed { number: u64, result: Result<(), StorageError> },
    Answer { asker: Asker, header: StatusHeader, bytes: Vec<u8>, unreadable: u64 },
    Fetched { shard: ShardId, to: StoreId, entries: Vec<ringkv_wire::entry::Entry> },
    Flushed { shard: ShardId, index: u64, result: Result<(), StorageError> },
    Merged { shard: ShardId, result: Result<(), StorageError> },
    Maintained { result: Result<(), StorageError> },
    PeerKnown { conn: crate::host::ConnId, store: StoreId, result: Result<(), StorageError> },
    Admitted { result: Result<(), StorageError> },
    Ship(ship::ShipDone),
    Scrubbed { next: Option<ringkv_storage::tree::ScrubPlace>, bytes: u64 },
    Redo { shard: ShardId, result: Result<Vec<ringkv_wire::entry::Entry>, StorageError> },
}

/// Where jobs put what they finished.
struct Mailbox<H: Host> {
    host: H,
    queue: Rc<RefCell<VecDeque<Done>>>,
}

impl<H: Host> Clone for Mailbox<H> {
    fn clone(&self) -> Self {
        Mailbox { host: self.host.clone(), queue: self.queue.clone() }
    }
}

impl<H: Host> Mailbox<H> {
    fn post(&self, done: Done) {
        self.queue.borrow_mut().push_back(done);
        self.host.wake();
    }
}

/// One store: a log and the replicas in it.
struct Store<H: Host> {
    host: H,
    config: StoreConfig,
    control: Control,
    witness: Option<Rc<dyn Witness>>,
    mailbox: Mailbox<H>,
    log: Log<DiskOf<H>>,
    engine: Engine<DiskOf<H>>,
    replicas: Vec<Replica<DiskOf<H>>>,
    by_shard: BTreeMap<ShardId, usize>,
    /// When replicas are to tick.
    alarms: alarms::Alarms,
    /// Replicas with effects or reads of this turn.
    dirty: Vec<usize>,
    conns: conns::Conns,
    links: links::Links,
    /// Incarnations under which other stores are known here.
    known: BTreeMap<StoreId, Incarnation>,
    /// Those of them that are durable.
    known_durably: BTreeSet<StoreId>,
    /// Every peer knows this store: it may vote.
    admitted: bool,
    admitting: bool,
    commits: commit::Commits,
    ships: ship::Ships<DiskOf<H>>,
    scrub: scrub::Scrub,
    map_bytes: Bytes,
    next_token: u64,
    disk_reads: usize,
    maintaining: bool,
    /// The log has no room for what is not yet proposed.
    disk_full: bool,
    /// Bytes of entries that this turn took in and has not given to the log.
    taken_bytes: usize,
    next_maintain_ns: u64,
    /// The log is looked after no sooner, boot ns.
    maintain_from_ns: u64,
    next_balance_ns: u64,
    /// No tree is flushed ahead of need before this, boot ns.
    next_early_flush_ns: u64,
    /// The log failed: nothing is served until the store is opened again.
    failed: Option<StorageError>,
    stop_by_ns: Option<u64>,
    events: Vec<NetEvent>,
    counters: StoreCounters,
    last_turn_ns: u64,
    wanted_turn_ns: u64,
    delay_ns: u64,
    pacer: pace::Pacer,
}

/// Runs a store until it is asked to stop.
///
/// Opens its files through recovery first; an error there means that nothing was served. Returns `Ok` when
/// [`Control::shutdown`] was called and leaderships were handed over, or could not be within a second.
pub async fn run<H: Host>(host: H, config: StoreConfig, control: Control) -> Result<(), StoreError> {
    let Some(store) = open(&host, config, &control).await? else { return Ok(()) };
    let store = Rc::new(RefCell::new(store));
    let look = {
        let store = store.clone();
        Rc::new(move || store.borrow().view()) as Rc<dyn Fn() -> StoreView>
    };
    let counted = store.clone();
    control.attach_counters(Rc::new(move || counted.borrow().counted()));
    let waker = host.clone();
    let digested = store.clone();
    control.attach_digest(Rc::new(move |shard| digested.borrow().digest(shard)));
    control.attach(Rc::new(move || waker.wake()), look);
    loop {
        let until = store.borrow_mut().until_ns();
        host.wait(until).await;
        let mut store = store.borrow_mut();
        store.turn();
        if store.ended() {
            break;
        }
    }
    control.detach();
    Ok(())
}

/// Opens the store; on a full disk as soon as there is room for recovery's own files. `None`: asked to stop before.
async fn open<H: Host>(host: &H, config: StoreConfig, control: &Control) -> Result<Option<Store<H>>, StoreError> {
    loop {
        match boot::open(host.clone(), config.clone(), control.clone()).await {
            Err(StoreError::Storage { source: StorageError::Disk(DiskError::NoSpace { path }), .. }) => {
                if control.stopping() {
                    return Ok(None);
                }
                tracing::warn!(store = %config.id, path, "no space to open the store: tried again");
                host.wait(host.now().boot_ns + OPEN_RETRY_NS).await;
            }
            other => return other.map(Some),
        }
    }
}

impl<H: Host> Store<H> {
    fn turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.host.take_events(&mut events);
        let now = self.host.now();
        self.note_delay(now);
        self.note_disk_full();
        self.set_pace();
        for event in events.drain(..) {
            self.net_event(now, event);
        }
        self.events = events;
        self.finished_jobs(now);
        self.tick(now);
        self.ask_reads(now);
        self.drain_effects(now);
        self.commit();
        self.housekeeping(now);
        self.release(now);
        self.links.flush(&self.host);
        self.conns.flush(&self.host);
    }

    /// When the next turn is due although nothing happened, boot ns.
    fn until_ns(&mut self) -> u64 {
        let now = self.host.now().boot_ns;
        let (replicas, full) = (&self.replicas, self.disk_full);
        let ticks = if self.admitted { self.alarms.first(|slot| due_ns(&replicas[slot], full, now)) } else { None };
        let care = if self.failed.is_some() { u64::MAX } else { self.next_maintain_ns.min(self.next_balance_ns) };
        let until = [
            ticks.map_or(u64::MAX, |(due_ns, _)| due_ns),
            self.links.next_ns(),
            self.ships.next_ns(),
            self.pacer.next_ns(),
            care,
            self.stop_by_ns.unwrap_or(u64::MAX),
        ];
        let until = until.into_iter().min().unwrap_or(now).max(now);
        let until = if self.mailbox.queue.borrow().is_empty() { until } else { now };
        self.wanted_turn_ns = until;
        until
    }

    /// How late this turn comes tells the protocol how far this core can be trusted with short timeouts. The worst is
    /// remembered, and forgotten by halves.
    fn note_delay(&mut self, now: Now) {
        let late = now.boot_ns.saturating_sub(self.wanted_turn_ns.max(self.last_turn_ns));
        self.last_turn_ns = now.boot_ns;
        let late = late.min(DELAY_MAX_NS);
        if late > self.delay_ns {
            self.set_delay(late);
        }
    }

    fn set_delay(&mut self, delay_ns: u64) {
        self.delay_ns = delay_ns;
        for replica in &mut self.replicas {
            replica.raft.set_delay(delay_ns);
        }
    }

    fn finished_jobs(&mut self, now: Now) {
        loop {
            let Some(done) = self.mailbox.queue.borrow_mut().pop_front() else { return };
            match done {
                Done::Committed { number, result } => self.committed(now, number, result),
                Done::Answer { asker, header, bytes, unreadable } => {
                    self.counters.unreadable += unreadable;
                    if let Some(slot) = self.slot(header.shard).filter(|_| unreadable > 0) {
                        self.look_for_damage(now, slot);
                    }
                    self.answer_from_disk(asker, header, &bytes);
                }
                Done::Fetched { shard, to, entries } => {
                    if let Some(slot) = self.slot(shard) {
                        self.step(slot, now, Input::Fetched { to, entries });
                    }
                }
                Done::Flushed { shard, index, result } => self.flushed(now, shard, index, result),
                Done::Merged { shard, result } => self.merged(now, shard, result),
                Done::Maintained { result } => self.maintained(now, result),
                Done::PeerKnown { conn, store, result } => self.peer_known(conn, store, result),
                Done::Admitted { result } => self.admission_recorded(now, result),
                Done::Ship(done) => self.ship_done(now, done),
                Done::Scrubbed { next, bytes } => self.scrubbed(now, next, bytes),
                Done::Redo { shard, result } => {
                    if let Some(slot) = self.slot(shard) {
                        self.redo(slot, result);
                    }
                }
            }
        }
    }

    fn tick(&mut self, now: Now) {
        self.links.tick(now, &self.host, &self.config);
        self.ship_tick(now);
        if !self.admitted || self.failed.is_some() {
            return;
        }
        let full = self.disk_full;
        loop {
            let replicas = &self.replicas;
            let Some(slot) = self.alarms.take(now.boot_ns, |slot| due_ns(&replicas[slot], full, now.boot_ns)) else {
                return;
            };
            // Its alarm is set again when the effects are looked at.
            self.step(slot, now, Input::Tick);
        }
    }

    fn slot(&self, shard: ShardId) -> Option<usize> {
        self.by_shard.get(&shard).copied()
    }

    /// Lets one replica step; what it wants done is looked at once, at the end of the turn.
    fn step(&mut self, slot: usize, now: Now, input: Input) {
        let random = self.host.random();
        let replica = &mut self.replicas[slot];
        replica.raft.step(now, random, input, &mut replica.effects);
        if let Some(witness) = &self.witness {
            witness.stepped(&replica.raft);
        }
        self.touch(slot);
    }

    fn touch(&mut self, slot: usize) {
        if !self.replicas[slot].dirty {
            self.replicas[slot].dirty = true;
            self.dirty.push(slot);
        }
    }

    fn housekeeping(&mut self, now: Now) {
        if self.failed.is_none() {
            self.maintain(now);
            self.flush_for_memory(now);
            if now.boot_ns >= self.next_balance_ns {
                self.next_balance_ns = now.boot_ns + BALANCE_NS;
                self.set_delay(self.delay_ns / 2);
                self.scrub_tick(now);
                self.repair_tick(now);
                self.balance(now);
                self.propose_ticks(now);
            }
        }
        if self.control.stopping() {
            self.stop_by_ns.get_or_insert(now.boot_ns + HANDOVER_NS);
            for slot in 0..self.replicas.len() {
                if self.replicas[slot].raft.role() == Role::Leader {
                    self.step(slot, now, Input::Transfer { to: None });
                }
            }
        }
        if !self.dirty.is_empty() {
            self.drain_effects(now);
            self.commit();
        }
    }

    /// The log failed: nothing may be acknowledged, led or voted on any more.
    fn fail(&mut self, now: Now, error: StorageError) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(store = %self.config.id, %error, "the store stops serving");
        self.failed = Some(error);
        self.counters.failed += 1;
        for slot in 0..self.replicas.len() {
            self.step(slot, now, Input::Retire);
        }
    }

    fn ended(&self) -> bool {
        let Some(by) = self.stop_by_ns else { return false };
        // Alone in its group a leader has nobody to hand over to.
        let hands_over = |r: &Replica<_>| r.raft.role() == Role::Leader && r.raft.config().1.voters.len() > 1;
        let leads = self.replicas.iter().any(hands_over);
        let busy = self.replicas.iter().any(|r| r.flushing || r.merging || r.installing || r.repair.working)
            || self.disk_reads > 0;
        let idle = self.commits.is_empty() && !leads && !busy && self.pacer.next_ns() == u64::MAX;
        idle || self.failed.is_some() || self.host.now().boot_ns >= by
    }
}

/// When a replica is to tick. One whose tree is being replaced waits; one whose log has no room does not stand for election,
/// since it could not append a leader's first entry; one with a damaged tree lets others stand first.
fn due_ns<D: Disk>(replica: &Replica<D>, disk_full: bool, now_ns: u64) -> u64 {
    let leads = replica.raft.role() == Role::Leader;
    let patient = !leads && replica.repair.is_damaged() && replica.raft.config().1.voters.len() > 1;
    let patience_ns = if patient { repair::PATIENCE_NS } else { 0 };
    let deadline_ns = replica.raft.next_deadline_ns().saturating_add(patience_ns);
    if replica.installing || (disk_full && !leads) {
        return deadline_ns.max(now_ns + TICK_AGAIN_NS);
    }
    deadline_ns
}
