//! Walking several sources of records together, newest version of each key first.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Pace;
use crate::memtable::{Memtable, Walk, shared};
use crate::sst::view::{key_of, lay_key};
use crate::sst::{Record, TreeKey, Value};
use crate::tree::Inside;
use crate::tree::run::{Run, RunScan};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::cmp::Ordering;
use std::convert::Infallible;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// The direction of a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Ascending keys.
    #[default]
    Up,
    /// Descending keys.
    Down,
}

/// Keys from `start` up to, without it, `end`: keys as they are laid, with their keyspace in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl Span {
    /// All keys of all keyspaces.
    pub fn all() -> Span {
        Span::default()
    }

    /// Keys of a keyspace between two bounds.
    pub fn of(keyspace: KeyspaceId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Span {
        let laid = |key: &[u8], behind: bool| {
            let mut laid = Vec::new();
            lay_key((keyspace, key), &mut laid);
            // The next possible key.
            laid.extend(behind.then_some(0));
            laid
        };
        let start = match from {
            Bound::Included(key) => laid(key, false),
            Bound::Excluded(key) => laid(key, true),
            Bound::Unbounded => laid(&[], false),
        };
        let end = match to {
            Bound::Included(key) => Some(laid(key, true)),
            Bound::Excluded(key) => Some(laid(key, false)),
            Bound::Unbounded => successor(laid(&[], false)),
        };
        Span { start, end }
    }

    /// Keys of a keyspace that begin so.
    pub fn prefix(keyspace: KeyspaceId, prefix: &[u8]) -> Span {
        let mut start = Vec::new();
        lay_key((keyspace, prefix), &mut start);
        Span { end: successor(start.clone()), start }
    }

    /// Whether a key lies in it.
    pub fn holds(&self, key: TreeKey<'_>) -> bool {
        !self.starts_behind(key) && self.is_below_end(key)
    }

    /// Whether it starts behind a key.
    pub(crate) fn starts_behind(&self, key: TreeKey<'_>) -> bool {
        compare(key, &self.start) == Ordering::Less
    }

    pub(crate) fn is_below_end(&self, key: TreeKey<'_>) -> bool {
        self.end.as_ref().is_none_or(|end| compare(key, end) == Ordering::Less)
    }

    /// Whether a walk that began inside is still inside with this key.
    #[inline]
    fn goes_on(&self, key: TreeKey<'_>, way: Way) -> bool {
        match way {
            Way::Up => self.is_below_end(key),
            Way::Down => !self.starts_behind(key),
        }
    }

    /// Whether it has keys in common with those from `least` to `greatest`, both included.
    pub fn meets(&self, least: TreeKey<'_>, greatest: TreeKey<'_>) -> bool {
        !self.starts_behind(greatest) && self.is_below_end(least)
    }
}

/// The order of a key and an edge of a span, which is laid, or empty: before all keys.
fn compare(key: TreeKey<'_>, edge: &[u8]) -> Ordering {
    key_of(edge).map_or(Ordering::Greater, |edge| key.cmp(&edge))
}

/// The first string behind all that begin with this one; none when there is no such.
fn successor(mut laid: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = laid.pop() {
        if last < u8::MAX {
            laid.push(last + 1);
            // An edge is never shorter than a keyspace.
            laid.resize(laid.len().max(size_of::<KeyspaceId>()), 0);
            return Some(laid);
        }
    }
    None
}

/// The record that a walk stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'h> {
    /// Its place in the tree.
    pub key: TreeKey<'h>,
    /// What is there said of it.
    pub record: Record<'h>,
}

/// A walk over a memtable that is one thread's alone: the engine's. [`Infallible`]: there is none, and the iterator may go to another
/// thread.
pub trait Own {
    /// The record it stands at.
    fn head(&self) -> Option<Head<'_>>;
    /// Goes one record on; false at the end.
    fn next(&mut self) -> impl Future<Output = bool>;
}

impl Own for Walk {
    #[inline]
    fn head(&self) -> Option<Head<'_>> {
        Walk::head(self)
    }

    fn next(&mut self) -> impl Future<Output = bool> {
        Walk::next(self)
    }
}

impl Own for Infallible {
    fn head(&self) -> Option<Head<'_>> {
        match *self {}
    }

    async fn next(&mut self) -> bool {
        match *self {}
    }
}

/// Where records come from, in order, each key once.
pub(crate) enum Source<D: Disk, M = Walk> {
    Memory(M),
    /// A memtable that others write to meanwhile.
    Shared(shared::Walk),
    Run(Box<RunScan<D>>),
}

impl<D: Disk, M: Own> Source<D, M> {
    #[inline]
    fn head(&self) -> Option<Head<'_>> {
        match self {
            Source::Memory(walk) => walk.head(),
            Source::Shared(walk) => walk.head(),
            Source::Run(scan) => scan.head(),
        }
    }

    #[inline]
    fn key(&self) -> Option<TreeKey<'_>> {
        match self {
            Source::Memory(walk) => Some(walk.head()?.key),
            Source::Shared(walk) => walk.key(),
            Source::Run(scan) => scan.key(),
        }
    }

    async fn next(&mut self) -> Result<bool, StorageError> {
        match self {
            Source::Memory(walk) => Ok(walk.next().await),
            Source::Shared(walk) => Ok(walk.next()),
            Source::Run(scan) => scan.next().await,
        }
    }
}

/// A source that has a record, in a line of them.
#[derive(Clone, Copy)]
struct Waiting {
    source: usize,
    /// Whether its key is that of the one in front of it.
    same: bool,
}

/// Merges sources: each key once, from the newest source that has it, tombstones too.
pub struct MergeIter<D: Disk, M = Walk> {
    /// Newest first.
    sources: Vec<Source<D, M>>,
    way: Way,
    span: Arc<Span>,
    /// Those that have a record, by its key, of one key the newest first.
    line: Vec<Waiting>,
    started: bool,
    /// Whether the first of the line is inside the span.
    stands: bool,
}

impl<D: Disk> MergeIter<D> {
    /// Over memtables, then runs of tables, each list newest first. Nothing in a memtable is older than anything in a run.
    pub fn new(memtables: &[Rc<Memtable>], runs: &[Arc<Run<D>>], span: Span, way: Way) -> MergeIter<D> {
        let span = Arc::new(span);
        let walk = |memtable: &Rc<Memtable>| Walk::new(memtable.clone(), (*span).clone(), way);
        let memory = memtables.iter().map(|memtable| Source::Memory(walk(memtable)));
        let disk = runs.iter().map(|run| Source::Run(Box::new(RunScan::new(run.clone(), span.clone(), way))));
        MergeIter::over(memory.chain(disk).collect(), span.clone(), way)
    }
}

impl<D: Disk, M: Own> MergeIter<D, M> {
    /// Over sources, newest first, each before its first record of the span.
    pub(crate) fn over(sources: Vec<Source<D, M>>, span: Arc<Span>, way: Way) -> MergeIter<D, M> {
        let line = Vec::with_capacity(sources.len());
        MergeIter { sources, way, span, line, started: false, stands: false }
    }

    /// Goes to the next key; false at the end. After an error the iterator is of no use.
    pub async fn next(&mut self) -> Result<bool, StorageError> {
        if !std::mem::replace(&mut self.started, true) {
            for (number, source) in self.sources.iter_mut().enumerate() {
                source.next().await?;
                self.line.push(Waiting { source: number, same: false });
            }
            (0..self.line.len()).rev().for_each(|place| self.settle(place));
        } else if self.stands {
            // Whoever has the same key goes on with it, the last first: those behind are in order.
            let same = self.line.iter().skip(1).take_while(|waiting| waiting.same).count();
            for place in (0..=same).rev() {
                let number = self.line[place].source;
                self.sources[number].next().await?;
                self.settle(place);
            }
        }
        Ok(self.look())
    }

    /// [`MergeIter::next`] where nothing is to be waited for; none when something may be, and nothing has changed.
    #[inline]
    pub(crate) fn try_next(&mut self) -> Option<bool> {
        if !self.stands || self.line.get(1).is_some_and(|second| second.same) {
            return None;
        }
        let moved = match &mut self.sources[self.line.first()?.source] {
            Source::Memory(_) => false,
            Source::Shared(walk) => {
                walk.next();
                true
            }
            Source::Run(scan) => scan.next_in_block(),
        };
        moved.then(|| self.leads() || self.look_anew())
    }

    /// Whether the first of the line, that went on alone, is still in front of the second, and inside the span.
    #[inline]
    fn leads(&self) -> bool {
        let Some(key) = self.key_at(0) else { return false };
        let in_front = self.key_at(1).is_none_or(|second| self.order(key, second) == Ordering::Less);
        in_front && self.span.goes_on(key, self.way)
    }

    #[inline(never)]
    fn look_anew(&mut self) -> bool {
        self.settle(0);
        self.look()
    }

    #[inline]
    fn key_at(&self, place: usize) -> Option<TreeKey<'_>> {
        self.line.get(place).and_then(|waiting| self.sources[waiting.source].key())
    }

    #[inline]
    fn order(&self, key: TreeKey<'_>, other: TreeKey<'_>) -> Ordering {
        match self.way {
            Way::Up => order(key, other),
            Way::Down => order(other, key),
        }
    }

    #[inline]
    fn current(&self) -> Option<&Source<D, M>> {
        self.line.first().filter(|_| self.stands).map(|first| &self.sources[first.source])
    }

    /// The record it stands at.
    #[inline]
    pub fn head(&self) -> Option<Head<'_>> {
        self.current()?.head()
    }

    /// Whether what it stands at is a value, at a log time.
    #[inline]
    pub(crate) fn has_value(&self, log_time_ms: u64) -> bool {
        match self.current() {
            Some(Source::Run(scan)) => scan.has_value(log_time_ms),
            Some(source) => source.head().is_some_and(|head| head.record.at(log_time_ms).value.is_some()),
            None => false,
        }
    }

    /// The value it stands at, to be kept.
    pub(crate) fn value(&self) -> Option<Bytes> {
        match self.current()? {
            Source::Memory(walk) => walk.head()?.record.value.map(Bytes::copy_from_slice),
            Source::Shared(walk) => walk.head()?.record.value.map(Bytes::copy_from_slice),
            Source::Run(scan) => scan.value(),
        }
    }

    /// Puts who went on at a place of the line among those behind, who are in order; out of it, when nothing is left.
    fn settle(&mut self, mut place: usize) {
        let Waiting { source, .. } = self.line[place];
        let Some(key) = self.sources[source].key() else {
            self.line.remove(place);
            return;
        };
        let mut same = false;
        while let Some(behind) = self.line.get(place + 1).copied() {
            let Some(other) = self.sources[behind.source].key() else { break };
            let order = self.order(key, other);
            if order.then(source.cmp(&behind.source)) == Ordering::Less {
                self.line[place + 1].same = order == Ordering::Equal;
                break;
            }
            self.line[place] = behind;
            same = order == Ordering::Equal;
            place += 1;
        }
        self.line[place] = Waiting { source, same };
    }

    /// Whether the first of the line is a record of the span.
    #[inline]
    fn look(&mut self) -> bool {
        let key = self.key_at(0);
        self.stands = key.is_some_and(|key| self.span.goes_on(key, self.way));
        self.stands
    }
}

/// Bytes of keys that are compared in words: a call would cost more. Keys that are alike for longer are compared faster by it.
const WORDS_BYTES: usize = 32;

/// The order of two keys.
#[inline]
fn order(a: TreeKey<'_>, b: TreeKey<'_>) -> Ordering {
    if a.0 != b.0 {
        return a.0.cmp(&b.0);
    }
    let (mut a, mut b) = (a.1, b.1);
    for _ in 0..WORDS_BYTES / size_of::<u64>() {
        let (Some((x, rest_a)), Some((y, rest_b))) = (a.split_first_chunk(), b.split_first_chunk()) else { break };
        if x != y {
            return u64::from_be_bytes(*x).cmp(&u64::from_be_bytes(*y));
        }
        (a, b) = (rest_a, rest_b);
    }
    a.cmp(b)
}

/// A consistent walk over a tree as it was when the walk began.
pub struct TreeIter<D: Disk> {
    merge: MergeIter<D>,
    /// A table of these keys could not be opened: nobody knows all of them.
    closed: Option<StorageError>,
    /// Which keys are told, and when it began: what had expired then is not.
    inside: Option<Inside>,
    log_time_ms: u64,
    pace: Pace,
}

impl<D: Disk> TreeIter<D> {
    pub(crate) fn new(
        merge: MergeIter<D>,
        closed: Option<StorageError>,
        inside: Option<Inside>,
        log_time_ms: u64,
    ) -> TreeIter<D> {
        TreeIter { merge, closed, inside, log_time_ms, pace: Pace::default() }
    }

    /// The next key with its newest value, ordered by (keyspace, key); none at the end. Keyspace 0 is walked too. The value's
    /// bytes may share the memory of what was read ahead: copy what is kept.
    pub async fn next(&mut self) -> Result<Option<(KeyspaceId, Bytes, Value)>, StorageError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        while self.merge.next().await? {
            let Some(head) = self.merge.head() else { break };
            let (keyspace, bytes) = (head.key.0, head.key.1.len());
            let told = self.inside.as_ref().is_none_or(|inside| inside(head.key));
            let Record { version, value, expiry_ms } = head.record.at(self.log_time_ms);
            let value = value.filter(|_| told);
            if let Some(value) = value.and_then(|_| self.merge.value()) {
                let key = Bytes::copy_from_slice(self.merge.head().map_or(&[], |head| head.key.1));
                self.pace.step(bytes).await;
                return Ok(Some((keyspace, key, Value { value, version, expiry_ms })));
            }
            self.pace.step(bytes).await;
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "iter_tests.rs"]
mod tests;
