//! Running the merge that compaction chose.

use crate::compaction::choose::{Choice, Policy};
use crate::compaction::job::{Shape, write_tables};
use crate::compaction::pace::Weight;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Work;
use crate::iter::{MergeIter, Span, Way};
use crate::manifest::TableEntry;
use crate::tree::Tree;
use crate::tree::run::{Member, Run};
use crate::tree::version::Version;
use std::sync::Arc;

/// What may lie above the last levels of a tree that is left alone, as a part of what lies in them.
const SETTLED_PART: f64 = 1.0 / 16.0;

impl<D: Disk> Tree<D> {
    /// Does the most urgent merge, if one is wanted. Flushes and reads go on meanwhile. The old files go when the manifest has
    /// dropped them and their last reader is gone. A table that cannot be read is an error, changes nothing, and is left alone
    /// by later merges; any other failure changes nothing either.
    pub fn merge(&self) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let merging = self.merge_as(self.engine.policy());
        async move { merging.await.map(drop) }
    }

    /// Merges until nothing is left to merge: each key is in one table then, and no tombstone is, as far as tables can be read.
    pub fn settle(&self) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let tree = self.clone();
        async move {
            while tree.merge_as(tree.engine.policy().settling()).await? {}
            Ok(())
        }
    }

    /// Whether there is much above the last levels that [`Tree::settle`] would merge: for little it would write the last levels again.
    pub fn wants_settling(&self) -> bool {
        let Weight { all, upper, .. } = self.state.weight.get();
        upper as f64 > (all - upper) as f64 * SETTLED_PART
            && self.state.version().choice(&self.engine.policy().settling()).is_some()
    }

    /// Answers whether anything was merged.
    fn merge_as(&self, policy: Policy) -> impl Future<Output = Result<bool, StorageError>> + 'static {
        let (tree, turn) = (self.clone(), self.state.merging.enter());
        async move {
            let _pass = turn.await;
            let version = tree.state.version();
            let Some(choice) = version.choice(&policy) else { return Ok(false) };
            let running = tree.engine.share.begin(Work::Merge);
            let merged = tree.merge_now(&version, choice).await;
            drop(running);
            drop(version);
            let counter = if merged.is_ok() { &tree.engine.merges } else { &tree.engine.failures };
            counter.set(counter.get() + 1);
            tree.engine.sweep().await;
            merged.map(|()| true)
        }
    }

    pub(super) async fn merge_now(&self, before: &Version<D>, choice: Choice) -> Result<(), StorageError> {
        let chosen: Vec<Arc<Run<D>>> =
            before.runs.iter().filter_map(|run| run.only(&choice.inputs).map(Arc::new)).collect();
        let gone: Vec<u64> = choice.inputs.iter().copied().collect();
        let made = if choice.as_it_is {
            None
        } else {
            let shape = Shape {
                is_flush: false,
                level: choice.level,
                run: choice.run,
                to_the_oldest: choice.to_the_oldest,
                table_bytes: choice.table_bytes,
                inside: self.state.inside(),
                log_time_ms: before.log_time_ms(),
                guards: Vec::new(),
                piece_bytes: 0,
            };
            Some(write_tables(&self.engine, MergeIter::new(&[], &chosen, Span::all(), Way::Up), &shape).await?)
        };
        let edit = self.engine.manifest.edit().await;
        let now = self.state.version();
        // An install may have replaced the tables meanwhile; flushes only put new ones in front.
        if !gone.iter().all(|number| now.members().any(|member| member.entry.place.number == *number)) {
            return Ok(());
        }
        let fresh = match &made {
            Some(made) => made.members(),
            None => chosen.iter().flat_map(|run| run.members()).map(|member| moved(member, &choice)).collect(),
        };
        let version = now.with(now.at.clone(), &gone, fresh);
        edit.commit(self.state.shard, version.record()).await?;
        self.show(version);
        if let Some(made) = made {
            self.engine.merged_bytes.set(self.engine.merged_bytes.get() + made.bytes());
            made.keep();
            before.doom(&self.engine, |number| gone.contains(&number));
        }
        Ok(())
    }
}

/// The same table in another place of the tree.
fn moved<D: Disk>(member: &Member<D>, choice: &Choice) -> Member<D> {
    let entry = TableEntry { level: choice.level, run: choice.run, ..member.entry.as_ref().clone() };
    Member { entry: Arc::new(entry), table: member.table.clone() }
}
