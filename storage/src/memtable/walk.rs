//! A memtable in the order of its keys. The order is made when somebody walks, in slices.

use super::Memtable;
use super::arena::Kind;
use crate::gate::Pace;
use crate::sst::{Record, TreeKey};
use bytes::Bytes;
use std::cmp::Ordering;
use std::rc::Rc;

/// Records sorted at once; the runs are merged after that.
const RUN: usize = 2048;

/// Walks a memtable that takes no more writes.
pub(crate) struct Walk {
    memtable: Rc<Memtable>,
    /// Places of what is still to come, last first; none before the first step.
    left: Option<Vec<u32>>,
}

/// A record's key as far as it fits, and its place.
#[derive(Clone, Copy)]
struct Mark {
    prefix: u64,
    place: u32,
}

impl Walk {
    pub fn new(memtable: Rc<Memtable>) -> Walk {
        Walk { memtable, left: None }
    }

    /// The next record; none at the end.
    pub async fn next(&mut self) -> Option<Record> {
        if self.left.is_none() {
            let mut order = order(&self.memtable).await;
            order.reverse();
            self.left = Some(order);
        }
        let place = self.left.as_mut()?.pop()?;
        Some(self.memtable.record(place))
    }
}

/// Places of all records, by key.
async fn order(memtable: &Memtable) -> Vec<u32> {
    let mut pace = Pace::default();
    let skip = shared_bytes(memtable, &mut pace).await;
    let mut marks = Vec::with_capacity(memtable.entries());
    let mut at = None;
    while let Some(place) = memtable.arena.next(at) {
        let stored = memtable.arena.at(place);
        if stored.head.kind() != Kind::Void {
            marks.push(Mark { prefix: prefix(stored.key(), skip), place });
        }
        pace.step(0).await;
        at = Some(place);
    }
    for run in marks.chunks_mut(RUN) {
        run.sort_unstable_by(|a, b| memtable.compare(*a, *b));
        pace.rest().await;
    }
    let (mut from, mut run) = (marks, RUN);
    while run < from.len() {
        from = merge_pairs(memtable, &from, run, &mut pace).await;
        run *= 2;
    }
    from.into_iter().map(|mark| mark.place).collect()
}

/// Merges each two neighbouring sorted runs of this length.
async fn merge_pairs(memtable: &Memtable, from: &[Mark], run: usize, pace: &mut Pace) -> Vec<Mark> {
    let mut merged = Vec::with_capacity(from.len());
    for pair in from.chunks(2 * run) {
        let (mut left, mut right) = pair.split_at(run.min(pair.len()));
        while let (Some((a, after_a)), Some((b, after_b))) = (left.split_first(), right.split_first()) {
            if memtable.compare(*b, *a) == Ordering::Less {
                merged.push(*b);
                right = after_b;
            } else {
                merged.push(*a);
                left = after_a;
            }
            pace.step(0).await;
        }
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
    }
    merged
}

/// How many leading bytes all keys share, their keyspace's four included.
async fn shared_bytes(memtable: &Memtable, pace: &mut Pace) -> usize {
    let Some(first) = memtable.arena.next(None) else { return 0 };
    let first_key = memtable.arena.at(first).key();
    let mut shared = 4 + first_key.1.len();
    let mut at = Some(first);
    while let Some(place) = memtable.arena.next(at) {
        let key = memtable.arena.at(place).key();
        let common = bytes_of(key).zip(bytes_of(first_key)).take(shared).take_while(|(a, b)| a == b).count();
        shared = shared.min(common);
        pace.step(0).await;
        at = Some(place);
    }
    shared
}

/// A tree key as bytes whose order is its order.
fn bytes_of(key: TreeKey<'_>) -> impl Iterator<Item = u8> {
    key.0.0.to_be_bytes().into_iter().chain(key.1.iter().copied())
}

/// Eight bytes behind the first `skip`; zeros behind the end.
fn prefix(key: TreeKey<'_>, skip: usize) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(bytes_of(key).skip(skip)) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}

impl Memtable {
    fn compare(&self, a: Mark, b: Mark) -> Ordering {
        a.prefix.cmp(&b.prefix).then_with(|| self.arena.at(a.place).key().cmp(&self.arena.at(b.place).key()))
    }

    /// A record as others take it: key and value share one block.
    fn record(&self, place: u32) -> Record {
        let stored = self.arena.at(place);
        let (keyspace, key) = stored.key();
        let version = stored.head.version.get();
        let copied = |value: &[u8]| {
            let both = Bytes::from([key, value].concat());
            (both.slice(..key.len()), Some(both.slice(key.len()..)))
        };
        let (key, value) = match stored.head.kind() {
            Kind::Value => copied(stored.value()),
            Kind::Large => (Bytes::copy_from_slice(key), Some(self.large[stored.head.value.get() as usize].clone())),
            Kind::Deleted | Kind::Void => (Bytes::copy_from_slice(key), None),
        };
        Record { keyspace, key, version, value }
    }
}
