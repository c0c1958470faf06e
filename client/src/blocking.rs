//! The same client without async: each call waits in the thread that makes it. Connections live on one thread of their own.
//!
//! ```no_run
//! # fn example() -> Result<(), ringkv::Error> {
//! let client = ringkv::blocking::Client::connect(ringkv::Client::builder().seeds(["127.0.0.1:7400"]))?;
//! client.put("key", "10")?;
//! # Ok(()) }
//! ```

use crate::client::{self, got, got_many, written, written_many};
use crate::{Builder, CallOptions, ClusterMap, Error, IntoBytes, NodeId, SessionStats, StoreId, Value, Written};
use bytes::Bytes;
use ringkv_session::Ask;
use std::sync::Arc;

/// A client of one keyspace for threads. Cheap to clone and to share; calls of all threads travel together.
///
/// # Panics
/// Calls made inside an async task panic: use [`crate::Client`] there.
#[derive(Clone, Debug)]
pub struct Client {
    inner: client::Client,
}

impl Client {
    /// Connects as [`Builder::connect`] does, with the same errors.
    pub fn connect(builder: Builder) -> Result<Client, Error> {
        Ok(Client { inner: builder.connect_blocking()? })
    }

    /// See [`crate::Client::keyspace`].
    pub fn keyspace(&self, name: &str) -> Result<Client, Error> {
        let map = self.map()?;
        let found = map.keyspace(name).ok_or_else(|| Error::NoKeyspace(name.into()))?;
        Ok(Client { inner: self.inner.with_keyspace(found.id) })
    }

    /// See [`crate::Client::get`].
    pub fn get(&self, key: impl IntoBytes) -> Result<Option<Value>, Error> {
        self.get_with(key, &CallOptions::new())
    }

    /// See [`crate::Client::get_with`].
    pub fn get_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Option<Value>, Error> {
        got(self.inner.ask_blocking(self.inner.ask_get(key), options))
    }

    /// See [`crate::Client::put`].
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<Written, Error> {
        self.put_with(key, value, &CallOptions::new())
    }

    /// See [`crate::Client::put_with`].
    pub fn put_with(
        &self,
        key: impl IntoBytes,
        value: impl IntoBytes,
        options: &CallOptions,
    ) -> Result<Written, Error> {
        written(self.inner.ask_blocking(self.inner.ask_put(key, value), options))
    }

    /// See [`crate::Client::delete`].
    pub fn delete(&self, key: impl IntoBytes) -> Result<Written, Error> {
        self.delete_with(key, &CallOptions::new())
    }

    /// See [`crate::Client::delete_with`].
    pub fn delete_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Written, Error> {
        written(self.inner.ask_blocking(self.inner.ask_delete(key), options))
    }

    /// See [`crate::Client::get_many`].
    pub fn get_many<K: IntoBytes>(&self, keys: impl IntoIterator<Item = K>) -> Vec<Result<Option<Value>, Error>> {
        self.get_many_with(keys, &CallOptions::new())
    }

    /// See [`crate::Client::get_many_with`].
    pub fn get_many_with<K: IntoBytes>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: &CallOptions,
    ) -> Vec<Result<Option<Value>, Error>> {
        let keys: Vec<Bytes> = keys.into_iter().map(K::into_bytes).collect();
        let count = keys.len();
        let ask = Ask::GetMany { keyspace: self.inner.keyspace_id(), keys };
        got_many(self.inner.ask_blocking(ask, options), count)
    }

    /// See [`crate::Client::put_many`].
    pub fn put_many<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Written, Error>> {
        self.put_many_with(pairs, &CallOptions::new())
    }

    /// See [`crate::Client::put_many_with`].
    pub fn put_many_with<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
        options: &CallOptions,
    ) -> Vec<Result<Written, Error>> {
        let pairs: Vec<(Bytes, Bytes)> = pairs.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect();
        let count = pairs.len();
        let ask = Ask::PutMany { keyspace: self.inner.keyspace_id(), pairs };
        written_many(self.inner.ask_blocking(ask, options), count)
    }

    /// See [`crate::Client::map`].
    pub fn map(&self) -> Result<Arc<ClusterMap>, Error> {
        client::map(self.inner.ask_blocking(Ask::Map, &CallOptions::new()))
    }

    /// See [`crate::Client::stats`].
    pub fn stats(&self) -> Result<SessionStats, Error> {
        client::stats(self.inner.ask_blocking(Ask::Stats, &CallOptions::new()))
    }

    /// See [`crate::Client::status`].
    pub fn status(&self, node: NodeId) -> Result<String, Error> {
        self.store_status(StoreId { node, store: 0 })
    }

    /// See [`crate::Client::store_status`].
    pub fn store_status(&self, store: StoreId) -> Result<String, Error> {
        client::status(self.inner.ask_blocking(Ask::Status { store }, &CallOptions::new()))
    }
}
