//! Running the merge that compaction chose.

use crate::compaction::choose::{Choice, Policy};
use crate::compaction::job::{Made, Shape, write_tables};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Work;
use crate::iter::{MergeIter, Span, Way};
use crate::manifest::TableEntry;
use crate::tree::Tree;
use crate::tree::run::{Member, Run};
use crate::tree::version::Version;
use std::sync::Arc;

/// Who waits for space has merged what would otherwise wait for more, once so much of all that is in the last levels is there twice:
/// less would mean to write the last levels again for every little that comes.
const WASTE_PART: f64 = 1.0 / 16.0;

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

    /// Does one of the merges that [`Tree::settle`] does.
    pub(crate) fn merge_any(&self) -> impl Future<Output = Result<(), StorageError>> + 'static {
        let merging = self.merge_as(self.engine.policy().settling());
        async move { merging.await.map(drop) }
    }

    /// Whether much of the tables' space would be free were all merged, by what merges found so far, and something can be.
    pub(crate) fn is_wasteful(&self) -> bool {
        self.is_layered_by(self.state.replaced.get()) && self.can_settle()
    }

    pub(super) fn can_settle(&self) -> bool {
        self.state.version().choice(&self.engine.policy().settling()).is_some()
    }

    /// Whether there is much above the last levels, when a part of that counts.
    pub(super) fn is_layered_by(&self, part: f64) -> bool {
        let weight = self.state.weight.get();
        weight.upper as f64 * part > (weight.all - weight.upper) as f64 * WASTE_PART
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
            if choice.to_the_oldest {
                self.learn(&chosen, choice.level, &made);
            }
            self.engine.merged_bytes.set(self.engine.merged_bytes.get() + made.bytes());
            made.keep();
            before.doom(&self.engine, |number| gone.contains(&number));
        }
        Ok(())
    }

    /// How much of what lay above a level was for nothing when it was merged with that.
    fn learn(&self, chosen: &[Arc<Run<D>>], level: u8, made: &Made<D>) {
        let entries = |member: &Member<D>| member.table.as_ref().map_or(0, |table| table.properties().entries);
        let inputs = || chosen.iter().flat_map(|run| run.members());
        let above: u64 = inputs().filter(|member| member.entry.level != level).map(entries).sum();
        if above > 0 {
            let left: u64 = made.members().iter().map(entries).sum();
            let gone = inputs().map(entries).sum::<u64>().saturating_sub(left);
            let (part, before) = ((gone as f64 / above as f64).min(1.0), self.state.replaced.get());
            self.state.replaced.set(if before == 0.0 { part } else { before + (part - before) / 4.0 });
        }
    }
}

/// The same table in another place of the tree.
fn moved<D: Disk>(member: &Member<D>, choice: &Choice) -> Member<D> {
    let entry = TableEntry { level: choice.level, run: choice.run, ..member.entry.as_ref().clone() };
    Member { entry: Arc::new(entry), table: member.table.clone() }
}
