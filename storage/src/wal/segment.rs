//! A segment: a file of batches, each of self-proving sectors (FORMAT.md §1.1 to §1.4).

pub(crate) mod batch;
pub(crate) mod sector;

use super::index::Mirror;
use super::record::{Cut, Logged};
use batch::Filling;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use std::rc::Rc;

/// Smallest segment: a head and four batches must fit.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 128 << 10;

/// The largest batch in segments of `segment_bytes`: at most 1 MiB, and at most an eighth, so that what recovery writes
/// again (up to four batches) leaves room.
pub(crate) fn batch_bytes(segment_bytes: u64) -> usize {
    (segment_bytes / 8 / 4096 * 4096).min(batch::BATCH_BYTES_MAX as u64) as usize
}

/// Name of a segment's file.
pub(crate) fn name(sequence: u64) -> String {
    format!("segment-{sequence:016x}.log")
}

/// The sequence in a file's name; `None` when it is no segment's.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".log")?;
    let lower = digits.len() == 16 && !digits.bytes().any(|b| b.is_ascii_uppercase());
    u64::from_str_radix(digits, 16).ok().filter(|sequence| lower && *sequence > 0)
}

/// An open segment file. Whoever reads holds it, so that it is not recycled underneath.
pub(crate) struct Handle<F> {
    pub(crate) file: F,
    pub(crate) sequence: u64,
    pub(crate) path: String,
    /// Length of the file.
    pub(crate) bytes: u64,
}

/// A live segment.
pub(crate) struct Segment<F> {
    pub(crate) handle: Rc<Handle<F>>,
    /// Where its batches end.
    pub(crate) end: u64,
}

/// Everything a segment's head restates, in order, but for the closing record. `kept` says up to which index a shard's
/// entries in older segments still hold.
pub(crate) fn head(mirror: &Mirror, cut: Option<Cut>, kept: impl Fn(ShardId) -> u64) -> Vec<Logged> {
    let mut out: Vec<Logged> = cut.map(Logged::Cut).into_iter().collect();
    out.push(Logged::Store { admitted: mirror.admitted });
    out.extend(mirror.peers.iter().map(|(&store, &incarnation)| Logged::Peer { store, incarnation }));
    out.extend(mirror.shards.iter().map(|(&shard, log)| Logged::Shard { state: log.state.clone(), kept: kept(shard) }));
    out
}

/// What a head's closing record says.
#[derive(Clone, Copy)]
pub(crate) struct Closing {
    /// Number of the head's first batch.
    pub(crate) first: u64,
    /// The oldest segment still needed.
    pub(crate) oldest: u64,
}

/// Packs a head, entries to carry over, and `head complete` into batches of at most `batch_bytes`. `placed` hears, per entry,
/// in which batch it begins and in which it ends.
pub(crate) fn pack(
    head: Vec<Logged>,
    entries: &[Entry],
    closing: Closing,
    batch_bytes: usize,
    mut placed: impl FnMut(&Entry, usize, usize),
) -> Vec<Filling> {
    let states = head.iter().filter(|logged| matches!(logged, Logged::Shard { .. })).count() as u64;
    let Closing { first, oldest } = closing;
    let mut batches = vec![Filling::new(batch_bytes)];
    let mut last = 0;
    for logged in head.iter().chain(std::iter::once(&Logged::HeadComplete { states, oldest, first })) {
        if matches!(logged, Logged::HeadComplete { .. }) {
            for entry in entries {
                let began = pack_entry(entry, batch_bytes, &mut batches);
                last = batches.len() - 1;
                placed(entry, began, last);
            }
        }
        if !batches[last].put(logged) {
            batches.push(Filling::new(batch_bytes));
            last += 1;
            assert!(batches[last].put(logged), "a record larger than a batch");
        }
    }
    batches
}

/// Puts one entry behind the last batch's records; the batch in which it begins.
fn pack_entry(entry: &Entry, batch_bytes: usize, batches: &mut Vec<Filling>) -> usize {
    let (mut done, mut began) = (0, None);
    loop {
        let last = batches.len() - 1;
        match batches[last].put_entry(entry, done, batch_bytes) {
            batch::Put::Done => return began.unwrap_or(last),
            batch::Put::Part(now) => {
                began = began.or(Some(last));
                done = now;
            }
            batch::Put::Full => {}
        }
        batches.push(Filling::new(batch_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_sequence() {
        assert_eq!(name(0x2a), "segment-000000000000002a.log");
        assert_eq!(sequence_of(&name(0x2a)), Some(0x2a));
        let wrong = ["segment-2a.log", "segment-000000000000002A.log", "segment-0000000000000000.log", "LOCK"];
        assert!(wrong.iter().all(|name| sequence_of(name).is_none()));
    }
}
