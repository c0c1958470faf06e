//! Ridding tables of whole keyspaces.

use crate::compaction::choose::Choice;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::gate::Work;
use crate::iter::{Span, Way};
use crate::tree::Tree;
use crate::tree::run::{Member, Run, RunScan};
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeSet;
use std::sync::Arc;

impl<D: Disk> Tree<D> {
    /// Drops the tables of these keyspaces alone, damaged ones too, and writes those again that hold some of them beside others. They must
    /// be the tree's no more ([`Tree::narrow`]), durably: what is dropped does not come back. A damaged table that may hold others stays.
    pub(crate) async fn shed(&self, gone: &BTreeSet<KeyspaceId>) -> Result<(), StorageError> {
        let _pass = self.state.merging.enter().await;
        let running = self.engine.share.begin(Work::Merge);
        let shed = self.shed_now(gone).await;
        drop(running);
        self.engine.sweep().await;
        shed
    }

    async fn shed_now(&self, gone: &BTreeSet<KeyspaceId>) -> Result<(), StorageError> {
        self.drop_whole(gone).await?;
        let mixed: Vec<Member<D>> = {
            let version = self.state.version();
            version.members().filter(|member| member.is_sound() && meets(member, gone)).cloned().collect()
        };
        for member in mixed {
            if holds(&member, gone).await? {
                self.write_without(&member).await?;
            }
        }
        Ok(())
    }

    async fn drop_whole(&self, gone: &BTreeSet<KeyspaceId>) -> Result<(), StorageError> {
        let edit = self.engine.manifest.edit().await;
        let now = self.state.version();
        let whole = now.members().filter(|member| is_whole(member, gone));
        let whole: Vec<u64> = whole.map(|member| member.entry.place.number).collect();
        if whole.is_empty() {
            return Ok(());
        }
        let version = now.with(now.at.clone(), &whole, Vec::new());
        edit.commit(self.state.shard, version.record()).await?;
        self.show(version);
        now.doom(&self.engine, |number| whole.contains(&number));
        Ok(())
    }

    /// The same table in the same place, without what is the tree's no more.
    async fn write_without(&self, member: &Member<D>) -> Result<(), StorageError> {
        let entry = &member.entry;
        let choice = Choice {
            inputs: BTreeSet::from([entry.place.number]),
            level: entry.level,
            run: entry.run,
            to_the_oldest: false,
            as_it_is: false,
            table_bytes: u64::MAX,
            bytes: entry.place.bytes,
        };
        let version = self.state.version();
        self.merge_now(&version, choice).await
    }
}

/// Whether a table has no other keys.
fn is_whole<D: Disk>(member: &Member<D>, gone: &BTreeSet<KeyspaceId>) -> bool {
    let (least, greatest) = (member.entry.bounds.least().0, member.entry.bounds.greatest().0);
    (least.0..=greatest.0).all(|keyspace| gone.contains(&KeyspaceId(keyspace)))
}

/// Whether a table may have such keys.
fn meets<D: Disk>(member: &Member<D>, gone: &BTreeSet<KeyspaceId>) -> bool {
    gone.range(member.entry.bounds.least().0..=member.entry.bounds.greatest().0).next().is_some()
}

/// Whether it does.
async fn holds<D: Disk>(member: &Member<D>, gone: &BTreeSet<KeyspaceId>) -> Result<bool, StorageError> {
    let run = Arc::new(Run::new(vec![member.clone()]));
    for keyspace in gone.range(member.entry.bounds.least().0..=member.entry.bounds.greatest().0) {
        let mut scan = RunScan::new(run.clone(), Arc::new(Span::prefix(*keyspace, b"")), Way::Up);
        // What it stands at may be the next keyspace's.
        if scan.next().await? && scan.head().is_some_and(|head| head.key.0 == *keyspace) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[path = "shed_tests.rs"]
mod tests;
