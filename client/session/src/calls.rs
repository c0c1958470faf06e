//! The calls that are not done: what is known of each key of each, and when their time is up.

use crate::call::{CallId, Completion, Value, Written};
use crate::error::{Cause, Error, Failure};
use crate::slab::Slab;
use crate::stats::SessionStats;
use ringkv_wire::ids::{ShardId, StoreId};
use ringkv_wire::ring::topology::ClusterMap;
use ringkv_wire::status::Outcome;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What form the completion takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Get,
    GetMany,
    Write,
    WriteMany,
    Map,
    Status,
    Stats,
}

impl Shape {
    fn writes(self) -> bool {
        matches!(self, Shape::Write | Shape::WriteMany)
    }
}

/// What is known of one key.
#[derive(Clone, Debug)]
pub(crate) enum Slot {
    Waiting(Progress),
    Got(Option<Value>),
    Written(u64),
    Map(Arc<ClusterMap>),
    Text(String),
    Stats(Box<SessionStats>),
    Failed(Error),
}

/// How far one key got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub shard: Option<ShardId>,
    pub store: Option<StoreId>,
    pub cause: Cause,
    pub attempts: u16,
    /// An attempt is on its way.
    pub in_flight: bool,
    /// An attempt ended without a definite refusal.
    pub undecided: bool,
}

impl Progress {
    fn failure(&self, writes: bool) -> Box<Failure> {
        let unknown = writes && (self.in_flight || self.undecided);
        Box::new(Failure {
            outcome: if unknown { Outcome::Unknown } else { Outcome::NotApplied },
            shard: self.shard,
            store: self.store,
            attempts: self.attempts,
            cause: self.cause,
        })
    }
}

/// When a call was made and when its time is up, boot ns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub since_ns: u64,
    pub deadline_ns: u64,
}

#[derive(Debug)]
pub(crate) struct CallState {
    shape: Shape,
    since_ns: u64,
    deadline_ns: u64,
    slots: Slots,
    left: usize,
    /// Bytes it holds.
    bytes: usize,
}

/// One key is the common case, and needs no memory of its own.
type Slots = SmallVec<[Slot; 1]>;

/// Calls that end at the same time: those of one turn, mostly.
#[derive(Debug, Default)]
struct Group {
    calls: Vec<u64>,
    /// Those of them that are not done.
    left: usize,
}

/// A group forgets calls that are done when they are more than this and most of it.
const GROUP_DONE_MAX: usize = 64;

/// The table.
#[derive(Debug)]
pub(crate) struct Calls {
    table: Slab<CallState>,
    deadlines: BTreeMap<u64, Group>,
    held_bytes: usize,
    /// Keys of which their caller was told that the outcome is unknown.
    unknown: u64,
    done: Vec<(CallId, Completion)>,
}

impl Calls {
    pub fn new() -> Calls {
        Calls { table: Slab::new(), deadlines: BTreeMap::new(), held_bytes: 0, unknown: 0, done: Vec::new() }
    }

    /// A call of `keys` keys, all waiting. One without keys is done at once.
    pub fn open(&mut self, shape: Shape, keys: usize, bytes: usize, times: Times, cause: Cause) -> CallId {
        let Times { since_ns, deadline_ns } = times;
        let waiting = Progress { shard: None, store: None, cause, attempts: 0, in_flight: false, undecided: false };
        let slots = smallvec![Slot::Waiting(waiting); keys];
        let id = self.table.insert(CallState { shape, since_ns, deadline_ns, slots, left: keys, bytes });
        let group = self.deadlines.entry(deadline_ns).or_default();
        group.calls.push(id);
        group.left += 1;
        self.held_bytes += bytes;
        if keys == 0 {
            self.close(id);
        }
        CallId(id)
    }

    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Calls that are not done, and their keys without a result.
    pub fn waiting(&self) -> (usize, usize) {
        self.table.iter().fold((0, 0), |(calls, keys), (_, call)| (calls + 1, keys + call.left))
    }

    pub fn next_deadline_ns(&self) -> u64 {
        if self.done.is_empty() { self.deadlines.first_key_value().map_or(u64::MAX, |d| *d.0) } else { 0 }
    }

    /// What is known of a key that still waits.
    pub fn progress(&mut self, call: CallId, at: u32) -> Option<&mut Progress> {
        self.timed(call, at).map(|(_, progress)| progress)
    }

    /// The same, and the call's times.
    pub fn timed(&mut self, call: CallId, at: u32) -> Option<(Times, &mut Progress)> {
        let state = self.table.get_mut(call.0)?;
        match state.slots.get_mut(at as usize)? {
            Slot::Waiting(progress) => {
                Some((Times { since_ns: state.since_ns, deadline_ns: state.deadline_ns }, progress))
            }
            _ => None,
        }
    }

    /// Settles one key; the call is done with its last. A key is settled once.
    pub fn settle(&mut self, call: CallId, at: u32, result: Slot) {
        let Some(state) = self.table.get_mut(call.0) else { return };
        let Some(slot @ Slot::Waiting(_)) = state.slots.get_mut(at as usize) else { return };
        self.unknown += u64::from(matches!(&result, Slot::Failed(e) if e.outcome() == Outcome::Unknown));
        *slot = result;
        state.left -= 1;
        if state.left == 0 {
            self.close(call.0);
        }
    }

    /// Settles one key with what its progress says.
    pub fn refuse(&mut self, call: CallId, at: u32, kind: fn(Box<Failure>) -> Error) {
        if let Some(failure) = self.failure(call, at) {
            self.settle(call, at, Slot::Failed(kind(failure)));
        }
    }

    /// What the progress of a key that still waits says, as a failure.
    pub fn failure(&self, call: CallId, at: u32) -> Option<Box<Failure>> {
        let state = self.table.get(call.0)?;
        match state.slots.get(at as usize)? {
            Slot::Waiting(progress) => Some(progress.failure(state.shape.writes())),
            _ => None,
        }
    }

    /// Ends the calls whose time is up; whether there were any.
    pub fn expire(&mut self, now_ns: u64) -> bool {
        let mut any = false;
        while self.deadlines.first_key_value().is_some_and(|(&at, _)| at <= now_ns) {
            let due = self.deadlines.pop_first().map(|(_, group)| group.calls).unwrap_or_default();
            due.into_iter().for_each(|id| self.end(CallId(id), Error::Deadline));
            any = true;
        }
        any
    }

    /// Ends a call: what is not settled fails.
    pub fn end(&mut self, call: CallId, kind: fn(Box<Failure>) -> Error) {
        let keys = self.table.get(call.0).map_or(0, |c| c.slots.len());
        (0..keys).for_each(|at| self.refuse(call, at as u32, kind));
    }

    /// Forgets a call: nobody waits for it.
    pub fn forget(&mut self, call: CallId) {
        if self.take(call.0).is_some() {
            self.table.release(call.0);
        }
    }

    /// Every call that is not done.
    pub fn all(&self) -> Vec<CallId> {
        self.table.iter().map(|(id, _)| CallId(id)).collect()
    }

    pub fn take_done(&mut self, out: &mut Vec<(CallId, Completion)>) {
        self.done.iter().for_each(|(call, _)| self.table.release(call.0));
        out.append(&mut self.done);
    }

    fn take(&mut self, id: u64) -> Option<CallState> {
        let state = self.table.take(id)?;
        self.held_bytes -= state.bytes;
        if let Some(group) = self.deadlines.get_mut(&state.deadline_ns) {
            group.left -= 1;
            let done = group.calls.len() - group.left;
            if group.left == 0 {
                self.deadlines.remove(&state.deadline_ns);
            } else if done > GROUP_DONE_MAX.max(group.left) {
                // Calls without an end all end together: their group would grow with every one ever made.
                group.calls.retain(|&id| self.table.get(id).is_some());
            }
        }
        Some(state)
    }

    fn close(&mut self, id: u64) {
        let Some(state) = self.take(id) else { return };
        let (shape, slots) = (state.shape, state.slots);
        let one = |slots: Slots| slots.into_iter().next().unwrap_or(Slot::Failed(never()));
        let completion = match shape {
            // The results take the place of the slots.
            Shape::GetMany => Completion::GotMany(slots.into_vec().into_iter().map(got).collect()),
            Shape::WriteMany => Completion::WrittenMany(slots.into_vec().into_iter().map(written).collect()),
            Shape::Get => Completion::Got(got(one(slots))),
            Shape::Write => Completion::Written(written(one(slots))),
            Shape::Map => Completion::Map(match one(slots) {
                Slot::Map(map) => Ok(map),
                Slot::Failed(error) => Err(error),
                _ => Err(never()),
            }),
            Shape::Stats => Completion::Stats(match one(slots) {
                Slot::Stats(stats) => Ok(*stats),
                Slot::Failed(error) => Err(error),
                _ => Err(never()),
            }),
            Shape::Status => Completion::Status(match one(slots) {
                Slot::Text(text) => Ok(text),
                Slot::Failed(error) => Err(error),
                _ => Err(never()),
            }),
        };
        self.done.push((CallId(id), completion));
    }
}

fn got(slot: Slot) -> Result<Option<Value>, Error> {
    match slot {
        Slot::Got(value) => Ok(value),
        Slot::Failed(error) => Err(error),
        _ => Err(never()),
    }
}

fn written(slot: Slot) -> Result<Written, Error> {
    match slot {
        Slot::Written(version) => Ok(Written { version }),
        Slot::Failed(error) => Err(error),
        _ => Err(never()),
    }
}

/// A slot of the wrong form: unreachable by construction, and unknown is always a safe answer.
fn never() -> Error {
    Error::Closed { outcome: Outcome::Unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_are_done_are_not_kept_for_one_that_ends_at_the_same_time() {
        let mut calls = Calls::new();
        let open = |calls: &mut Calls| {
            calls.open(Shape::Get, 1, 1, Times { since_ns: 0, deadline_ns: u64::MAX }, Cause::NotSent)
        };
        let slow = open(&mut calls);
        for _ in 0..10_000 {
            let call = open(&mut calls);
            calls.settle(call, 0, Slot::Got(None));
            calls.take_done(&mut Vec::new());
        }
        assert!(calls.deadlines[&u64::MAX].calls.len() <= 2 * GROUP_DONE_MAX);
        assert!(calls.expire(u64::MAX), "the one that is left still ends in time");
        let mut done = Vec::new();
        calls.take_done(&mut done);
        assert_eq!((done.len(), done[0].0), (1, slow));
    }
}
