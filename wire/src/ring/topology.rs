//! The cluster map: nodes, keyspaces, pools, shards.

use crate::ids::{ClusterId, Generation, KeyspaceId, NodeId, Position, ShardId, StoreId};
use crate::ring::hash::{Routing, key_hash, position};
use crate::ring::placement;
use std::net::SocketAddr;
use std::ops::Range;

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

/// A node as its operator lists it: the input of [`ClusterMap::from_members`].
pub type Member = NodeInfo;

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

/// A map's arcs side by side: finds the shards of keys without a look at the map.
#[derive(Clone, Debug, Default)]
pub struct Finder {
    /// With the places of its pool's shards.
    keyspaces: Vec<(KeyspaceId, Routing, Range<usize>)>,
    /// Of every shard.
    starts: Vec<u32>,
}

impl Finder {
    /// The place in the map's `shards` of the shard that holds `key`, when the keyspace exists.
    pub fn find(&self, keyspace: KeyspaceId, key: &[u8]) -> Option<usize> {
        let (_, routing, arcs) = self.keyspaces.iter().find(|(id, ..)| *id == keyspace)?;
        let at = position(key_hash(keyspace, routing.part(key))).0;
        let starts = self.starts.get(arcs.clone())?;
        let behind = starts.partition_point(|&start| start <= at);
        Some(arcs.start + behind.checked_sub(1)?)
    }
}

impl ClusterMap {
    /// The map of a static list of members: epoch 1, every shard in generation 1, the shard table computed from the ring
    /// (see [`placement::table`]). The order of the lists does not matter.
    ///
    /// # Panics
    /// When two members, keyspaces or pools share an id, or a keyspace names a pool that is not there: the caller checks
    /// its configuration first.
    pub fn from_members(
        cluster: ClusterId,
        members: &[Member],
        keyspaces: &[KeyspaceInfo],
        pools: &[PoolInfo],
    ) -> ClusterMap {
        let (mut nodes, mut keyspaces, mut pools) = (members.to_vec(), keyspaces.to_vec(), pools.to_vec());
        nodes.sort_by_key(|n| n.id);
        keyspaces.sort_by_key(|k| k.id);
        pools.sort_by_key(|p| p.id);
        assert!(nodes.is_sorted_by(|a, b| a.id < b.id), "two members share an id");
        assert!(keyspaces.is_sorted_by(|a, b| a.id < b.id), "two keyspaces share an id");
        assert!(pools.is_sorted_by(|a, b| a.id < b.id), "two pools share an id");
        assert!(keyspaces.iter().all(|k| pools.iter().any(|p| p.id == k.pool)), "a keyspace without a pool");
        let mut shards = Vec::new();
        for pool in &pools {
            for (arc, replicas) in placement::table(&nodes, pool).into_iter().enumerate() {
                shards.push(ShardInfo {
                    id: ShardId::new(pool.id, arc as u32),
                    generation: Generation(1),
                    start: placement::arc_start(arc as u32, pool.shard_bits),
                    replicas,
                });
            }
        }
        ClusterMap { cluster, epoch: 1, nodes, keyspaces, pools, shards }
    }

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

    /// For who looks for many keys.
    pub fn finder(&self) -> Finder {
        let arcs = |pool: u8| {
            let first = self.shards.partition_point(|shard| shard.id.pool() < pool);
            first..self.shards.partition_point(|shard| shard.id.pool() <= pool)
        };
        Finder {
            keyspaces: self.keyspaces.iter().map(|info| (info.id, info.routing, arcs(info.pool))).collect(),
            starts: self.shards.iter().map(|shard| shard.start.0).collect(),
        }
    }

    /// The last position of each shard's arc, for the shard at this place in `shards`.
    pub fn arc_end(&self, index: usize) -> Position {
        let next = self.shards.get(index + 1).zip(self.shards.get(index)).filter(|(n, s)| n.id.pool() == s.id.pool());
        Position(next.map_or(u32::MAX, |(next, _)| next.start.0 - 1))
    }

    /// The shard with this id.
    pub fn shard(&self, id: ShardId) -> Option<&ShardInfo> {
        self.shards.iter().find(|s| s.id == id)
    }

    /// The node with this id.
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.binary_search_by_key(&id, |n| n.id).ok().and_then(|at| self.nodes.get(at))
    }

    /// A store's own address.
    pub fn address(&self, store: StoreId) -> Option<SocketAddr> {
        self.node(store.node)?.stores.get(usize::from(store.store)).copied()
    }

    /// The shards that have a replica on this store.
    pub fn shards_on(&self, store: StoreId) -> impl Iterator<Item = &ShardInfo> {
        self.shards.iter().filter(move |s| s.replicas.contains(&store))
    }

    /// Replicas of `newer` that are on a node where this map has none of the same shard: what a change has to copy between
    /// nodes.
    pub fn moved_replicas(&self, newer: &ClusterMap) -> usize {
        let moved = |shard: &ShardInfo| {
            let before = self.shard(shard.id).map_or(&[][..], |s| &s.replicas);
            shard.replicas.iter().filter(|r| before.iter().all(|b| b.node != r.node)).count()
        };
        newer.shards.iter().map(moved).sum()
    }
}
