//! Running the merge that compaction chose.

use crate::compaction::choose::choose;
use crate::compaction::job::merge_tables;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::tree::Tree;
use std::rc::Rc;

impl<D: Disk> Tree<D> {
    /// Merges all tables into one, keeping the newest version of each key and no tombstone. Flushes and reads go on
    /// meanwhile. The old files go when the manifest has dropped them and their last reader is gone. A table that cannot be read
    /// is an error, changes nothing, and is left alone by later merges, with all that is older than it; any other
    /// failure changes nothing either.
    pub fn merge(&self) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let (tree, turn) = (self.clone(), self.state.merging.enter());
        async move {
            let _pass = turn.await;
            let merged = tree.merge_now().await;
            let counter = if merged.is_ok() { &tree.engine.merges } else { &tree.engine.failures };
            counter.set(counter.get() + 1);
            tree.engine.sweep().await;
            merged
        }
    }

    async fn merge_now(&self) -> Result<(), StorageError> {
        let before = self.state.version();
        // Asked to merge, two tables are enough.
        let Some(choice) = choose(&before.tables, 1) else { return Ok(()) };
        let chosen = &before.tables[choice.range()];
        let made = merge_tables(&self.engine, chosen, choice.to_the_oldest && before.closed.is_none()).await?;

        let edit = self.engine.manifest.edit().await;
        let now = self.state.version();
        // An install may have replaced the tables meanwhile; flushes only put new ones in front.
        let first = chosen.first().and_then(|table| now.tables.iter().position(|other| Rc::ptr_eq(table, other)));
        let Some(first) = first else { return Ok(()) };
        let after = &now.tables[first + chosen.len()..];
        let fresh = made.as_ref().map(|(table, _)| table.clone());
        let tables = now.tables[..first].iter().cloned().chain(fresh).chain(after.iter().cloned()).collect();
        let version = now.with(now.at.clone(), tables);
        edit.commit(self.state.shard, version.record()).await?;
        if let Some((_, unborn)) = made {
            unborn.keep();
        }
        *self.state.version.borrow_mut() = Rc::new(version);
        chosen.iter().for_each(|table| table.doom());
        Ok(())
    }
}
