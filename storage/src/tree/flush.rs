//! From memtable to table.

use crate::compaction::choose::{Facts, base_level};
use crate::compaction::job::{Shape, write_tables};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::{Pass, Work};
use crate::iter::{MergeIter, Span, Way};
use crate::manifest::Flushed;
use crate::memtable::Memtable;
use crate::sst::view::lay_key;
use crate::tree::{Frozen, Tree};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::rc::Rc;

/// A flushed table is not cut before it has this part of the smallest table that merges aim at.
const PIECE_PART: u64 = 32;

impl<D: Disk> Tree<D> {
    /// Freezes the memtable now and writes it, and whatever earlier flushes failed to write, as a run of tables that reflects
    /// `at`; `sealed` are records of (keyspace, key, value) written into the same run at version `at.index`. Done when the
    /// tables are synced and the manifest says so. Until then reads see the frozen memtable; after an error it stays, and
    /// the next flush takes it along. Flushes of one tree take effect in the order of the calls; one that is at or
    /// below what is already flushed does nothing.
    pub fn flush(
        &self,
        at: Flushed,
        sealed: Vec<(KeyspaceId, Bytes, Bytes)>,
    ) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let newest = self.state.freeze();
        let (tree, turn) = (self.clone(), self.state.flushing.enter());
        async move {
            let pass = turn.await;
            let running = tree.engine.share.begin(Work::Flush);
            let flushed = tree.flush_to(newest, at, sealed, &pass).await;
            drop(running);
            let counter = if flushed.is_ok() { &tree.engine.flushes } else { &tree.engine.failures };
            counter.set(counter.get() + 1);
            tree.engine.sweep().await;
            flushed
        }
    }

    async fn flush_to(
        &self,
        newest: u64,
        at: Flushed,
        sealed: Vec<(KeyspaceId, Bytes, Bytes)>,
        _: &Pass,
    ) -> Result<(), StorageError> {
        let mut memtables = self.state.frozen_to(newest);
        let flushed = self.flushed().map_or(0, |flushed| flushed.index);
        if at.index < flushed || (at.index == flushed && memtables.is_empty() && flushed > 0) {
            return Ok(());
        }
        let highest = memtables.iter().map(|memtable| memtable.version_max()).max().unwrap_or(0);
        assert!(highest <= at.index, "a flush reflects all that was written before it");
        let mut seal = Memtable::default();
        for (keyspace, key, value) in sealed {
            seal.write(at.index, (keyspace, &key), Some(value));
        }
        memtables.insert(0, Rc::new(seal));
        let records = MergeIter::new(&memtables, &[], Span::all(), Way::Up);
        self.write_flushed(records, at).await?;
        drop(memtables);
        self.forget_frozen(newest).await;
        Ok(())
    }

    /// Makes tables of records that memtables hold which are somebody else's: all that was written since the last flush, up to
    /// `at`. Calls are in the order of what they hold, one after the other.
    pub(crate) async fn flush_records(&self, records: MergeIter<D>, at: Flushed) -> Result<(), StorageError> {
        let _pass = self.state.flushing.enter().await;
        let running = self.engine.share.begin(Work::Flush);
        let flushed = self.write_flushed(records, at).await;
        drop(running);
        let counter = if flushed.is_ok() { &self.engine.flushes } else { &self.engine.failures };
        counter.set(counter.get() + 1);
        self.engine.sweep().await;
        flushed
    }

    async fn write_flushed(&self, records: MergeIter<D>, at: Flushed) -> Result<(), StorageError> {
        let run = self.state.version().next_run();
        let made = write_tables(&self.engine, records, &self.flush_shape(run, at.log_time_ms)).await?;
        let edit = self.engine.manifest.edit().await;
        let version = self.state.version().with(Some(at), &[], made.members());
        edit.commit(self.state.shard, version.record()).await?;
        self.engine.flushed_bytes.set(self.engine.flushed_bytes.get() + made.bytes());
        made.keep();
        self.show(version);
        Ok(())
    }

    /// Drops frozen memtables up to a number: they are in tables, or void. Nobody sees them from the call on; their memory
    /// goes slice by slice.
    pub(super) async fn forget_frozen(&self, newest: u64) {
        let (gone, kept): (Vec<Frozen>, _) =
            self.state.frozen.take().into_iter().partition(|frozen| frozen.number <= newest);
        self.state.frozen.replace(kept);
        let bytes: usize = gone.iter().map(|frozen| frozen.memtable.bytes()).sum();
        self.engine.count_memtable(-(bytes as isize));
        for frozen in gone {
            if let Ok(memtable) = Rc::try_unwrap(frozen.memtable) {
                memtable.free(self.engine.memtable_bytes.get()).await;
            }
        }
    }

    /// Cut where the tables begin that this flush will be merged with.
    fn flush_shape(&self, run: u64, log_time_ms: u64) -> Shape {
        let version = self.state.version();
        let facts = version.facts();
        let base = base_level(&facts, &self.engine.policy());
        let laid = |fact: &Facts<'_>| {
            let mut laid = Vec::new();
            lay_key(fact.least, &mut laid);
            laid
        };
        // A level that has just come into use has no tables yet: uncut, this flush would lie above all of the next one.
        let below = facts.iter().map(|fact| fact.level).filter(|level| *level >= base).min();
        let mut guards: Vec<_> = facts.iter().filter(|fact| Some(fact.level) == below).map(laid).collect();
        guards.sort();
        let piece_bytes = self.engine.options.table_bytes / PIECE_PART;
        Shape {
            is_flush: true,
            level: 0,
            run,
            to_the_oldest: false,
            inside: self.state.inside(),
            log_time_ms,
            table_bytes: u64::MAX,
            guards,
            piece_bytes,
        }
    }
}
