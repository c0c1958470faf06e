//! Records every call in the form that `lincheck` judges.

use std::io;
use std::time::Instant;

use bytes::Bytes;
use lincheck::{Kind, Op, Outcome};

use crate::target::{Failure, Found};

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

/// One caller's part of a history.
#[derive(Debug)]
pub struct Notes {
    started: Instant,
    client: u64,
    ops: Vec<Op>,
}

impl Recorder {
    /// An empty part for a caller that asks through client number `client`.
    pub fn notes(&self, client: u64) -> Notes {
        Notes { started: self.started, client, ops: Vec::new() }
    }

    /// Takes a caller's part.
    pub fn absorb(&mut self, notes: Notes) {
        self.ops.extend(notes.ops);
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
    pub fn got(&mut self, key: &Bytes, from: Instant, until: Instant, answer: &Result<Option<Found>, Failure>) {
        let mut op = self.op(key, Kind::Get, from, until);
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
    pub fn wrote(&mut self, key: &Bytes, value: &Bytes, from: Instant, until: Instant, answer: &Result<u64, Failure>) {
        let mut op = self.op(key, Kind::Put, from, until);
        op.value = Some(tag_of(value));
        match answer {
            Ok(version) => op.version = Some(*version),
            Err(Failure::Applied) => {}
            Err(Failure::NotApplied) => op.outcome = Outcome::Failed,
            Err(Failure::Unknown) => (op.outcome, op.ret) = (Outcome::Unknown, None),
        }
        self.ops.push(op);
    }

    fn op(&self, key: &Bytes, kind: Kind, from: Instant, until: Instant) -> Op {
        Op {
            client: self.client,
            key: String::from_utf8_lossy(key).into_owned(),
            kind,
            value: None,
            call: self.at(from),
            ret: Some(self.at(until)),
            outcome: Outcome::Ok,
            version: None,
            shard: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn lincheck_reads_what_is_recorded() {
        let mut recorder = Recorder::default();
        let mut notes = recorder.notes(3);
        let (key, value) = (Bytes::from("k1"), Bytes::from("3.1 k1 filler"));
        let t = |ms| notes.started + Duration::from_millis(ms);
        let times = [t(0), t(1), t(2), t(3), t(4), t(5)];
        notes.wrote(&key, &value, times[0], times[1], &Ok(9));
        notes.got(&key, times[2], times[3], &Ok(Some(Found { bytes: value.clone(), version: 9 })));
        notes.wrote(&key, &Bytes::from("3.2 k1"), times[4], times[5], &Err(Failure::Unknown));
        recorder.absorb(notes);
        let mut lines = Vec::new();
        recorder.write(&mut lines).unwrap();
        let read = lincheck::read(lines.as_slice()).unwrap();
        assert_eq!(read.len(), 3);
        assert_eq!(read[1].value.as_deref(), Some("3.1"));
        assert_eq!(read[2].ret, None);
        assert!(lincheck::check(&read).is_ok());
    }
}
