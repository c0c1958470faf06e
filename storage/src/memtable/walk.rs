//! A memtable in the order of its keys. The order is made when somebody walks, in slices, and kept.

use super::Memtable;
use super::arena::Kind;
use crate::gate::Pace;
use crate::iter::{Head, Span, Way};
use crate::sst::TreeKey;
use std::cmp::Ordering;
use std::rc::Rc;

/// Records whose memory is asked for before they are walked.
const AHEAD: usize = 8;
/// Records sorted at once; the runs are merged after that.
const RUN: usize = 2048;

/// Walks a memtable that takes no more writes.
pub(crate) struct Walk {
    memtable: Rc<Memtable>,
    span: Span,
    way: Way,
    /// All places by key, and where among them the walk stands; none before the first step.
    order: Option<(Rc<[u32]>, Option<usize>)>,
}

/// A record's key as far as it fits, and its place.
#[derive(Clone, Copy)]
struct Mark {
    prefix: u64,
    place: u32,
}

impl Walk {
    /// Before the first record of a span, seen in this direction; the walk does not end with the span.
    pub fn new(memtable: Rc<Memtable>, span: Span, way: Way) -> Walk {
        Walk { memtable, span, way, order: None }
    }

    /// Goes one record on; false at the end.
    pub async fn next(&mut self) -> bool {
        let (order, at) = match self.order.take() {
            Some((order, at)) => {
                let at = at.and_then(|at| self.step(at, order.len()));
                (order, at)
            }
            None => {
                let order = self.memtable.order().await;
                let at = self.first(&order);
                (order, at)
            }
        };
        // The order of keys is not that of memory: what comes soon is asked for now.
        if let Some(place) = at.and_then(|at| order.get(self.ahead(at))) {
            self.memtable.arena.prefetch(*place);
        }
        self.order = Some((order, at));
        at.is_some()
    }

    fn ahead(&self, at: usize) -> usize {
        match self.way {
            Way::Up => at + AHEAD,
            Way::Down => at.saturating_sub(AHEAD),
        }
    }

    fn step(&self, at: usize, count: usize) -> Option<usize> {
        match self.way {
            Way::Up => (at + 1 < count).then_some(at + 1),
            Way::Down => at.checked_sub(1),
        }
    }

    fn first(&self, order: &[u32]) -> Option<usize> {
        let key = |place: &u32| self.memtable.arena.at(*place).key();
        match self.way {
            Way::Up => Some(order.partition_point(|place| self.span.starts_behind(key(place)))),
            Way::Down => order.partition_point(|place| self.span.is_below_end(key(place))).checked_sub(1),
        }
        .filter(|at| *at < order.len())
    }

    /// The record it stands at; none before the first step and at the end.
    #[inline]
    pub fn head(&self) -> Option<Head<'_>> {
        let (order, at) = self.order.as_ref()?;
        let place = order[(*at)?];
        Some(Head { key: self.memtable.arena.at(place).key(), record: self.memtable.slot(place) })
    }
}

impl Memtable {
    /// The places of all records, by key. Made once: the memtable takes no more writes.
    async fn order(&self) -> Rc<[u32]> {
        if let Some(order) = self.sorted.get() {
            return order.clone();
        }
        let order: Rc<[u32]> = order(self).await.into();
        self.sorted.get_or_init(|| order).clone()
    }

    fn compare(&self, a: Mark, b: Mark) -> Ordering {
        a.prefix.cmp(&b.prefix).then_with(|| self.arena.at(a.place).key().cmp(&self.arena.at(b.place).key()))
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
pub(super) fn bytes_of(key: TreeKey<'_>) -> impl Iterator<Item = u8> {
    key.0.0.to_be_bytes().into_iter().chain(key.1.iter().copied())
}

/// Eight bytes behind the first `skip`; zeros behind the end.
pub(super) fn prefix(key: TreeKey<'_>, skip: usize) -> u64 {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(bytes_of(key).skip(skip)) {
        *to = from;
    }
    u64::from_be_bytes(bytes)
}
