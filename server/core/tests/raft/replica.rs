//! One replica on a disk that tells written from durable: what the tests of Raft drive by hand or by chance.

use ringkv_core::effects::{Effects, Outgoing, Persist};
use ringkv_core::raft::{Input, Raft, Restored};
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Generation, Now, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use std::collections::VecDeque;

/// The shard of all tests.
pub const SHARD: ShardId = ShardId(1);

/// What a crash leaves.
#[derive(Clone, Debug)]
pub struct Disk {
    pub term: u64,
    pub vote: Option<StoreId>,
    pub floor: (u64, u64),
    pub entries: Vec<Entry>,
    /// Index, term and log time up to which the tree is durable.
    pub flushed: (u64, u64, u64),
    /// The configuration there.
    pub config: (u64, Configuration),
}

impl Disk {
    pub fn last_index(&self) -> u64 {
        self.floor.0 + self.entries.len() as u64
    }

    pub fn get(&self, index: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.checked_sub(self.floor.0 + 1)?).ok()?)
    }

    pub fn write(&mut self, write: &Write) {
        match write {
            Write::Records(records) => records.iter().for_each(|record| match record {
                Persist::HardState { term, vote } => (self.term, self.vote) = (*term, *vote),
                Persist::Entry(entry) => {
                    assert!(entry.index > self.floor.0 && entry.index <= self.last_index() + 1, "a gap on disk");
                    self.entries.truncate((entry.index - self.floor.0 - 1) as usize);
                    self.entries.push(entry.clone());
                }
            }),
            // A new beginning: what was there before is void (FORMAT.md §1.3).
            Write::Floor { index, term } => (self.floor, self.entries) = ((*index, *term), Vec::new()),
        }
    }

    /// The log begins behind (index, term); entries that do not follow on it go.
    pub fn raise_floor(&mut self, index: u64, term: u64) {
        if index <= self.floor.0 {
            return;
        }
        if self.get(index).is_some_and(|entry| entry.term == term) {
            self.entries.drain(..(index - self.floor.0) as usize);
        } else {
            self.entries.clear();
        }
        self.floor = (index, term);
    }
}

/// Something on its way to the disk.
#[derive(Clone, Debug)]
pub enum Write {
    Records(Vec<Persist>),
    Floor { index: u64, term: u64 },
}

/// One write, and what may leave once it is durable.
#[derive(Clone, Debug)]
pub struct Batch {
    pub ticket: u64,
    pub write: Write,
    pub after: Vec<(StoreId, Outgoing)>,
}

/// One replica, running or crashed.
pub struct Replica {
    pub me: StoreId,
    pub disk: Disk,
    pub raft: Option<Raft>,
    /// Written, not yet durable, in order.
    pub queue: VecDeque<Batch>,
    /// The newest ticket that is durable in this life.
    pub durable: u64,
    /// Index, term, log time of what was applied in this life, and the configuration there.
    pub applied: (u64, u64, u64),
    pub config: (u64, Configuration),
    /// The log as the running replica believes it to be: disk and everything on its way.
    pub believed: Disk,
}

impl Replica {
    pub fn new(me: StoreId, config: Configuration) -> Replica {
        let config = (0, config);
        let (floor, flushed) = ((0, 0), (0, 0, 0));
        let disk = Disk { term: 0, vote: None, floor, entries: Vec::new(), flushed, config: config.clone() };
        let believed = disk.clone();
        Replica { me, disk, raft: None, queue: VecDeque::new(), durable: 0, applied: flushed, config, believed }
    }

    /// Starts from the disk.
    pub fn boot(&mut self, now: Now, random: u64) {
        assert!(self.raft.is_none(), "it runs already");
        let (index, term, log_time_ms) = self.disk.flushed;
        // A tree ahead of the log: the snapshot's floor was not logged yet.
        if index > self.disk.last_index() || self.disk.get(index).is_some_and(|entry| entry.term != term) {
            self.disk.raise_floor(index, term);
        }
        self.queue.clear();
        self.durable = 0;
        self.applied = self.disk.flushed;
        self.config = self.disk.config.clone();
        self.believed = self.disk.clone();
        let disk = &self.disk;
        let restored = Restored {
            me: self.me,
            shard: SHARD,
            generation: Generation(1),
            term: disk.term,
            vote: disk.vote,
            floor_index: disk.floor.0,
            floor_term: disk.floor.1,
            config: disk.config.clone(),
            applied: index,
            log_time_ms,
            entries: disk.entries.clone(),
        };
        self.raft = Some(Raft::new(restored, now, random));
    }

    /// Dies; of what was on its way the first `kept` batches reached the disk after all.
    pub fn crash(&mut self, kept: usize) {
        self.raft = None;
        for batch in self.queue.drain(..).take(kept) {
            self.disk.write(&batch.write);
        }
    }

    /// One step. What is to be persisted goes on its way to the disk; the rest is in the effects.
    pub fn step(&mut self, now: Now, random: u64, input: Input) -> Effects {
        let mut out = Effects::default();
        let Some(raft) = &mut self.raft else { return out };
        raft.step(now, random, input, &mut out);
        self.take(&mut out);
        out
    }

    /// Takes what is to be persisted and what was applied out of effects.
    pub fn take(&mut self, out: &mut Effects) {
        for committed in &out.apply {
            let entry = &committed.entry;
            assert_eq!(entry.index, self.applied.0 + 1, "applied in order, once");
            self.applied = (entry.index, entry.term, entry.log_time_ms);
            if entry.kind == ringkv_wire::entry::EntryKind::Configuration {
                let config = Configuration::decode(entry.body.clone()).expect("a configuration");
                self.config = (entry.index, config);
            }
        }
        if !out.persist.is_empty() {
            let write = Write::Records(out.persist.clone());
            self.believed.write(&write);
            self.queue.push_back(Batch { ticket: out.ticket, write, after: Vec::new() });
        }
        if let Some(last) = self.queue.back_mut() {
            last.after.append(&mut out.after_persist);
        } else {
            out.send.append(&mut out.after_persist);
        }
    }

    /// The oldest write on its way becomes durable: gives what may leave now, and the ticket.
    pub fn flush_one(&mut self) -> Option<(u64, Vec<(StoreId, Outgoing)>)> {
        let batch = self.queue.pop_front()?;
        self.disk.write(&batch.write);
        self.durable = self.durable.max(batch.ticket);
        Some((self.durable, batch.after))
    }

    /// The tree becomes durable as far as both it and the log allow.
    pub fn flush_tree(&mut self) {
        if self.applied.0 <= self.disk.last_index() && self.applied.0 > self.disk.flushed.0 {
            self.disk.flushed = self.applied;
            self.disk.config = self.config.clone();
        }
    }

    /// Installs a snapshot of another replica's tree: durable at once; the floor goes to the log in order.
    /// `None`: it is not needed.
    pub fn install(
        &mut self,
        now: Now,
        random: u64,
        at: (u64, u64, u64),
        config: (u64, Configuration),
    ) -> Option<Effects> {
        let (index, term, log_time_ms) = at;
        if !self.raft.as_ref()?.needs_snapshot(index, term) {
            return None;
        }
        self.disk.flushed = at;
        self.disk.config = config.clone();
        self.applied = at;
        self.config = config.clone();
        let write = Write::Floor { index, term };
        self.believed.write(&write);
        self.queue.push_back(Batch { ticket: 0, write, after: Vec::new() });
        Some(self.step(now, random, Input::Installed { index, term, log_time_ms, config }))
    }
}
