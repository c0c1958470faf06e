//! What the table keeps of one client.

use ringkv_wire::msg::client::WriteResult;
use std::collections::VecDeque;

/// Memory of a record without outcomes, with its places in the maps, roughly.
pub(super) const RECORD_BYTES: usize = 160;
/// Memory of an outcome, roughly.
const OUTCOME_BYTES: usize = size_of::<Outcome>() + 8;

/// What became of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub seq: u64,
    pub expiry_ms: u64,
    pub result: WriteResult,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    /// The lowest sequence that may still be asked about.
    pub floor: u64,
    /// The highest expiry of any operation accepted.
    pub highest_expiry_ms: u64,
    /// By sequence.
    outcomes: VecDeque<Outcome>,
    /// The bucket of the sweep it was last put in.
    pub last_bucket: u64,
}

impl Record {
    pub fn new(floor: u64, highest_expiry_ms: u64) -> Record {
        Record { floor, highest_expiry_ms, ..Record::default() }
    }

    pub fn bytes(&self) -> usize {
        RECORD_BYTES + self.outcomes.len() * OUTCOME_BYTES
    }

    fn place(&self, seq: u64) -> usize {
        // Nearly always at the end: clients count upwards.
        if self.outcomes.back().is_none_or(|last| last.seq < seq) {
            return self.outcomes.len();
        }
        self.outcomes.partition_point(|outcome| outcome.seq < seq)
    }

    pub fn get(&self, seq: u64) -> Option<&Outcome> {
        self.outcomes.get(self.place(seq)).filter(|outcome| outcome.seq == seq)
    }

    pub fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter()
    }

    /// Records an outcome; gives the memory it took.
    pub fn insert(&mut self, outcome: Outcome) -> usize {
        self.highest_expiry_ms = self.highest_expiry_ms.max(outcome.expiry_ms);
        let place = self.place(outcome.seq);
        match self.outcomes.get_mut(place).filter(|known| known.seq == outcome.seq) {
            Some(expired) => {
                *expired = outcome;
                0
            }
            None => {
                self.outcomes.insert(place, outcome);
                OUTCOME_BYTES
            }
        }
    }

    /// Gives the memory that became free.
    pub fn raise_floor(&mut self, floor: u64) -> usize {
        self.floor = self.floor.max(floor);
        let passed = self.outcomes.iter().take_while(|outcome| outcome.seq < self.floor).count();
        self.outcomes.drain(..passed);
        passed * OUTCOME_BYTES
    }

    /// Gives the memory that became free.
    pub fn drop_expired(&mut self, log_time_ms: u64) -> usize {
        let before = self.outcomes.len();
        self.outcomes.retain(|outcome| outcome.expiry_ms > log_time_ms);
        (before - self.outcomes.len()) * OUTCOME_BYTES
    }
}
