//! Replicas are equal at equal index, whenever and wherever they were there.

use ringkv_shard::digest::Digest;
use ringkv_wire::ids::{ShardId, StoreId};
use std::collections::BTreeMap;

/// The first digest of each shard and index.
#[derive(Default)]
pub struct States(BTreeMap<(ShardId, u64), (StoreId, Digest)>);

impl States {
    /// A replica's state came to this.
    pub fn came_to(&mut self, store: StoreId, shard: ShardId, digest: Digest) -> Option<String> {
        let (first, state) = *self.0.entry((shard, digest.index)).or_insert((store, digest));
        (state != digest).then(|| {
            format!("replicas differ: {shard} at index {}: {first} has {state:?}, {store} {digest:?}", digest.index)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_states_at_one_index_are_named() {
        let (mut states, shard) = (States::default(), ShardId(1));
        let first = Digest { index: 7, log_time_ms: 1, keys: 2, tree: 3, sessions: 4 };
        assert_eq!(states.came_to(StoreId::new(1, 0), shard, first), None);
        assert_eq!(states.came_to(StoreId::new(2, 0), shard, first), None);
        assert_eq!(states.came_to(StoreId::new(2, 0), shard, Digest { index: 8, tree: 5, ..first }), None);
        let others = [
            Digest { log_time_ms: 9, ..first },
            Digest { keys: 9, ..first },
            Digest { tree: 9, ..first },
            Digest { sessions: 9, ..first },
        ];
        for other in others {
            assert!(states.came_to(StoreId::new(3, 0), shard, other).is_some(), "{other:?}");
        }
    }
}
