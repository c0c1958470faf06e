//! What can be asked of a session, and what comes back.

use crate::error::Error;
use crate::stats::SessionStats;
use bytes::Bytes;
use ringkv_wire::ids::{KeyspaceId, StoreId};
use ringkv_wire::msg::client::ReadLevel;
use ringkv_wire::ring::topology::ClusterMap;
use std::sync::Arc;

/// A call of this session. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl CallId {
    /// A small number that no other call has before this one's completion was given away.
    pub fn slot(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What is asked, and how.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked.
    pub ask: Ask,
    /// How long it may take, ms; the session's default when `None`.
    pub timeout_ms: Option<u64>,
    /// What a read must reflect; the session's default when `None`.
    pub level: Option<ReadLevel>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Ask {
    /// The value of a key.
    Get {
        /// Of this keyspace.
        keyspace: KeyspaceId,
        /// 1..=65,535 bytes.
        key: Bytes,
    },
    /// The values of many keys; each key has its own result.
    GetMany {
        /// Of this keyspace.
        keyspace: KeyspaceId,
        /// Any number.
        keys: Vec<Bytes>,
    },
    /// Sets a key.
    Put {
        /// Of this keyspace.
        keyspace: KeyspaceId,
        /// 1..=65,535 bytes.
        key: Bytes,
        /// At most 16 MiB.
        value: Bytes,
    },
    /// Sets many keys; each has its own result, and they are not one transaction. Of a key given twice either value may
    /// last.
    PutMany {
        /// Of this keyspace.
        keyspace: KeyspaceId,
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// Removes a key, whether it is there or not.
    Delete {
        /// Of this keyspace.
        keyspace: KeyspaceId,
        /// 1..=65,535 bytes.
        key: Bytes,
    },
    /// The cluster map, as soon as there is one.
    Map,
    /// What the session has counted.
    Stats,
    /// How a store is: JSON text.
    Status {
        /// This store.
        store: StoreId,
    },
}

impl Call {
    /// A call with the session's defaults.
    pub fn new(ask: Ask) -> Call {
        Call { ask, timeout_ms: None, level: None }
    }
}

impl Ask {
    /// How many keys it is about.
    pub fn keys(&self) -> usize {
        match self {
            Ask::Get { .. } | Ask::Put { .. } | Ask::Delete { .. } => 1,
            Ask::GetMany { keys, .. } => keys.len(),
            Ask::PutMany { pairs, .. } => pairs.len(),
            Ask::Map | Ask::Stats | Ask::Status { .. } => 0,
        }
    }
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its bytes. They share the memory of the message they came in: copy them to keep few of them for long.
    pub value: Bytes,
    /// The index, in the log of the key's shard, of the write that made it.
    pub version: u64,
}

impl std::ops::Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.value
    }
}

/// A write that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The index, in the log of the key's shard, at which it was applied.
    pub version: u64,
}

/// What became of a call, in the shape it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Of a get: the value, or that there is none.
    Got(Result<Option<Value>, Error>),
    /// Of a get of many: per key, in the order asked.
    GotMany(Vec<Result<Option<Value>, Error>>),
    /// Of a put or delete.
    Written(Result<Written, Error>),
    /// Of a put of many: per pair, in the order asked.
    WrittenMany(Vec<Result<Written, Error>>),
    /// Of a map.
    Map(Result<Arc<ClusterMap>, Error>),
    /// Of a question for what was counted.
    Stats(Result<SessionStats, Error>),
    /// Of a status.
    Status(Result<String, Error>),
}
