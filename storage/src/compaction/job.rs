//! Writing records in order as tables, slice by slice.

use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::gate::{Pace, Work};
use crate::iter::MergeIter;
use crate::manifest::{Bounds, TableEntry};
use crate::sst::TreeKey;
use crate::sst::reader::TableRef;
use crate::sst::writer::{Finished, TableWriter, Unborn};
use crate::tree::Inside;
use crate::tree::run::Member;
use std::rc::Rc;
use std::sync::Arc;

/// Where tables are cut, and what is left out.
pub(crate) struct Shape {
    /// From memtables: not from tables.
    pub(crate) is_flush: bool,
    /// The level of the result.
    pub(crate) level: u8,
    /// Its run.
    pub(crate) run: u64,
    /// Nothing is older: tombstones are left out.
    pub(crate) to_the_oldest: bool,
    /// What of it is the tree's, when not all is.
    pub(crate) inside: Option<Inside>,
    /// What has expired by then is a tombstone, ms.
    pub(crate) log_time_ms: u64,
    /// Cut before a table gets longer.
    pub(crate) table_bytes: u64,
    /// Cut before each of these keys, as they are laid, unless the table is still shorter than `piece_bytes`.
    pub(crate) guards: Vec<Vec<u8>>,
    /// See `guards`.
    pub(crate) piece_bytes: u64,
}

/// Tables that nobody knows yet. Dropped, they go.
pub(crate) struct Made<D: Disk> {
    tables: Vec<(Member<D>, Unborn)>,
}

impl<D: Disk> Made<D> {
    /// As members of a version.
    pub(crate) fn members(&self) -> Vec<Member<D>> {
        self.tables.iter().map(|(member, _)| member.clone()).collect()
    }

    /// Bytes of their files.
    pub(crate) fn bytes(&self) -> u64 {
        self.tables.iter().map(|(member, _)| member.entry.place.bytes).sum()
    }

    /// The manifest names them now.
    pub(crate) fn keep(self) {
        self.tables.into_iter().for_each(|(_, unborn)| unborn.keep());
    }
}

/// Tables that are written; the last one is synced while the next one is made.
#[derive(Default)]
struct Closed {
    synced: Vec<(TableRef, Unborn)>,
    last: Option<Finished>,
}

impl Closed {
    async fn add(&mut self, finished: Finished) -> Result<(), StorageError> {
        if let Some(before) = self.last.replace(finished) {
            self.synced.push(before.synced().await?);
        }
        Ok(())
    }

    /// All of them, synced.
    async fn all(mut self) -> Result<Vec<(TableRef, Unborn)>, StorageError> {
        if let Some(last) = self.last.take() {
            self.synced.push(last.synced().await?);
        }
        Ok(self.synced)
    }
}

/// Writes the newest version of each key into new tables, durable with their names. The guards remove the files unless they are
/// kept.
pub(crate) async fn write_tables<D: Disk>(
    engine: &Rc<EngineState<D>>,
    mut records: MergeIter<D>,
    shape: &Shape,
) -> Result<Made<D>, StorageError> {
    let mut guards = shape.guards.iter().map(Vec::as_slice).peekable();
    let work = if shape.is_flush { Work::Flush } else { Work::Merge };
    let new_pace = || Pace::beside(&engine.share, work);
    let (mut writer, mut closed, mut pace) = (None::<TableWriter<D>>, Closed::default(), new_pace());
    while match records.try_next() {
        Some(any) => any,
        None => records.next().await?,
    } {
        let Some(head) = records.head() else { break };
        let record = head.record.at(shape.log_time_ms);
        let is_foreign = shape.inside.as_ref().is_some_and(|inside| !inside(head.key));
        if is_foreign || (record.value.is_none() && shape.to_the_oldest) {
            pace.step(head.key.1.len()).await;
            continue;
        }
        let mut passed = 0;
        while guards.next_if(|guard| is_at_or_behind(head.key, guard)).is_some() {
            passed += 1;
        }
        // Keys far from each other, as those of sessions and of sequences: one table would lie above all between them.
        let far = passed > 1 && passed >= shape.guards.len() / 2;
        let is_full = |writer: &TableWriter<D>| {
            writer.bytes() >= shape.table_bytes || far || (passed > 0 && writer.bytes() >= shape.piece_bytes)
        };
        if let Some(full) = writer.take_if(|writer| is_full(writer)) {
            closed.add(full.finish().await?).await?;
        }
        if writer.is_none() {
            writer = Some(engine.new_table(shape.level, new_pace()).await?);
        }
        if let Some(writer) = &mut writer {
            writer.add(head.key, &record).await?;
        }
    }
    if let Some(last) = writer {
        closed.add(last.finish().await?).await?;
    }
    let closed = closed.all().await?;
    if !closed.is_empty() {
        engine.disk.sync_dir(&engine.tables_dir).await?;
    }
    let mut made = Made { tables: Vec::with_capacity(closed.len()) };
    for (place, unborn) in closed {
        let table = engine.open_table(place).await?;
        let bounds = Bounds::of(table.properties().least(), table.properties().greatest());
        let entry = Arc::new(TableEntry { place, level: shape.level, run: shape.run, bounds });
        made.tables.push((Member { entry, table: Ok(table) }, unborn));
    }
    Ok(made)
}

fn is_at_or_behind(key: TreeKey<'_>, guard: &[u8]) -> bool {
    crate::sst::view::key_of(guard).is_none_or(|guard| key >= guard)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
