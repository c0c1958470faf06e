//! What a look at a whole store shows, now and then.

use super::group::Group;
use super::{Life, State};
use ringkv_core::raft::Role;
use ringkv_shard::config::StoreView;

impl State {
    pub(super) fn glanced(&mut self, life: Life, view: &StoreView) -> Vec<String> {
        let mut wrong = Vec::new();
        for shard in &view.shards {
            if shard.role == Role::Leader {
                let group = self.groups.entry(shard.shard).or_insert_with(|| Group::new(shard.shard));
                wrong.extend(group.leads(life, shard.term));
            }
            let (applied, commit, last) = (shard.applied, shard.commit, shard.last_index);
            if applied > commit || commit > last {
                let name = format!("{} {}", life.0, shard.shard);
                wrong.push(format!("{name}: applied {applied} <= commit {commit} <= last {last} does not hold"));
            }
        }
        wrong
    }
}
