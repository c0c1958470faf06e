//! What there is at one moment, for readers on any thread.

use crate::db::cache::SharedCache;
use crate::db::caller::{CallerDisk, now};
use crate::db::error::Error;
use crate::db::log::Op;
use crate::iter::{MergeIter, Source, Span, Way};
use crate::memtable::shared::{Memtable, Walk};
use crate::sst::Value;
use crate::sst::view::key_of;
use crate::tree::Sought;
use crate::tree::run::{Run, RunScan};
use crate::tree::version::{Look, Unread, Version};
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

/// Tables as readers have them open.
pub(crate) type Tables = Version<CallerDisk>;

/// Merges what a view has, on any thread.
pub(crate) type Merge = MergeIter<CallerDisk, Infallible>;

/// What a look at memory comes to.
pub(crate) enum Seen {
    /// All is told.
    Told(Option<Value>),
    /// A block must be read.
    Unread(Unread),
}

/// Memtables and tables of one moment. A newer one replaces it whole; whoever holds it goes on seeing what it has.
#[derive(Clone)]
pub(crate) struct View {
    /// What is written to.
    pub active: Arc<Memtable>,
    /// What is being flushed, newest first.
    pub frozen: Vec<Arc<Memtable>>,
    /// What was flushed.
    pub tables: Arc<Tables>,
    /// Trees that are there no more; none: none.
    pub gone: Option<Arc<Gone>>,
}

/// Keyspaces of removed trees.
pub(crate) type Gone = BTreeSet<KeyspaceId>;

impl View {
    /// An error when a tree is there no more.
    #[inline]
    fn check(&self, tree: KeyspaceId) -> Result<(), Error> {
        match &self.gone {
            Some(gone) if gone.contains(&tree) => Err(Error::Removed),
            _ => Ok(()),
        }
    }

    fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.frozen)
    }

    /// Fetches what a lookup touches first.
    #[inline]
    pub fn prepare(&self, hash: u64) {
        self.active.prepare(hash);
    }

    /// Goes on fetching.
    #[inline]
    pub fn hint(&self, hash: u64) {
        self.active.hint(hash);
    }

    /// The newest write of a key with a version up to `version`, whether it expired or not.
    #[inline]
    pub fn get(&self, cache: &SharedCache, key: Sought<'_>, version: u64) -> Result<Option<Value>, Error> {
        match self.look(cache, key, version)? {
            Seen::Told(value) => Ok(value),
            Seen::Unread(unread) => self.read_on(cache, key, unread),
        }
    }

    /// [`View::get`] as far as memory knows: nothing is read.
    #[inline]
    pub fn look(&self, cache: &SharedCache, key: Sought<'_>, version: u64) -> Result<Seen, Error> {
        self.check(key.keyspace)?;
        let mut memtables = self.memtables();
        if let Some(record) = memtables.find_map(|memtable| memtable.get(key.tree_key(), key.hash, version)) {
            return Ok(Seen::Told(record.to_value()));
        }
        Ok(match self.tables.look(0, cache, key)? {
            Look::Found(found) => Seen::Told(found.value()),
            Look::Unread(unread) => Seen::Unread(unread),
        })
    }

    /// Goes on where a look at this key ended, reading blocks.
    pub fn read_on(&self, cache: &SharedCache, key: Sought<'_>, unread: Unread) -> Result<Option<Value>, Error> {
        Ok(now(self.tables.read_on(unread, cache, key))?.value())
    }

    /// Whether nobody wrote any of these keys behind a version. Tables that are not newer hold nothing newer, and memory knows all the
    /// rest.
    pub fn is_unchanged(&self, ops: &[Op<'_>], since: u64) -> bool {
        self.flushed() <= since
            && ops.iter().all(|op| self.newest(Sought::new(op.keyspace, op.key)).is_none_or(|newest| newest <= since))
    }

    /// The version of a key's newest write, when memory knows it.
    fn newest(&self, key: Sought<'_>) -> Option<u64> {
        self.memtables().find_map(|memtable| memtable.newest(key.tree_key(), key.hash))
    }

    /// Everything up to here is in tables.
    fn flushed(&self) -> u64 {
        self.tables.at.as_ref().map_or(0, |at| at.index)
    }

    /// Walks a span: of each key what has a version up to `version`. A table of these keys that could not be opened is an error.
    pub fn walk(&self, cache: &Arc<SharedCache>, span: &Arc<Span>, way: Way, version: u64) -> Result<Merge, Error> {
        key_of(&span.start).map_or(Ok(()), |start| self.check(start.0))?;
        if let Some(error) = self.tables.closed_in(span) {
            return Err(error.into());
        }
        let memory = self.memtables().flat_map(|memtable| {
            let runs = memtable.runs().into_iter();
            runs.map(|run| Source::Shared(Walk::new(memtable.clone(), run, span, way, version)))
        });
        let run = |run: &Arc<Run<CallerDisk>>| RunScan::new(run.clone(), span.clone(), way).near(cache.clone());
        let tables = self.tables.runs.iter().map(|each| Source::Run(Box::new(run(each))));
        Ok(MergeIter::over(memory.chain(tables).collect(), span.clone(), way))
    }
}
