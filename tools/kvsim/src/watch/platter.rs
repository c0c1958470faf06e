//! What each store's disk durably holds, whatever the store says; and whether a new life finds it again.

use super::look::Look;
use ringkv_storage::wal::HardState;
use ringkv_storage::wal::shadow::{Held, Shadow};
use ringkv_wire::ids::{ShardId, StoreId};
use std::collections::BTreeMap;

/// One store's disk, over all its lives.
pub struct Platter {
    shadow: Shadow,
    /// What was durable when the last life that had opened ended.
    before: BTreeMap<ShardId, Held>,
    /// What the tables were said to hold durably, by index.
    flushed: BTreeMap<ShardId, u64>,
    /// The present life has opened.
    opened: bool,
    /// The disk was damaged in silence, or wiped: what this store promised may be gone.
    pub damaged: bool,
}

/// The disks of all stores.
pub type Platters = BTreeMap<StoreId, Platter>;

/// A replica's term, vote and log.
pub fn held(look: &dyn Look) -> Held {
    let seen = look.seen();
    let terms = (seen.floor.0 + 1..=seen.last.0).map_while(|index| look.term_at(index));
    Held::new(HardState { term: seen.hard.0, vote: seen.hard.1 }, seen.floor, terms)
}

impl Platter {
    /// An empty disk of a store whose log has this identity.
    pub fn new(log_identity: [u8; 16]) -> Platter {
        let (shadow, before, flushed) = (Shadow::new(log_identity), BTreeMap::new(), BTreeMap::new());
        Platter { shadow, before, flushed, opened: false, damaged: false }
    }

    /// A write has become durable.
    pub fn wrote(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        self.shadow.wrote(name, offset, bytes);
    }

    /// What is durable now, for tests of other checks.
    #[cfg(test)]
    pub fn recovered(&mut self, shard: ShardId, held: Held) {
        self.shadow.recovered(shard, held);
    }

    /// A new life begins: it has read nothing yet. Lives that never opened promised nothing.
    pub fn begins(&mut self) {
        if std::mem::replace(&mut self.opened, false) {
            self.before = self.shadow.shards().clone();
        }
    }

    /// The tables say that they hold everything up to `index`.
    pub fn flushed(&mut self, shard: ShardId, index: u64) {
        let flushed = self.flushed.entry(shard).or_default();
        *flushed = index.max(*flushed);
    }

    /// A shard as it is durable now.
    pub fn held(&self, shard: ShardId) -> Option<&Held> {
        self.shadow.shard(shard)
    }

    /// A replica was opened. Durable is durable: what was there before is there again, or a later leader replaced it.
    pub fn opened(&mut self, shard: ShardId, look: &dyn Look, committed: impl Fn(u64) -> Option<u64>) -> Vec<String> {
        self.opened = true;
        let found = held(look);
        let mut wrong = Vec::new();
        if let Some(before) = self.before.get(&shard).filter(|_| !self.damaged) {
            wrong.extend(lost(before, &found, committed));
        }
        let (flushed, commit) = (self.flushed.get(&shard).copied().unwrap_or(0), look.seen().commit);
        if commit < flushed && !self.damaged {
            wrong.push(format!("its tables held {flushed} durably, and now {commit}"));
        }
        self.shadow.recovered(shard, found);
        wrong
    }
}

/// What of `before` is not in `found`.
fn lost(before: &Held, found: &Held, committed: impl Fn(u64) -> Option<u64>) -> Option<String> {
    if !found.hard.follows(&before.hard) {
        return Some(format!("{:?} were durable, and now {:?} are", before.hard, found.hard));
    }
    let from = before.floor.0.max(found.floor.0);
    if found.last() < before.floor.0 {
        return Some(format!("its log was durable up to {}, and now ends at {}", before.last(), found.last()));
    }
    let index = (from + 1..=before.last()).find(|&index| found.term_at(index) != before.term_at(index))?;
    let term = before.term_at(index).unwrap_or_default();
    // A tail that a later leader replaced, by writes that no sync had covered yet.
    let replaced = found.term_at(index).unwrap_or(found.last_term()) > term;
    if replaced && committed(index) != Some(term) {
        return None;
    }
    let now = found.term_at(index);
    Some(format!("entry {index} of term {term} was durable; now its term is {now:?}, the log ends at {}", found.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(term: u64, floor: (u64, u64), terms: &[u64]) -> Held {
        Held::new(HardState { term, vote: None }, floor, terms.iter().copied())
    }

    fn verdict(before: &Held, found: &Held, committed: u64) -> Option<String> {
        lost(before, found, |index| (index <= committed).then(|| before.term_at(index)).flatten())
    }

    #[test]
    fn what_is_there_again_passes() {
        let before = of(3, (2, 1), &[1, 1, 3]);
        let right = [
            of(3, (2, 1), &[1, 1, 3]),
            of(4, (2, 1), &[1, 1, 3, 3]),
            of(3, (4, 1), &[3]),
            of(9, (8, 3), &[]),
            of(4, (2, 1), &[1, 4]),
        ];
        for found in right {
            assert_eq!(verdict(&before, &found, 3), None, "{found:?}");
        }
    }

    #[test]
    fn what_was_durable_and_is_gone_is_named() {
        let before = of(3, (2, 1), &[1, 1, 3]);
        let by = |n| {
            let mut held = before.clone();
            held.hard.vote = Some(StoreId::new(n, 0));
            held
        };
        let (voted, other) = (by(2), by(1));
        let wrong = [
            (&before, of(2, (2, 1), &[1, 1, 3]), "durable, and now"),
            (&voted, before.clone(), "durable, and now"),
            (&voted, other, "durable, and now"),
            (&before, of(3, (2, 1), &[1, 1]), "entry 5"),
            (&before, of(3, (2, 1), &[1, 1, 2]), "entry 5"),
            (&before, of(3, (0, 0), &[]), "ends at 0"),
            // Replaced by a later leader, but committed.
            (&before, of(4, (2, 1), &[4]), "entry 3"),
        ];
        for (before, found, word) in wrong {
            let verdict = verdict(before, &found, 3).unwrap_or_default();
            assert!(verdict.contains(word), "{found:?}: {verdict}");
        }
    }
}
