//! From effects to the log: one commit a turn for all shards, and what waits for it.

use super::{Done, Store};
use crate::host::Host;
use crate::replica::Asker;
use ringkv_core::effects::{Effects, Outgoing, Persist, Refusal};
use ringkv_core::raft::Input;
use ringkv_storage::error::StorageError;
use ringkv_storage::wal::{HardState, Record};
use ringkv_wire::ids::{Now, ShardId, StoreId};
use ringkv_wire::msg::peer::PeerMessage;
use ringkv_wire::status::Status;
use std::collections::VecDeque;
use std::pin::Pin;

/// A commit in flight and what its durability releases.
#[derive(Default)]
struct Waiting {
    /// (shard, ticket): told to Raft.
    tickets: Vec<(ShardId, u64)>,
    /// Messages that promise durability.
    messages: Vec<(StoreId, PeerMessage)>,
    /// Flushes of what was applied: not before the log holds it durably.
    jobs: Vec<Pin<Box<dyn Future<Output = ()>>>>,
}

/// Commits in flight, oldest first; they end in this order.
pub(super) struct Commits {
    waiting: VecDeque<(u64, Waiting)>,
    /// What this turn gathers.
    records: Vec<Record>,
    turn: Waiting,
    next: u64,
}

impl Commits {
    pub(super) fn new() -> Commits {
        Commits { waiting: VecDeque::new(), records: Vec::new(), turn: Waiting::default(), next: 1 }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.records.is_empty()
    }
}

impl<H: Host> Store<H> {
    /// Does what this turn's steps want done, replica by replica.
    pub(super) fn drain_effects(&mut self, now: Now) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for &slot in &dirty {
            self.replicas[slot].dirty = false;
            let mut effects = std::mem::take(&mut self.replicas[slot].effects);
            self.drain(now, slot, &mut effects);
            // What a step inside the draining asked for is looked at next.
            if !self.replicas[slot].dirty {
                self.replicas[slot].effects = effects;
            }
            self.alarms.set(slot, self.replicas[slot].raft.next_deadline_ns());
        }
        dirty.clear();
        if self.dirty.is_empty() {
            self.dirty = dirty;
        }
    }

    fn drain(&mut self, now: Now, slot: usize, effects: &mut Effects) {
        let (shard, generation) = (self.replicas[slot].shard, self.replicas[slot].generation);
        let wrap = |out: Outgoing| PeerMessage { shard, generation, term: out.term, body: out.body };
        for (to, out) in effects.send.drain(..) {
            self.links.send(to, &wrap(out));
        }
        if !effects.persist.is_empty() {
            self.commits.turn.tickets.push((shard, effects.ticket));
        }
        self.commits.records.extend(effects.persist.drain(..).map(|persist| match persist {
            Persist::Entry(entry) => Record::Entry(entry),
            Persist::HardState { term, vote } => {
                Record::HardState { shard, generation, hard: HardState { term, vote } }
            }
        }));
        self.commits.turn.messages.extend(effects.after_persist.drain(..).map(|(to, out)| (to, wrap(out))));
        for (token, refusal) in effects.refused.drain(..) {
            let Some(asker) = self.replicas[slot].take_write(token) else { continue };
            self.refuse_by(slot, asker, refusal);
        }
        for committed in effects.apply.drain(..) {
            self.apply(slot, committed);
        }
        for token in effects.dropped.drain(..) {
            self.end_write(slot, token, Status::Unknown);
        }
        for grant in effects.reads.drain(..) {
            self.granted(slot, grant);
        }
        self.answer_granted(slot);
        for fetch in effects.fetch.drain(..) {
            let entries = self.log.read_entries(shard, fetch.from, fetch.max_bytes);
            let mailbox = self.mailbox.clone();
            self.host.spawn(async move {
                match entries.await {
                    Ok(entries) => mailbox.post(Done::Fetched { shard, to: fetch.to, entries }),
                    // Raft asks again after a while.
                    Err(error) => tracing::error!(%shard, %error, "the log cannot be read for a follower"),
                }
            });
        }
        for to in effects.snapshot.drain(..) {
            self.offer_snapshot(now, slot, to);
        }
    }

    /// Refuses what Raft refused, with its hint.
    pub(super) fn refuse_by(&mut self, slot: usize, asker: Asker, refusal: Refusal) {
        let mut header = self.header(Some(slot), Status::Busy);
        if let Refusal::NotLeader { hint } = refusal {
            header.status = Status::NotLeader;
            header.leader = hint;
        }
        self.refuse_with(asker, header);
    }

    /// Runs a job once all that is now on its way to the log is durable.
    pub(super) fn after_commits(&mut self, job: impl Future<Output = ()> + 'static) {
        match self.commits.waiting.back_mut() {
            Some((_, waiting)) => waiting.jobs.push(Box::pin(job)),
            None => self.host.spawn(job),
        }
    }

    fn end_write(&mut self, slot: usize, token: u64, status: Status) {
        if let Some(asker) = self.replicas[slot].take_write(token) {
            self.refuse_with(asker, self.header(Some(slot), status));
        }
    }

    /// Adds a record of the store itself to this turn's commit.
    pub(super) fn log_record(&mut self, record: Record) {
        self.commits.records.push(record);
    }

    /// Writes what the turn gathered. What promises durability waits for the newest commit in flight.
    pub(super) fn commit(&mut self) {
        self.taken_bytes = 0;
        let turn = std::mem::take(&mut self.commits.turn);
        let records = std::mem::take(&mut self.commits.records);
        if self.failed.is_some() {
            return;
        }
        if records.is_empty() {
            assert!(turn.tickets.is_empty(), "a ticket without a record");
            match self.commits.waiting.back_mut() {
                Some((_, waiting)) => waiting.messages.extend(turn.messages),
                None => turn.messages.iter().for_each(|(to, message)| self.links.send(*to, message)),
            }
            return;
        }
        let number = self.commits.next;
        self.commits.next += 1;
        self.commits.waiting.push_back((number, turn));
        let commit = self.log.commit(records);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = commit.await;
            mailbox.post(Done::Committed { number, result });
        });
    }

    pub(super) fn committed(&mut self, now: Now, number: u64, result: Result<(), StorageError>) {
        if let Err(error) = result {
            self.commits.waiting.clear();
            return self.fail(now, error);
        }
        if self.failed.is_some() {
            return;
        }
        // A log acknowledges in order; tasks may be woken in another. Nothing is released before what came earlier.
        self.log_changed();
        let done = self.commits.waiting.iter().position(|(n, _)| *n == number);
        let Some(done) = done else { return };
        for (_, waiting) in self.commits.waiting.drain(..=done).collect::<Vec<_>>() {
            for (to, message) in &waiting.messages {
                self.links.send(*to, message);
            }
            for job in waiting.jobs {
                self.host.spawn(job);
            }
            for (shard, ticket) in waiting.tickets {
                if let Some(slot) = self.slot(shard) {
                    self.step(slot, now, Input::Persisted { ticket });
                }
            }
        }
    }
}
