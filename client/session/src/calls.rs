//! The calls that are not done: what is known of each key of each, and when their time is up.

use crate::call::{CallId, Completion, Value, Written};
use crate::error::{Cause, Error, Failure};
use crate::slab::Slab;
use ringkv_wire::ids::{ShardId, StoreId};
use ringkv_wire::ring::topology::ClusterMap;
use ringkv_wire::status::Outcome;
use std::collections::BTreeSet;
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

#[derive(Debug)]
pub(crate) struct CallState {
    shape: Shape,
    deadline_ns: u64,
    slots: Vec<Slot>,
    left: usize,
    /// Bytes it holds.
    bytes: usize,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Calls {
    table: Slab<CallState>,
    deadlines: BTreeSet<(u64, u64)>,
    held_bytes: usize,
    /// Keys of which their caller was told that the outcome is unknown.
    unknown: u64,
    done: Vec<(CallId, Completion)>,
}

impl Calls {
    pub fn new() -> Calls {
        Calls { table: Slab::new(), deadlines: BTreeSet::new(), held_bytes: 0, unknown: 0, done: Vec::new() }
    }

    /// A call of `keys` keys, all waiting. One without keys is done at once.
    pub fn open(&mut self, shape: Shape, keys: usize, bytes: usize, deadline_ns: u64, cause: Cause) -> CallId {
        let waiting = Progress { shard: None, store: None, cause, attempts: 0, in_flight: false, undecided: false };
        let slots = vec![Slot::Waiting(waiting); keys];
        let id = self.table.insert(CallState { shape, deadline_ns, slots, left: keys, bytes });
        self.deadlines.insert((deadline_ns, id));
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

    pub fn next_deadline_ns(&self) -> u64 {
        if self.done.is_empty() { self.deadlines.first().map_or(u64::MAX, |d| d.0) } else { 0 }
    }

    /// When the call's time is up; `None` when it is done.
    pub fn deadline_ns(&self, call: CallId) -> Option<u64> {
        self.table.get(call.0).map(|c| c.deadline_ns)
    }

    /// What is known of a key that still waits.
    pub fn progress(&mut self, call: CallId, at: u32) -> Option<&mut Progress> {
        match self.table.get_mut(call.0)?.slots.get_mut(at as usize)? {
            Slot::Waiting(progress) => Some(progress),
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
        while let Some(&(_, id)) = self.deadlines.first().filter(|d| d.0 <= now_ns) {
            self.end(CallId(id), Error::Deadline);
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
        if let Some(state) = self.table.remove(call.0) {
            self.deadlines.remove(&(state.deadline_ns, call.0));
            self.held_bytes -= state.bytes;
        }
    }

    /// Every call that is not done.
    pub fn all(&self) -> Vec<CallId> {
        self.table.iter().map(|(id, _)| CallId(id)).collect()
    }

    pub fn take_done(&mut self, out: &mut Vec<(CallId, Completion)>) {
        out.append(&mut self.done);
    }

    fn close(&mut self, id: u64) {
        let Some(state) = self.table.remove(id) else { return };
        self.deadlines.remove(&(state.deadline_ns, id));
        self.held_bytes -= state.bytes;
        let shape = state.shape;
        let mut slots = state.slots.into_iter();
        let completion = match shape {
            Shape::GetMany => Completion::GotMany(slots.map(got).collect()),
            Shape::WriteMany => Completion::WrittenMany(slots.map(written).collect()),
            Shape::Get => Completion::Got(slots.next().map_or(Ok(None), got)),
            Shape::Write => Completion::Written(slots.next().map_or(Err(never()), written)),
            Shape::Map => Completion::Map(match slots.next() {
                Some(Slot::Map(map)) => Ok(map),
                Some(Slot::Failed(error)) => Err(error),
                _ => Err(never()),
            }),
            Shape::Status => Completion::Status(match slots.next() {
                Some(Slot::Text(text)) => Ok(text),
                Some(Slot::Failed(error)) => Err(error),
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
