//! The cluster map: nodes, keyspaces, pools, shards.

use crate::ids::{ClusterId, Generation, KeyspaceId, NodeId, Position, ShardId, StoreId};
use crate::ring::hash::{Routing, key_hash, position};
use std::net::SocketAddr;

/// One version of the cluster map. Immutable; swapped whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterMap {
    /// The cluster.
    pub cluster: ClusterId,
    /// Version of the map, from 1.
    pub epoch: u64,
    /// Sorted by id.
    pub nodes: Vec<NodeInfo>,
    /// Sorted by id.
    pub keyspaces: Vec<KeyspaceInfo>,
    /// Sorted by id.
    pub pools: Vec<PoolInfo>,
    /// Sorted by (pool, start).
    pub shards: Vec<ShardInfo>,
}

/// A node and its stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number.
    pub id: NodeId,
    /// Its common port: takes any hello and hands the connection to the wanted store.
    pub address: SocketAddr,
    /// 100 is an ordinary node.
    pub weight: u16,
    /// Replicas of a shard go to distinct racks where there are any. Empty: no rack.
    pub rack: String,
    /// The stores' own addresses, by store number.
    pub stores: Vec<SocketAddr>,
}

/// A keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceInfo {
    /// Its number, from 1.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// The pool that holds it.
    pub pool: u8,
    /// What of a key is hashed.
    pub routing: Routing,
}

/// The keyspaces of one mode, replica count and placement rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Its number.
    pub id: u8,
    /// Replicas of each shard.
    pub replicas: u8,
    /// log2 of its number of shards when it was made.
    pub shard_bits: u8,
}

/// A shard: the arc from `start` to the next shard's start (or the end of the ring).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its name.
    pub id: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// First position of its arc.
    pub start: Position,
    /// Where its replicas are.
    pub replicas: Vec<StoreId>,
}

impl ClusterMap {
    /// The keyspace of this name.
    pub fn keyspace(&self, name: &str) -> Option<&KeyspaceInfo> {
        self.keyspaces.iter().find(|k| k.name == name)
    }

    /// The shard that holds `key`, when the keyspace exists.
    pub fn shard_of(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<&ShardInfo> {
        let info = self.keyspaces.iter().find(|k| k.id == keyspace)?;
        let at = position(key_hash(keyspace, info.routing.part(key)));
        let end = self.shards.partition_point(|s| (s.id.pool(), s.start) <= (info.pool, at));
        self.shards.get(end.checked_sub(1)?).filter(|s| s.id.pool() == info.pool)
    }

    /// A store's own address.
    pub fn address(&self, store: StoreId) -> Option<SocketAddr> {
        let node = self.nodes.iter().find(|n| n.id == store.node)?;
        node.stores.get(usize::from(store.store)).copied()
    }
}
