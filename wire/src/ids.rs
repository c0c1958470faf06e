//! The names of things: plain newtypes, no behaviour.

use std::fmt;

/// A node: one process on one machine, numbered by its operator from 1. 0 means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// A store: a log and the replicas in it. The persistent unit, numbered from 0 within its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId {
    /// The node that holds it.
    pub node: NodeId,
    /// Its number in that node's data directory.
    pub store: u16,
}

/// A shard: one arc of the ring in one pool. Top 8 bits: pool; low 24 bits: number of the arc when the pool was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

/// Version of a shard's arc and rule; raised by split, merge, change of its rule. From 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// A keyspace, from 1. 0 is the store's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyspaceId(pub u32);

/// A point on the ring of 2^32 positions: the top 32 bits of a key's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// 128 random bits that name a client for its lifetime.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

/// 128 random bits that name a cluster. All zero: not known.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// Random bits made with a data directory: tells a wiped or copied node from the one that was there before. 0: not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// The time, as an argument. Protocol code never asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Nanoseconds since boot, counting suspend (CLOCK_BOOTTIME). Never goes back.
    pub boot_ns: u64,
    /// Milliseconds since the Unix epoch by the wall clock. May jump.
    pub wall_ms: u64,
}

impl ShardId {
    /// The shard of `pool` that was arc number `arc` (below 2^24) when the pool was made.
    pub const fn new(pool: u8, arc: u32) -> ShardId {
        assert!(arc < 1 << 24, "a pool has at most 2^24 shards");
        ShardId(((pool as u32) << 24) | arc)
    }
    /// The pool this shard belongs to.
    pub const fn pool(self) -> u8 {
        (self.0 >> 24) as u8
    }
    /// The number of its arc.
    pub const fn arc(self) -> u32 {
        self.0 & 0x00ff_ffff
    }
}

impl StoreId {
    /// Store `store` of node `node`.
    pub const fn new(node: u32, store: u16) -> StoreId {
        StoreId { node: NodeId(node), store }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}/{}", self.node.0, self.store)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}.{}", self.pool(), self.arc())
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}
