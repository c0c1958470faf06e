//! Walking several sources of records together, newest version of each key first.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Pace;
use crate::memtable::{Memtable, Walk};
use crate::sst::reader::Table;
use crate::sst::scan::TableScan;
use crate::sst::{Record, Value};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::rc::Rc;

/// Where records come from, in order, each key once.
enum Source<D: Disk> {
    Memory(Walk),
    Table(TableScan<D>),
}

/// Merges sources: each key once, from the newest source that has it, tombstones too.
pub struct MergeIter<D: Disk> {
    /// Newest first, each with its next record.
    sources: Vec<(Source<D>, Option<Record>)>,
    started: bool,
}

impl<D: Disk> MergeIter<D> {
    /// Over memtables, then tables, each list newest first. Nothing in a memtable is older than anything in a table.
    pub fn new(memtables: &[Rc<Memtable>], tables: &[Rc<Table<D>>]) -> MergeIter<D> {
        let memory = memtables.iter().map(|memtable| Source::Memory(Walk::new(memtable.clone())));
        let disk = tables.iter().map(|table| Source::Table(TableScan::new(table.clone())));
        MergeIter { sources: memory.chain(disk).map(|source| (source, None)).collect(), started: false }
    }

    /// The next record; none at the end. After an error the iterator is of no use.
    pub async fn next(&mut self) -> Result<Option<Record>, StorageError> {
        if !std::mem::replace(&mut self.started, true) {
            for at in 0..self.sources.len() {
                self.advance(at).await?;
            }
        }
        let Some(first) = self.least() else { return Ok(None) };
        let Some(record) = self.sources[first].1.take() else { return Ok(None) };
        self.advance(first).await?;
        for at in first + 1..self.sources.len() {
            if self.sources[at].1.as_ref().is_some_and(|head| head.tree_key() == record.tree_key()) {
                self.advance(at).await?;
            }
        }
        Ok(Some(record))
    }

    /// The newest source of those whose next key is the least.
    fn least(&self) -> Option<usize> {
        let heads = self.sources.iter().enumerate().filter_map(|(at, (_, head))| Some((head.as_ref()?.tree_key(), at)));
        heads.min().map(|(_, at)| at)
    }

    /// Moves a source to its next record.
    async fn advance(&mut self, at: usize) -> Result<(), StorageError> {
        let (source, head) = &mut self.sources[at];
        *head = match source {
            Source::Memory(walk) => walk.next().await,
            Source::Table(scan) => scan.next().await?,
        };
        Ok(())
    }
}

/// A consistent walk over a tree as it was when the walk began.
pub struct TreeIter<D: Disk> {
    merge: MergeIter<D>,
    /// A table could not be opened: nobody knows all keys.
    closed: Option<StorageError>,
    pace: Pace,
}

impl<D: Disk> TreeIter<D> {
    pub(crate) fn new(merge: MergeIter<D>, closed: Option<StorageError>) -> TreeIter<D> {
        TreeIter { merge, closed, pace: Pace::default() }
    }

    /// The next key with its newest value, ordered by (keyspace, key); none at the end. Keyspace 0 is walked too. The bytes
    /// share the memory of what was read ahead: copy what is kept.
    pub async fn next(&mut self) -> Result<Option<(KeyspaceId, Bytes, Value)>, StorageError> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        while let Some(record) = self.merge.next().await? {
            self.pace.step(record.key.len()).await;
            if let Some(value) = record.value {
                return Ok(Some((record.keyspace, record.key, Value { value, version: record.version })));
            }
        }
        Ok(None)
    }
}
