//! Walking several sources of records together, newest version of each key first.

mod marks;

use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Pace;
use crate::memtable::{Memtable, Walk, shared};
use crate::sst::view::{key_of, lay_key};
use crate::sst::{Record, TreeKey, Value};
use crate::tree::Inside;
use crate::tree::run::{Run, RunScan};
use bytes::Bytes;
use marks::Marks;
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

    async fn next(&mut self) -> Result<bool, StorageError> {
        match self {
            Source::Memory(walk) => Ok(walk.next().await),
            Source::Shared(walk) => Ok(walk.next()),
            Source::Run(scan) => scan.next().await,
        }
    }
}

/// Merges sources: each key once, from the newest source that has it, tombstones too.
pub struct MergeIter<D: Disk, M = Walk> {
    /// Newest first.
    sources: Vec<Source<D, M>>,
    marks: Marks,
    way: Way,
    span: Span,
    at: Option<usize>,
    /// The source that would be next without that one: as long as its key is not reached, the others need not be looked at.
    second: Option<usize>,
    started: bool,
}

impl<D: Disk> MergeIter<D> {
    /// Over memtables, then runs of tables, each list newest first. Nothing in a memtable is older than anything in a run.
    pub fn new(memtables: &[Rc<Memtable>], runs: &[Arc<Run<D>>], span: Span, way: Way) -> MergeIter<D> {
        let memory = memtables.iter().map(|memtable| Source::Memory(Walk::new(memtable.clone(), span.clone(), way)));
        let disk = runs.iter().map(|run| Source::Run(Box::new(RunScan::new(run.clone(), span.clone(), way))));
        MergeIter::over(memory.chain(disk).collect(), span, way)
    }
}

impl<D: Disk, M: Own> MergeIter<D, M> {
    /// Over sources, newest first, each before its first record of the span.
    pub(crate) fn over(sources: Vec<Source<D, M>>, span: Span, way: Way) -> MergeIter<D, M> {
        MergeIter { sources, marks: Marks::new(way), way, span, at: None, second: None, started: false }
    }

    /// Goes to the next key; false at the end. After an error the iterator is of no use.
    pub async fn next(&mut self) -> Result<bool, StorageError> {
        if !std::mem::replace(&mut self.started, true) {
            for source in &mut self.sources {
                source.next().await?;
            }
            self.mark_all();
        } else if let Some(at) = self.at {
            for older in at + 1..self.sources.len() {
                if self.have_same_key(at, older) {
                    self.sources[older].next().await?;
                    self.mark(older);
                }
            }
            self.sources[at].next().await?;
            self.mark(at);
        }
        self.choose();
        Ok(self.at.is_some())
    }

    /// [`MergeIter::next`] where nothing is to be waited for; none when something may be, and nothing has changed.
    #[inline]
    pub(crate) fn try_next(&mut self) -> Option<bool> {
        let at = self.at?;
        // Who has the same key must go on with it.
        if self.second.is_some_and(|second| self.have_same_key(at, second)) {
            return None;
        }
        let moved = match &mut self.sources[at] {
            Source::Memory(_) => false,
            Source::Shared(walk) => {
                walk.next();
                true
            }
            Source::Run(scan) => scan.next_in_block(),
        };
        moved.then(|| {
            self.mark(at);
            self.choose_again(at);
            self.at.is_some()
        })
    }

    /// The record it stands at.
    #[inline]
    pub fn head(&self) -> Option<Head<'_>> {
        self.sources[self.at?].head()
    }

    /// The value it stands at, to be kept.
    pub(crate) fn value(&self) -> Option<Bytes> {
        match &self.sources[self.at?] {
            Source::Memory(walk) => walk.head()?.record.value.map(Bytes::copy_from_slice),
            Source::Shared(walk) => walk.head()?.record.value.map(Bytes::copy_from_slice),
            Source::Run(scan) => scan.value(),
        }
    }

    /// A source went on.
    #[inline]
    fn mark(&mut self, at: usize) {
        let key = self.sources[at].head().map(|head| head.key);
        if !self.marks.set(at, key) {
            self.mark_all();
        }
    }

    fn mark_all(&mut self) {
        self.marks.set_all(self.sources.iter().map(|source| source.head().map(|head| head.key)));
    }

    #[inline]
    fn have_same_key(&self, at: usize, other: usize) -> bool {
        let same = || Some(self.sources[at].head()?.key == self.sources[other].head()?.key);
        self.marks.before(at, other).is_none() && same().unwrap_or(false)
    }

    /// Whether a source's next key comes before another one's; none comes behind all.
    #[inline]
    fn before(&self, at: usize, other: usize) -> bool {
        self.marks.before(at, other).unwrap_or_else(|| self.before_by_key(at, other))
    }

    #[cold]
    fn before_by_key(&self, at: usize, other: usize) -> bool {
        let Some(Head { key, .. }) = self.sources[at].head() else { return false };
        self.sources[other].head().is_none_or(|other| match self.way {
            Way::Up => key < other.key,
            Way::Down => key > other.key,
        })
    }

    /// Stands at the newest source of those whose next key comes first.
    fn choose(&mut self) {
        let (mut first, mut second) = (0, None);
        for at in 1..self.sources.len() {
            if self.before(at, first) {
                second = Some(std::mem::replace(&mut first, at));
            } else if second.is_none_or(|second| self.before(at, second)) {
                second = Some(at);
            }
        }
        (self.at, self.second) = (self.unless_behind(first), second);
    }

    /// A source that goes on, inside of the span.
    #[inline]
    fn unless_behind(&self, at: usize) -> Option<usize> {
        let head = self.sources.get(at)?.head()?;
        self.span.goes_on(head.key, self.way).then_some(at)
    }

    /// The same when nothing but source `at`, where it stood, went on.
    #[inline]
    fn choose_again(&mut self, at: usize) {
        match self.second {
            Some(second) if !self.before(at, second) => self.choose(),
            _ => self.at = self.unless_behind(at),
        }
    }
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
