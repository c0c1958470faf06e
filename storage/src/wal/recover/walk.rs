//! Reading the log from its oldest segment to where it ends, and judging what stands behind (FORMAT.md §1.5).

use super::image::Image;
use super::inspect::Standing;
use super::survey::Head;
use crate::disk::{Disk, DiskBuf};
use crate::error::StorageError;
use crate::wal::HardState;
use crate::wal::index::{Mirror, Place, ShardLog};
use crate::wal::record::{Assembler, Cut, Logged, Piece, pieces};
use crate::wal::segment::batch::{self, BATCH_BYTES_MAX, Batch, Claim, PAGE_BYTES};
use crate::wal::segment::sector::{self, SECTOR_BYTES, Seen};
use crate::wal::writer::IN_FLIGHT_MAX;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use std::collections::BTreeMap;

/// All that can be in flight behind the last batch of a segment.
const IN_FLIGHT_BYTES: u64 = (IN_FLIGHT_MAX * BATCH_BYTES_MAX) as u64;
/// Bytes judged at a time.
const JUDGED_BYTES: u64 = 256 << 10;

/// A batch that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) segment: u64,
    pub(super) chain: u32,
}

/// An entry and the batch in which it ends.
pub(super) type Dated = (Entry, u64);

/// What the batches taken so far amount to.
pub(super) struct Walk {
    pub(super) mirror: Mirror,
    pub(super) entries: BTreeMap<ShardId, Vec<Dated>>,
    pub(super) taken: Vec<Taken>,
    /// Highest batch number that a taken header calls durable.
    pub(super) synced: u64,
    /// The oldest segment needed, as the log says.
    pub(super) oldest: u64,
    /// Shards that went, and in which batch.
    pub(super) gone: Vec<(ShardId, u64)>,
    assembler: Assembler<Place>,
}

impl Walk {
    pub(super) fn new() -> Walk {
        Walk {
            mirror: Mirror::default(),
            entries: BTreeMap::new(),
            taken: Vec::new(),
            synced: 0,
            oldest: 0,
            gone: Vec::new(),
            assembler: Assembler::new(),
        }
    }

    /// Number of the last batch taken; 0 when none was.
    pub(super) fn last(&self) -> u64 {
        self.taken.last().map_or(0, |taken| taken.number)
    }

    /// Walks one segment up to the batch `until`, or to its end; where the first byte not taken stands. `None`: the segment
    /// does not continue the log.
    pub(super) async fn segment<D: Disk>(
        &mut self,
        image: &mut Image<D>,
        head: Head,
        until: Option<Cut>,
        heard: &mut dyn FnMut(Standing<'_>),
    ) -> Result<Option<u64>, StorageError> {
        let mut offset = 0;
        while until.is_none_or(|cut| self.last() != cut.batch) {
            let Some(batch) = image.batch(offset).await? else { break };
            if !self.continues(&batch, offset, head, image)? {
                break;
            }
            self.take(&batch, offset, image, heard)?;
            offset += batch.bytes;
        }
        let reached =
            self.taken.last().map(|taken| Cut { batch: taken.number, segment: taken.segment, chain: taken.chain });
        if let Some(cut) = until.filter(|cut| Some(*cut) != reached) {
            let (expected, got) = (format!("batch {}, known synced", cut.batch), format!("the log's end: {reached:?}"));
            return Err(image.damaged(offset, expected, got));
        }
        Ok((offset > 0).then_some(offset))
    }

    fn continues<D: Disk>(
        &self,
        batch: &Batch,
        offset: u64,
        head: Head,
        image: &Image<D>,
    ) -> Result<bool, StorageError> {
        let Some(last) = self.taken.last() else { return Ok(true) };
        // Behind a cut, which was reached, numbers jump.
        let next = if offset == 0 && head.cut.is_some() { batch.number } else { last.number + 1 };
        if batch.number != next || batch.number <= last.number {
            return Ok(false);
        }
        if batch.before == last.chain {
            return Ok(true);
        }
        let (expected, got) = (format!("chain {:#010x} before it", last.chain), format!("{:#010x}", batch.before));
        Err(image.damaged(offset, expected, got))
    }

    fn take<D: Disk>(
        &mut self,
        batch: &Batch,
        offset: u64,
        image: &Image<D>,
        heard: &mut dyn FnMut(Standing<'_>),
    ) -> Result<(), StorageError> {
        let at = Place { segment: image.sequence, offset, number: batch.number };
        self.synced = self.synced.max(batch.synced);
        let damaged = |got: String| image.damaged(offset, format!("records of batch {}", batch.number), got);
        for piece in pieces(batch.records.clone(), batch.count).map_err(|e| damaged(e.to_string()))? {
            match piece {
                Piece::Whole(logged) => {
                    heard(Standing { at, ends: at.number, record: &logged });
                    self.record(&logged, batch.number).map_err(damaged)?;
                }
                Piece::Fragment { first, last, bytes } => {
                    let entry = self.assembler.feed(first, last, bytes, at).map_err(|e| damaged(e.to_string()))?;
                    if let Some((entry, began)) = entry {
                        let logged = Logged::Entry(entry.clone());
                        heard(Standing { at: began, ends: at.number, record: &logged });
                        self.entry(entry, began, batch.number).map_err(damaged)?;
                    }
                }
            }
        }
        self.taken.push(Taken { number: batch.number, segment: image.sequence, chain: batch.chain });
        Ok(())
    }

    fn record(&mut self, logged: &Logged, number: u64) -> Result<(), String> {
        match logged {
            Logged::HeadComplete { oldest, .. } | Logged::Oldest(oldest) => self.oldest = *oldest,
            Logged::Gone(shard) => {
                self.entries.remove(shard);
                self.gone.push((*shard, number));
            }
            _ => {}
        }
        if let Some((shard, hard)) = hard_of(logged) {
            let known = self.mirror.shards.get(&shard).map(|log| log.state.hard);
            if let Some(known) = known.filter(|known| !hard.follows(known)) {
                return Err(format!("{shard}: {hard:?} after {known:?}"));
            }
        }
        if !self.mirror.apply(logged) {
            return Err(format!("{logged:?} of a shard without state"));
        }
        let shard = match logged {
            Logged::Shard { state, .. } => state.shard,
            Logged::Floor { shard, .. } => *shard,
            _ => return Ok(()),
        };
        if let (Some(log), Some(entries)) = (self.mirror.shards.get(&shard), self.entries.get_mut(&shard)) {
            trim(log, entries);
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, began: Place, done: u64) -> Result<(), String> {
        let Some(log) = self.mirror.shards.get_mut(&entry.shard) else {
            return Err(format!("an entry of {}, which has no state", entry.shard));
        };
        // The first one seen may follow entries in segments that are gone: the floors that say so come later.
        let next = log.first().map(|_| log.last().saturating_add(1));
        if entry.index <= log.state.floor_index || next.is_some_and(|next| entry.index > next) {
            return Err(format!("{} index {}, where {next:?} comes next", entry.shard, entry.index));
        }
        log.append(entry.index, entry.term, began, done);
        let entries = self.entries.entry(entry.shard).or_default();
        let keep = entries.partition_point(|(earlier, _)| earlier.index < entry.index);
        entries.truncate(keep);
        entries.push((entry, done));
        Ok(())
    }
}

fn hard_of(logged: &Logged) -> Option<(ShardId, HardState)> {
    match logged {
        Logged::HardState { shard, hard, .. } => Some((*shard, *hard)),
        Logged::Shard { state, .. } => Some((state.shard, state.hard)),
        _ => None,
    }
}

/// Drops what the shard's log no longer holds.
fn trim(log: &ShardLog, entries: &mut Vec<Dated>) {
    let (first, last) = (log.first().unwrap_or(u64::MAX), log.last());
    entries.retain(|(entry, _)| (first..=last).contains(&entry.index));
}

/// What the bytes behind the last batch taken turned out to be.
#[derive(Default)]
pub(super) struct Behind {
    /// Highest batch number seen in any whole sector.
    pub(super) highest: u64,
    /// First sector of a later batch, if any: there was an unfinished tail.
    pub(super) tail: Option<u64>,
}

/// Where the log ends.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// The segment's bytes from here on are to be judged.
    pub(super) offset: u64,
    /// The last batch taken.
    pub(super) last: u64,
    /// It stands in this segment.
    pub(super) here: bool,
}

/// Judges a segment's bytes behind the end: a tail, or damage.
pub(super) async fn judge<D: Disk>(image: &Image<D>, end: End) -> Result<Behind, StorageError> {
    let mut behind = Behind::default();
    let left = image.size.saturating_sub(end.offset);
    let (mut at, mut buf) = (end.offset, DiskBuf::zeroed(left.min(JUDGED_BYTES) as usize));
    loop {
        let (got, back) = image.read(at, buf).await?;
        buf = back;
        let (sectors, _) = buf[..got].as_chunks();
        for sector in sectors {
            behind.judge_sector(image, at, sector, end)?;
            at += SECTOR_BYTES as u64;
        }
        if sectors.is_empty() {
            return Ok(behind);
        }
    }
}

impl Behind {
    fn judge_sector<D: Disk>(
        &mut self,
        image: &Image<D>,
        at: u64,
        sector: &[u8; SECTOR_BYTES],
        end: End,
    ) -> Result<(), StorageError> {
        let index = at / SECTOR_BYTES as u64;
        match sector::look(sector, index as u32, image.seed) {
            Seen::Zero => {}
            // What may be in flight is behind: old bytes that rot there harm nobody.
            Seen::Rotten { .. } if end.here && at >= end.offset + IN_FLIGHT_BYTES => {}
            Seen::Rotten { expected, got } => {
                let got = format!("crc {got:#010x}: rot, or the sector of another store");
                return Err(image.damaged(at, format!("a sector of this log with crc {expected:#010x}"), got));
            }
            Seen::Misplaced { index: place } => {
                return Err(image.damaged(at, format!("sector {index}"), format!("sector {place}: misdirected")));
            }
            Seen::Whole { number, opens } => {
                self.highest = self.highest.max(number);
                if number <= end.last {
                    return Ok(());
                }
                self.tail = self.tail.or(Some(index));
                if end.here && number > end.last + IN_FLIGHT_MAX as u64 {
                    let expected = format!("batch {}, synced before {number} was begun", end.last + 1);
                    return Err(image.damaged(at, expected, format!("a sector of batch {number}")));
                }
                if opens && at.is_multiple_of(PAGE_BYTES as u64) {
                    honest(image, at, sector, number, end.last)?;
                }
            }
        }
        Ok(())
    }
}

/// A batch behind the end must not know of synced batches that were not found, nor belong elsewhere.
fn honest<D: Disk>(
    image: &Image<D>,
    at: u64,
    sector: &[u8; SECTOR_BYTES],
    number: u64,
    last: u64,
) -> Result<(), StorageError> {
    match batch::claim(sector, image.sequence) {
        Claim::Synced(synced) if synced > last => {
            let expected = format!("batch {} before it: batch {number} says {synced} was synced", last + 1);
            Err(image.damaged(at, expected, format!("batch {last} as the last one")))
        }
        Claim::Segment(segment) => {
            let expected = format!("a batch of segment {}", image.sequence);
            Err(image.damaged(at, expected, format!("batch {number} of segment {segment}: misdirected")))
        }
        Claim::Synced(_) | Claim::None => Ok(()),
    }
}
