//! What is measured: anything that gets and puts.

use std::future::Future;

use ::ringkv::SessionStats;
use bytes::Bytes;

#[cfg(feature = "etcd")]
mod etcd;
mod nothing;
mod redis;
mod ringkv;

#[cfg(feature = "etcd")]
pub use self::etcd::{Etcd, EtcdSource};
pub use self::redis::{Redis, RedisSource};
pub use nothing::{Nothing, Nowhere};

/// What a read found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub bytes: Bytes,
    /// Log index of the write that made it, 0 when not known.
    pub version: u64,
}

/// What became of a call that did not succeed. For reads always `NotApplied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Surely not done.
    NotApplied,
    /// Done, but the answer is lost.
    Applied,
    /// Perhaps done, perhaps later.
    Unknown,
}

/// A store as the bench sees it: one client, of which each clone shares the connections. It stays on the thread that made it.
pub trait Target: Clone + 'static {
    /// The value of a key, `None` when absent.
    fn get(&self, key: Bytes) -> impl Future<Output = Result<Option<Found>, Failure>>;
    /// Sets a key; gives the version.
    fn put(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<u64, Failure>>;
    /// Removes a key, whether it is there or not; gives the version.
    fn delete(&self, key: Bytes) -> impl Future<Output = Result<u64, Failure>>;
    /// The values of many keys, in their order.
    fn get_many(&self, keys: Vec<Bytes>) -> impl Future<Output = impl Iterator<Item = Result<Option<Found>, Failure>>>;
    /// What it counted so far, and where the time of its keys went, when it knows.
    fn stats(&self) -> impl Future<Output = Option<SessionStats>> {
        std::future::ready(None)
    }
    /// Sets many keys; gives their versions, in their order.
    fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Future<Output = impl Iterator<Item = Result<u64, Failure>>>;
}

/// A store that can be connected to, from any thread.
pub trait Source: Clone + Send + 'static {
    /// Its clients.
    type Target: Target;
    /// Connects one more client.
    fn connect(&self) -> impl Future<Output = anyhow::Result<Self::Target>>;
}
