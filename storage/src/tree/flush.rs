//! From memtable to table.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Pass;
use crate::iter::MergeIter;
use crate::manifest::Flushed;
use crate::memtable::Memtable;
use crate::sst::reader::Table;
use crate::sst::writer::Unborn;
use crate::tree::{Frozen, Tree};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::rc::Rc;

impl<D: Disk> Tree<D> {
    /// Freezes the memtable now and writes it, and whatever earlier flushes failed to write, as one table that reflects
    /// `at`; `sealed` are records of (keyspace, key, value) written into the same table at version `at.index`. Done when the
    /// table is synced and the manifest says so. Until then reads see the frozen memtable; after an error it stays, and
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
            let flushed = tree.flush_to(newest, at, sealed, &pass).await;
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
        let made = self.write_table(&memtables).await?;

        let edit = self.engine.manifest.edit().await;
        let now = self.state.version();
        let fresh = made.as_ref().map(|(table, _)| table.clone());
        let version = now.with(Some(at), fresh.into_iter().chain(now.tables.iter().cloned()).collect());
        edit.commit(self.state.shard, version.record()).await?;
        if let Some((_, unborn)) = made {
            unborn.keep();
        }
        *self.state.version.borrow_mut() = Rc::new(version);
        drop((edit, memtables));
        self.forget_frozen(newest).await;
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
                memtable.free().await;
            }
        }
    }

    /// Writes memtables, newest first, as one table, durable with its name; none when they hold nothing.
    async fn write_table(&self, memtables: &[Rc<Memtable>]) -> Result<Option<(Rc<Table<D>>, Unborn)>, StorageError> {
        let keys: usize = memtables.iter().map(|memtable| memtable.entries()).sum();
        if keys == 0 {
            return Ok(None);
        }
        let mut records = MergeIter::<D>::new(memtables, &[]);
        let mut writer = self.engine.new_table(keys as u64).await?;
        while let Some(record) = records.next().await? {
            writer.add(record.tree_key(), record.version, record.value.as_deref()).await?;
        }
        let (place, unborn) = writer.finish().await?;
        self.engine.disk.sync_dir(&self.engine.tables_dir).await?;
        Ok(Some((self.engine.open_table(place).await?, unborn)))
    }
}
