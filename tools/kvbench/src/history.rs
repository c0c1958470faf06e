//! Records every call in the form that `lincheck` judges.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use lincheck::{Kind, Op, Outcome};
use serde::{Deserialize, Serialize};

use crate::store::{Failure, Found};

/// Collects operations.
#[derive(Debug)]
pub struct Recorder {
    started: Instant,
    ops: Vec<Op>,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder { started: Instant::now(), ops: Vec::new() }
    }
}

/// The text that stands for a value: what stands before its first space, unique for each write.
pub fn tag_of(value: &[u8]) -> String {
    let tag = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8_lossy(tag).into_owned()
}

/// One thread's part of a history.
#[derive(Debug)]
pub struct Notes {
    started: Instant,
    ops: Vec<Op>,
}

/// Who called, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Number of the client. Calls of one client travel together, whoever made them: that is who asks, in a history.
    pub client: u64,
    /// When the call was made.
    pub from: Instant,
    /// When it was answered.
    pub until: Instant,
}

impl Recorder {
    /// An empty part.
    pub fn notes(&self) -> Notes {
        Notes { started: self.started, ops: Vec::new() }
    }

    /// Takes a part.
    pub fn absorb(&mut self, notes: Notes) {
        self.ops.extend(notes.ops);
    }

    /// Notes for each operation the shard that `shard_of` names for its key.
    pub fn place(&mut self, shard_of: impl Fn(&[u8]) -> Option<u64>) {
        for op in &mut self.ops {
            op.shard = shard_of(op.key.as_bytes());
        }
    }

    /// What has been recorded so far comes to this.
    pub fn answers(&self) -> Answers {
        Answers::of(&self.ops)
    }

    /// All operations in the order of their calls.
    pub fn into_ops(mut self) -> Vec<Op> {
        self.ops.sort_by_key(|op| (op.call, op.client));
        self.ops
    }

    /// Writes all operations as JSON lines.
    pub fn write(self, to: impl io::Write) -> io::Result<()> {
        lincheck::write(&self.into_ops(), to)
    }
}

impl Notes {
    /// Nanoseconds since the recorder was made.
    fn at(&self, when: Instant) -> u64 {
        u64::try_from(when.duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A read and its answer.
    pub fn got(&mut self, key: &Bytes, asked: Asked, answer: &Result<Option<Found>, Failure>) {
        let mut op = self.op(key, Kind::Get, asked);
        match answer {
            Ok(Some(found)) => {
                op.value = Some(tag_of(&found.bytes));
                op.version = Some(found.version);
            }
            Ok(None) => {}
            Err(_) => op.outcome = Outcome::Failed,
        }
        self.ops.push(op);
    }

    /// A write and its answer.
    pub fn wrote(&mut self, key: &Bytes, value: &Bytes, asked: Asked, answer: &Result<u64, Failure>) {
        let mut op = self.op(key, Kind::Put, asked);
        op.value = Some(tag_of(value));
        self.ops.push(told(op, answer));
    }

    /// A removal and its answer.
    pub fn deleted(&mut self, key: &Bytes, asked: Asked, answer: &Result<u64, Failure>) {
        let op = self.op(key, Kind::Delete, asked);
        self.ops.push(told(op, answer));
    }

    fn op(&self, key: &Bytes, kind: Kind, asked: Asked) -> Op {
        Op {
            client: asked.client,
            key: String::from_utf8_lossy(key).into_owned(),
            kind,
            value: None,
            call: self.at(asked.from),
            ret: Some(self.at(asked.until)),
            outcome: Outcome::Ok,
            version: None,
            shard: None,
        }
    }
}

/// A write with what its caller was told.
fn told(mut op: Op, answer: &Result<u64, Failure>) -> Op {
    match answer {
        Ok(version) => op.version = Some(*version),
        Err(Failure::Applied) => {}
        Err(Failure::NotApplied) => op.outcome = Outcome::Failed,
        Err(Failure::Unknown) => (op.outcome, op.ret) = (Outcome::Unknown, None),
    }
    op
}

/// What a history comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Calls, counted by key.
    pub operations: u64,
    /// Answered as asked.
    pub acknowledged: u64,
    /// Surely not done.
    pub failed: u64,
    /// Not known.
    pub unknown: u64,
    /// Longest time between two acknowledged answers, ms.
    pub longest_gap_ms: f64,
    /// The same within one shard, the worst of all; 0 when shards are not recorded.
    pub longest_shard_gap_ms: f64,
}

impl Answers {
    fn of(ops: &[Op]) -> Answers {
        let count = |outcome| ops.iter().filter(|op| op.outcome == outcome).count() as u64;
        let mut shards: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut all = Vec::new();
        for op in ops.iter().filter(|op| op.outcome == Outcome::Ok) {
            all.extend(op.ret);
            if let Some(shard) = op.shard {
                shards.entry(shard).or_default().extend(op.ret);
            }
        }
        Answers {
            operations: ops.len() as u64,
            acknowledged: count(Outcome::Ok),
            failed: count(Outcome::Failed),
            unknown: count(Outcome::Unknown),
            longest_gap_ms: longest_gap_ms(all),
            longest_shard_gap_ms: shards.into_values().map(longest_gap_ms).fold(0.0, f64::max),
        }
    }
}

/// Longest distance between neighbours of `times`, which are in nanoseconds.
fn longest_gap_ms(mut times: Vec<u64>) -> f64 {
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lincheck_reads_what_is_recorded() {
        let mut recorder = Recorder::default();
        let mut notes = recorder.notes();
        let (key, value) = (Bytes::from("k1"), Bytes::from("3.1 k1 filler"));
        let start = notes.started;
        let t = |ms| start + Duration::from_millis(ms);
        let asked = |from, until| Asked { client: 3, from: t(from), until: t(until) };
        notes.wrote(&key, &value, asked(0, 1), &Ok(9));
        notes.got(&key, asked(2, 3), &Ok(Some(Found { bytes: value.clone(), version: 9 })));
        notes.wrote(&key, &Bytes::from("3.2 k1"), asked(4, 5), &Err(Failure::Unknown));
        recorder.absorb(notes);
        let mut lines = Vec::new();
        recorder.write(&mut lines).unwrap();
        let read = lincheck::read(lines.as_slice()).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].value.as_deref(), Some("3.1"));
        assert_eq!(read[2].ret, None);
        assert!(lincheck::check(&read).is_ok());
    }

    #[test]
    fn gaps_are_told_overall_and_per_shard() {
        let mut recorder = Recorder::default();
        let mut notes = recorder.notes();
        let start = notes.started;
        let mut wrote = |key: &'static str, ms, answer| {
            let at = start + Duration::from_millis(ms);
            let asked = Asked { client: 1, from: at, until: at };
            notes.wrote(&Bytes::from(key), &Bytes::from(format!("{ms} {key}")), asked, &answer);
        };
        wrote("a", 0, Ok(1));
        wrote("b", 10, Ok(1));
        wrote("a", 15, Err(Failure::Unknown));
        wrote("b", 17, Err(Failure::NotApplied));
        wrote("b", 30, Ok(2));
        wrote("a", 45, Ok(2));
        recorder.absorb(notes);
        recorder.place(|key| key.first().map(|byte| u64::from(*byte)));
        let told = recorder.answers();
        assert_eq!((told.operations, told.acknowledged, told.failed, told.unknown), (6, 4, 1, 1));
        assert_eq!((told.longest_gap_ms, told.longest_shard_gap_ms), (20.0, 45.0));
    }
}
