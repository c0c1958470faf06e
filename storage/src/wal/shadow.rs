//! What a log holds durably, told by its writes alone: an onlooker's second opinion, for tools and the simulator.
//!
//! A [`Shadow`] hears of every write that has reached the platter, in whatever order. It takes batches only as a recovery
//! would: whole, in the order of their numbers, each chained to the one before. So it knows what a crash at this moment could
//! not take away, without asking the log.

use super::HardState;
use super::record::{Assembler, Logged, Piece, pieces};
use super::segment::batch::{self, Batch, FIRST, Opened};
use super::segment::sector::Seed;
use super::segment::sequence_of;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use std::collections::{BTreeMap, VecDeque};

/// One shard, as the log holds it durably.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Term and vote.
    pub hard: HardState,
    /// Index and term behind which the entries begin.
    pub floor: (u64, u64),
    terms: VecDeque<u64>,
}

impl Held {
    /// A shard with entries of these terms behind its floor.
    pub fn new(hard: HardState, floor: (u64, u64), terms: impl IntoIterator<Item = u64>) -> Held {
        Held { hard, floor, terms: terms.into_iter().collect() }
    }

    /// Index of the last entry.
    pub fn last(&self) -> u64 {
        self.floor.0 + self.terms.len() as u64
    }

    /// Term of the last entry.
    pub fn last_term(&self) -> u64 {
        self.terms.back().copied().unwrap_or(self.floor.1)
    }

    /// The term at `index`, from the floor to the last entry.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.floor.0)? {
            0 => Some(self.floor.1),
            behind => self.terms.get(usize::try_from(behind - 1).ok()?).copied(),
        }
    }

    /// Drops the entries above `index`.
    pub fn keep_to(&mut self, index: u64) {
        self.terms.truncate(usize::try_from(index.saturating_sub(self.floor.0)).unwrap_or(usize::MAX));
    }

    fn append(&mut self, entry: &Entry) {
        if entry.index <= self.floor.0 || entry.index > self.last() + 1 {
            return; // Below the floor it says nothing; behind a gap no recovery would take it.
        }
        self.keep_to(entry.index - 1);
        self.push(entry.term);
    }

    /// Appends an entry of this term.
    pub fn push(&mut self, term: u64) {
        self.terms.push_back(term);
    }

    /// Drops the entries up to `floor` (index, term), all of them when the floor is above the last. A lower floor changes
    /// nothing.
    pub fn raise(&mut self, floor: (u64, u64)) {
        if floor.0 > self.floor.0 {
            let gone = usize::try_from(floor.0 - self.floor.0).unwrap_or(usize::MAX).min(self.terms.len());
            self.terms.drain(..gone);
            self.floor = floor;
        }
    }
}

/// See the module.
pub struct Shadow {
    seed: Seed,
    /// Number and chain of the last batch taken.
    last: Option<(u64, u32)>,
    /// Durable, but not what comes before them.
    early: BTreeMap<u64, Batch>,
    assembler: Assembler<()>,
    shards: BTreeMap<ShardId, Held>,
}

impl Shadow {
    /// Of a log that was opened with this identity (see [`super::LogOptions`]); nothing is written yet.
    pub fn new(store_identity: [u8; 16]) -> Shadow {
        Shadow {
            seed: Seed::new(&store_identity),
            last: None,
            early: BTreeMap::new(),
            assembler: Assembler::new(),
            shards: BTreeMap::new(),
        }
    }

    /// `bytes` are durable at `offset` of the segment file `name` (other files say nothing).
    pub fn wrote(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let Some(sequence) = sequence_of(name) else { return };
        let Opened::Batch(batch) = batch::open(bytes, offset, sequence, self.seed) else { return };
        if self.last.is_none() || (batch.flags & FIRST != 0 && begins_anew(&batch)) {
            // A recovery has judged what stood before, and goes on from a cut of its own.
            self.last = Some((batch.number - 1, batch.before));
            self.early.clear();
            self.assembler = Assembler::new();
        }
        if self.last.is_some_and(|(last, _)| batch.number > last) {
            self.early.insert(batch.number, batch);
        }
        while let Some((last, chain)) = self.last
            && let Some(batch) = self.early.remove(&(last + 1))
        {
            if batch.before != chain {
                return; // Not what a recovery would take; nor anything behind it.
            }
            self.last = Some((batch.number, batch.chain));
            self.take(&batch);
        }
    }

    fn take(&mut self, batch: &Batch) {
        for piece in pieces(batch.records.clone(), batch.count).unwrap_or_default() {
            match piece {
                Piece::Whole(logged) => self.record(logged),
                Piece::Fragment { first, last, bytes } => {
                    if let Ok(Some((entry, ()))) = self.assembler.feed(first, last, bytes, ())
                        && let Some(held) = self.shards.get_mut(&entry.shard)
                    {
                        held.append(&entry);
                    }
                }
            }
        }
    }

    fn record(&mut self, logged: Logged) {
        match logged {
            Logged::HardState { shard, hard, .. } => {
                if let Some(held) = self.shards.get_mut(&shard) {
                    held.hard = hard;
                }
            }
            Logged::Shard { state, kept } => {
                let held = self.shards.entry(state.shard).or_default();
                held.hard = state.hard;
                held.keep_to(kept);
                held.raise((state.floor_index, state.floor_term));
            }
            Logged::Floor { shard, index, term } => {
                if let Some(held) = self.shards.get_mut(&shard) {
                    held.raise((index, term));
                }
            }
            Logged::Gone(shard) => drop(self.shards.remove(&shard)),
            Logged::Entry(_) | Logged::Peer { .. } | Logged::Store { .. } => {}
            Logged::Cut(_) | Logged::HeadComplete { .. } | Logged::Oldest(_) => {}
        }
    }

    /// A shard, as it is durable now.
    pub fn shard(&self, shard: ShardId) -> Option<&Held> {
        self.shards.get(&shard)
    }

    /// All shards.
    pub fn shards(&self) -> &BTreeMap<ShardId, Held> {
        &self.shards
    }

    /// A recovery has returned this state, and what it returns is durable: also what no sync was seen for.
    pub fn recovered(&mut self, shard: ShardId, held: Held) {
        self.shards.insert(shard, held);
    }
}

fn begins_anew(batch: &Batch) -> bool {
    let first = pieces(batch.records.clone(), batch.count).unwrap_or_default().into_iter().next();
    matches!(first, Some(Piece::Whole(Logged::Cut(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::{Fault, FaultDisk, Injection, block_on};
    use crate::wal::{Log, LogOptions, Record, ReplicaState, ShardState};
    use bytes::Bytes;
    use ringkv_wire::entry::EntryKind;
    use ringkv_wire::ids::Generation;
    use std::cell::RefCell;
    use std::rc::Rc;

    const SHARD: ShardId = ShardId(3);

    fn options() -> LogOptions {
        LogOptions { segment_bytes: 128 << 10, keep_bytes: 0, ..LogOptions::new([7; 16]) }
    }

    fn entry(index: u64, term: u64) -> Record {
        let body = Bytes::from(vec![index as u8; 9_000]);
        let body_crc = ringkv_wire::checksum(&body);
        let (generation, kind) = (Generation(1), EntryKind::Empty);
        Record::Entry(Entry { shard: SHARD, generation, term, index, log_time_ms: 1, kind, body, body_crc })
    }

    fn state() -> Record {
        Record::ShardState(ShardState {
            shard: SHARD,
            generation: Generation(1),
            state: ReplicaState::Voter,
            hard: HardState::default(),
            floor_index: 0,
            floor_term: 0,
            flushed_index: 0,
            acknowledged_index: 0,
            config_index: 0,
            config: Bytes::new(),
        })
    }

    fn watched() -> (FaultDisk, Rc<RefCell<Shadow>>) {
        let (disk, shadow) = (FaultDisk::new(5), Rc::new(RefCell::new(Shadow::new([7; 16]))));
        let told = shadow.clone();
        disk.set_platter(Rc::new(move |path, offset, bytes| {
            let name = path.rsplit('/').next().unwrap_or_default();
            told.borrow_mut().wrote(name, offset, bytes);
        }));
        (disk, shadow)
    }

    fn terms(shadow: &Rc<RefCell<Shadow>>) -> Vec<u64> {
        shadow.borrow().shard(SHARD).map(|held| held.terms.iter().copied().collect()).unwrap_or_default()
    }

    #[test]
    fn it_says_what_a_recovery_finds() {
        let (disk, shadow) = watched();
        block_on(async {
            let (log, _) = Log::open(disk.clone(), "log", options()).await.unwrap();
            log.commit(vec![state()]).await.unwrap();
            for index in 1..=20 {
                log.maintain().await.unwrap();
                log.commit(vec![entry(index, 1)]).await.unwrap();
            }
            // More than a segment by now. A new leader replaces the tail.
            let hard = HardState { term: 4, vote: None };
            log.commit(vec![Record::HardState { shard: SHARD, generation: Generation(1), hard }, entry(18, 4)])
                .await
                .unwrap();
            assert_eq!(terms(&shadow), [vec![1; 17], vec![4]].concat());
            drop(log);
            let disk = disk.crash_power();
            let (_, found) = Log::open(disk, "log", options()).await.unwrap();
            let found: Vec<u64> = found.shards[0].entries.iter().map(|entry| entry.term).collect();
            assert_eq!(terms(&shadow), found);
            assert_eq!(shadow.borrow().shard(SHARD).unwrap().hard, hard);
        });
    }

    #[test]
    fn what_no_sync_took_to_the_platter_is_not_held() {
        let (disk, shadow) = watched();
        block_on(async {
            let (log, _) = Log::open(disk.clone(), "log", options()).await.unwrap();
            log.commit(vec![state(), entry(1, 1)]).await.unwrap();
            disk.inject(Injection { path: "log".into(), skip: 0, fault: Fault::LostWrite });
            log.commit(vec![entry(2, 1)]).await.unwrap();
            // The disk lied: nor is anything held that is chained to the lost batch.
            log.commit(vec![entry(3, 1)]).await.unwrap();
            assert_eq!(terms(&shadow), [1]);
        });
    }
}
