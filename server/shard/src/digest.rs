//! What a replica's state comes to in a few numbers: equal on all replicas at equal index, or one of them is wrong.

use ringkv_storage::disk::Disk;
use ringkv_storage::error::StorageError;
use ringkv_storage::tree::Tree;
use ringkv_wire::checksum;
use ringkv_wire::ids::{KeyspaceId, ShardId};
use std::pin::Pin;

/// A replica's whole state at one applied index. Two of one shard and index that differ prove a damaged or wrong replica;
/// that two are equal proves nothing beyond chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Everything up to this index was applied.
    pub index: u64,
    /// Log time there, ms.
    pub log_time_ms: u64,
    /// Keys with a value.
    pub keys: u64,
    /// Over every (keyspace, key, version, value), in order. The store's own keyspace is left out: what stands there depends
    /// on when this replica flushed.
    pub tree: u64,
    /// Over the session table.
    pub sessions: u32,
}

/// Comes to a digest; reads the whole tree.
pub type Digesting = Pin<Box<dyn Future<Output = Result<Digest, StorageError>>>>;
/// Begins a digest of a shard as it is now; `None`: it is not here, or its tree is being replaced.
pub type Digester = std::rc::Rc<dyn Fn(ShardId) -> Option<Digesting>>;

/// What is known without reading the tree.
pub(crate) struct Known {
    pub index: u64,
    pub log_time_ms: u64,
    pub sessions: u32,
}

/// Walks the tree as it is when this is called; the future may be polled later.
pub(crate) fn digest<D: Disk>(tree: &Tree<D>, own: KeyspaceId, known: Known) -> Digesting {
    let mut walk = tree.iter();
    Box::pin(async move {
        let Known { index, log_time_ms, sessions } = known;
        let (mut keys, mut tree) = (0, 0);
        while let Some((keyspace, key, value)) = walk.next().await? {
            if keyspace == own {
                continue;
            }
            keys += 1;
            let name = u64::from(keyspace.0) << 32 | u64::from(checksum(&key));
            let content = (key.len() as u64) << 32 | u64::from(checksum(&value.value));
            for part in [name, content, value.value.len() as u64, value.version] {
                tree = mixed(tree, part);
            }
        }
        Ok(Digest { index, log_time_ms, keys, tree, sessions })
    })
}

/// Depends on the order of the parts (constants of MurmurHash3's finalizer, by Appleby).
fn mixed(hash: u64, part: u64) -> u64 {
    let mixed = (hash.rotate_left(23) ^ part).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ringkv_storage::disk::fault::{FaultDisk, block_on};
    use ringkv_storage::engine::{Engine, EngineOptions};
    use ringkv_storage::tree::Flushed;

    const OWN: KeyspaceId = KeyspaceId(0);
    const KEYS: KeyspaceId = KeyspaceId(1);

    /// `flush`: half of it lies in a table, with a record of the store's own.
    fn of(writes: &[(&str, Option<&str>)], flush: bool) -> Digest {
        block_on(async {
            let engine = Engine::open(FaultDisk::new(1), "store", EngineOptions::default()).await.unwrap();
            let tree = engine.tree(ShardId(1));
            for (at, (key, value)) in writes.iter().enumerate() {
                let index = at as u64 + 1;
                match value {
                    Some(value) => tree.put(index, KEYS, key.as_bytes(), Bytes::copy_from_slice(value.as_bytes())),
                    None => tree.delete(index, KEYS, key.as_bytes()),
                }
                if flush && at == writes.len() / 2 {
                    let own = vec![(OWN, Bytes::from("sessions"), Bytes::from("1"))];
                    tree.flush(Flushed { index, ..Flushed::default() }, own).await.unwrap();
                }
            }
            digest(&tree, OWN, Known { index: 4, log_time_ms: 5, sessions: 6 }).await.unwrap()
        })
    }

    #[test]
    fn it_tells_contents_apart_and_not_where_they_lie() {
        let writes = [("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("a", None)];
        let right = of(&writes, false);
        assert_eq!(right.keys, 2);
        assert_eq!(of(&writes, true), right);
        let others = [
            [("a", Some("1")), ("b", Some("2")), ("c", Some("3")), ("d", None)],
            [("a", Some("1")), ("b", Some("2")), ("c", Some("4")), ("a", None)],
            [("a", Some("1")), ("bc", Some("")), ("c", Some("3")), ("a", None)],
            [("b", Some("2")), ("a", Some("1")), ("c", Some("3")), ("a", None)],
        ];
        for other in others {
            assert_ne!(of(&other, false), right, "{other:?}");
        }
    }
}
