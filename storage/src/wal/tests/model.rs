//! What the log must hold: the outcome of some prefix of all records, at least of the acknowledged ones.

use crate::wal::testing::entry;
use crate::wal::{HardState, Record, Recovered, ShardState};
use ringkv_wire::ids::{Incarnation, ShardId, StoreId};
use std::collections::BTreeMap;

/// One shard after some records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shard {
    pub(super) hard: HardState,
    /// (term, body bytes) of the entries behind `floor`.
    pub(super) entries: Vec<(u64, usize)>,
    pub(super) floor: (u64, u64),
}

impl Shard {
    pub(super) fn last(&self) -> u64 {
        self.floor.0 + self.entries.len() as u64
    }

    pub(super) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.floor.0 {
            return Some(self.floor.1);
        }
        let at = index.checked_sub(self.floor.0 + 1)?;
        self.entries.get(at as usize).map(|(term, _)| *term)
    }
}

/// Everything after some records.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct World {
    pub(super) shards: BTreeMap<ShardId, Shard>,
    peers: BTreeMap<StoreId, Incarnation>,
    admitted: bool,
}

impl World {
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Entry(e) => {
                let shard = self.shards.get_mut(&e.shard).expect("the driver made it");
                shard.entries.truncate((e.index - shard.floor.0 - 1) as usize);
                shard.entries.push((e.term, e.body.len()));
            }
            Record::HardState { shard, hard, .. } => {
                self.shards.get_mut(shard).expect("the driver made it").hard = *hard
            }
            Record::ShardState(state) => self.state(state),
            Record::ShardGone(shard) => drop(self.shards.remove(shard)),
            Record::Peer { store, incarnation } => {
                self.peers.insert(*store, *incarnation);
            }
            Record::Admitted => self.admitted = true,
        }
    }

    fn state(&mut self, state: &ShardState) {
        let shard = self.shards.entry(state.shard).or_default();
        shard.hard = state.hard;
        let floor = (state.floor_index, state.floor_term);
        if floor.0 <= shard.floor.0 {
            return;
        }
        if shard.term_of(floor.0) == Some(floor.1) {
            shard.entries.drain(..(floor.0 - shard.floor.0) as usize);
        } else {
            shard.entries.clear();
        }
        shard.floor = floor;
    }

    /// Why `recovered` is not this world; entries that were flushed may be gone.
    fn differs(&self, recovered: &Recovered, flushed: &BTreeMap<ShardId, u64>) -> Option<String> {
        let found: Vec<ShardId> = recovered.shards.iter().map(|shard| shard.state.shard).collect();
        if !self.shards.keys().eq(found.iter()) {
            return Some(format!("shards {found:?}"));
        }
        if !self.peers.iter().map(|(s, i)| (*s, *i)).eq(recovered.peers.iter().copied())
            || self.admitted != recovered.admitted
        {
            return Some("peers".to_owned());
        }
        recovered.shards.iter().find_map(|found| {
            let (id, ours) = (found.state.shard, self.shards.get(&found.state.shard)?);
            let floor = found.state.floor_index;
            if found.state.hard != ours.hard {
                return Some(format!("{id}: {:?} instead of {:?}", found.state.hard, ours.hard));
            }
            let most = flushed.get(&id).copied().unwrap_or(0).max(ours.floor.0);
            if floor < ours.floor.0 || floor > most || Some(found.state.floor_term) != ours.term_of(floor) {
                return Some(format!(
                    "{id}: floor {floor} term {}, {:?} to {most}",
                    found.state.floor_term, ours.floor
                ));
            }
            let ours = ours.entries.iter().zip(ours.floor.0 + 1..).filter(|(_, index)| *index > floor);
            let ours: Vec<_> = ours.map(|((term, bytes), index)| entry(id.0, index, *term, *bytes)).collect();
            (ours != found.entries).then(|| {
                let short =
                    |all: &[ringkv_wire::entry::Entry]| all.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>();
                format!("{id}: {:?} instead of {:?}", short(&found.entries), short(&ours))
            })
        })
    }
}

/// All records ever committed that may be in the log, and how many of them must be.
#[derive(Clone, Default)]
pub(super) struct History {
    /// What is surely durable.
    base: World,
    /// Everything committed, acknowledged or not.
    pub(super) now: World,
    /// From `base` to `now`.
    records: Vec<Record>,
    pub(super) acknowledged: usize,
    /// Highest index that was ever flushed, also before a shard went and came back.
    pub(super) flushed: BTreeMap<ShardId, u64>,
}

impl History {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn push(&mut self, records: &[Record]) {
        records.iter().for_each(|record| self.now.apply(record));
        self.records.extend_from_slice(records);
    }

    /// Finds the prefix that `recovered` is, and goes on from there.
    pub(super) fn check(&mut self, recovered: &Recovered) -> Result<(), String> {
        let mut world = self.base.clone();
        self.records[..self.acknowledged].iter().for_each(|record| world.apply(record));
        let mut differs = vec![world.differs(recovered, &self.flushed)];
        for record in &self.records[self.acknowledged..] {
            if differs.last().is_some_and(Option::is_none) {
                break;
            }
            world.apply(record);
            differs.push(world.differs(recovered, &self.flushed));
        }
        let differs: Option<Vec<String>> = differs.into_iter().collect();
        if let Some(differs) = differs {
            let (have, tail) = (self.acknowledged, &self.records[self.acknowledged..]);
            return Err(format!("no prefix from record {have} on: {differs:#?}, committed since: {tail:#?}"));
        }
        // What was found once is durable now: recovery wrote it again.
        (self.now, self.base, self.acknowledged) = (world.clone(), world, 0);
        self.records.clear();
        Ok(())
    }
}
