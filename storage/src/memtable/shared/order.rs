//! A memtable in the order of its keys. The order is made when somebody walks, of what was written since somebody last did: runs of
//! records, merged when neighbours are alike in length, so that each record is moved a few times however often one walks.

use super::{Memtable, Stored};
use crate::iter::{Head, Span, Way};
use crate::memtable::walk::{bytes_of, prefix};
use crate::sst::TreeKey;
use std::cmp::Ordering as Order3;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Records whose memory is asked for before they are walked.
const AHEAD: usize = 8;

/// Sorted runs of records, oldest first, each key once in a run: its newest record of that time.
#[derive(Default)]
pub(super) struct Order {
    runs: Vec<Arc<[u32]>>,
    /// Words of the arena that the runs cover; 0: none.
    upto: usize,
}

/// A record's key as far as it fits, and its place.
#[derive(Clone, Copy)]
struct Mark {
    prefix: u64,
    place: u32,
}

impl Memtable {
    /// Sorted runs of all that is here, newest first.
    pub fn runs(&self) -> Vec<Arc<[u32]>> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let used = self.used.load(Ordering::Acquire);
        let from = order.upto.max(1);
        if from < used {
            order.runs.push(self.sorted(from, used));
            order.upto = used;
        }
        while let [.., older, newer] = &order.runs[..] {
            if older.len() > 2 * newer.len() {
                break;
            }
            let merged = self.merged(older, newer);
            let kept = order.runs.len() - 2;
            order.runs.truncate(kept);
            order.runs.push(merged);
        }
        order.runs.iter().rev().cloned().collect()
    }

    /// The records between two words, by key; of each key the newest.
    fn sorted(&self, from: usize, to: usize) -> Arc<[u32]> {
        let skip = self.shared_bytes(from, to);
        let mut marks = Vec::new();
        self.each(from, to, |place, stored| marks.push(Mark { prefix: prefix(stored.key, skip), place }));
        // Places only grow: of one key the higher is the newer.
        marks.sort_unstable_by(|a, b| {
            let keys = || self.at(a.place).key.cmp(&self.at(b.place).key);
            a.prefix.cmp(&b.prefix).then_with(keys).then_with(|| b.place.cmp(&a.place))
        });
        marks
            .dedup_by(|later, kept| later.prefix == kept.prefix && self.at(later.place).key == self.at(kept.place).key);
        marks.into_iter().map(|mark| mark.place).collect()
    }

    fn each<'m>(&'m self, from: usize, to: usize, mut each: impl FnMut(u32, Stored<'m>)) {
        let mut at = from;
        while at < to {
            let stored = self.at(at as u32);
            at += stored.words;
            each((at - stored.words) as u32, stored);
        }
    }

    /// How many leading bytes the keys between two words share, their keyspace's four included.
    fn shared_bytes(&self, from: usize, to: usize) -> usize {
        let first = self.at(from as u32).key;
        let mut shared = 4 + first.1.len();
        self.each(from, to, |_, stored| {
            let common = bytes_of(stored.key).zip(bytes_of(first)).take(shared).take_while(|(a, b)| a == b);
            shared = common.count();
        });
        shared
    }

    fn merged(&self, mut older: &[u32], mut newer: &[u32]) -> Arc<[u32]> {
        let mut merged = Vec::with_capacity(older.len() + newer.len());
        while let (Some((old, rest_old)), Some((new, rest_new))) = (older.split_first(), newer.split_first()) {
            let order = self.at(*old).key.cmp(&self.at(*new).key);
            merged.push(if order == Order3::Less { *old } else { *new });
            if order != Order3::Greater {
                older = rest_old;
            }
            if order != Order3::Less {
                newer = rest_new;
            }
        }
        merged.extend_from_slice(older);
        merged.extend_from_slice(newer);
        merged.into()
    }
}

/// Walks one run of a memtable: of each key what a snapshot sees of it.
pub(crate) struct Walk {
    memtable: Arc<Memtable>,
    run: Arc<[u32]>,
    way: Way,
    /// Where it goes on.
    next: Option<usize>,
    /// The record it stands at, as the snapshot sees it; none before the first step and at the end.
    at: Option<u32>,
    version: u64,
}

impl Walk {
    /// Before the first record of a span, seen in this direction, of those with a version up to `version`; the walk does not end
    /// with the span.
    pub fn new(memtable: Arc<Memtable>, run: Arc<[u32]>, span: &Span, way: Way, version: u64) -> Walk {
        let key = |place: &u32| memtable.at(*place).key;
        let next = match way {
            Way::Up => Some(run.partition_point(|place| span.starts_behind(key(place)))),
            Way::Down => run.partition_point(|place| span.is_below_end(key(place))).checked_sub(1),
        };
        Walk { memtable, run, way, next, at: None, version }
    }

    /// Goes one record on; false at the end.
    pub fn next(&mut self) -> bool {
        loop {
            let found = self.next.and_then(|at| Some((at, *self.run.get(at)?)));
            let Some((at, place)) = found else {
                self.at = None;
                return false;
            };
            let ahead = match self.way {
                Way::Up => self.run.get(at + AHEAD),
                Way::Down => at.checked_sub(AHEAD).and_then(|at| self.run.get(at)),
            };
            ahead.iter().for_each(|place| self.memtable.fetch(**place));
            self.next = match self.way {
                Way::Up => Some(at + 1),
                Way::Down => at.checked_sub(1),
            };
            self.at = self.memtable.visible(place, self.version).map(|(place, _)| place);
            if self.at.is_some() {
                return true;
            }
        }
    }

    /// The key it stands at.
    #[inline]
    pub fn key(&self) -> Option<TreeKey<'_>> {
        Some(self.memtable.at(self.at?).key)
    }

    /// The record it stands at.
    #[inline]
    pub fn head(&self) -> Option<Head<'_>> {
        let Stored { key, record, .. } = self.memtable.at(self.at?);
        Some(Head { key, record })
    }
}
