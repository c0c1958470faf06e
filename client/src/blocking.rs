//! The same client without async: each call waits in the thread that makes it, and that thread moves the bytes meanwhile. There
//! is no other thread that it would have to wake, and be woken by.
//!
//! ```no_run
//! # fn example() -> Result<(), ringkv::Error> {
//! let client = ringkv::blocking::Client::connect(ringkv::Client::builder().seeds(["127.0.0.1:7400"]))?;
//! client.put("key", "10")?;
//! # Ok(()) }
//! ```

use crate::{
    Builder, CallOptions, ClusterMap, Error, IntoBytes, NodeId, Outcome, SessionStats, StoreId, Value, Written, client,
};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// A client of one keyspace for threads. Cheap to clone and to share; calls that several threads make at a time travel together,
/// and one of the threads moves the bytes of all. Between calls nobody does: what a store says then, a closed connection say, is
/// heard of by the next call.
///
/// # Panics
/// Calls made inside an async task panic: use [`crate::Client`] there.
#[derive(Clone, Debug)]
pub struct Client {
    inner: client::Client,
    home: Arc<Home>,
}

/// Where the connections live.
#[derive(Debug)]
struct Home(Option<Runtime>);

impl Home {
    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(runtime) => runtime.block_on(future),
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Waits for nothing, so that the last clone may be dropped anywhere, in async tasks too.
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Client {
    /// Connects as [`Builder::connect`] does, with the same errors.
    pub fn connect(builder: Builder) -> Result<Client, Error> {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(%error, "the system has nothing to wait on");
                return Err(Error::Closed { outcome: Outcome::NotApplied });
            }
        };
        let home = Home(Some(runtime));
        let inner = home.wait(builder.connect())?;
        Ok(Client { inner, home: Arc::new(home) })
    }

    /// See [`crate::Client::keyspace`].
    pub fn keyspace(&self, name: &str) -> Result<Client, Error> {
        let inner = self.home.wait(self.inner.keyspace(name))?;
        Ok(Client { inner, home: self.home.clone() })
    }

    /// See [`crate::Client::get`].
    pub fn get(&self, key: impl IntoBytes) -> Result<Option<Value>, Error> {
        self.home.wait(self.inner.get(key))
    }

    /// See [`crate::Client::get_with`].
    pub fn get_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Option<Value>, Error> {
        self.home.wait(self.inner.get_with(key, options))
    }

    /// See [`crate::Client::put`].
    pub fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<Written, Error> {
        self.home.wait(self.inner.put(key, value))
    }

    /// See [`crate::Client::put_with`].
    pub fn put_with(
        &self,
        key: impl IntoBytes,
        value: impl IntoBytes,
        options: &CallOptions,
    ) -> Result<Written, Error> {
        self.home.wait(self.inner.put_with(key, value, options))
    }

    /// See [`crate::Client::delete`].
    pub fn delete(&self, key: impl IntoBytes) -> Result<Written, Error> {
        self.home.wait(self.inner.delete(key))
    }

    /// See [`crate::Client::delete_with`].
    pub fn delete_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Written, Error> {
        self.home.wait(self.inner.delete_with(key, options))
    }

    /// See [`crate::Client::get_many`].
    pub fn get_many<K: IntoBytes>(&self, keys: impl IntoIterator<Item = K>) -> Vec<Result<Option<Value>, Error>> {
        self.home.wait(self.inner.get_many(keys))
    }

    /// See [`crate::Client::get_many_with`].
    pub fn get_many_with<K: IntoBytes>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: &CallOptions,
    ) -> Vec<Result<Option<Value>, Error>> {
        self.home.wait(self.inner.get_many_with(keys, options))
    }

    /// See [`crate::Client::put_many`].
    pub fn put_many<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Written, Error>> {
        self.home.wait(self.inner.put_many(pairs))
    }

    /// See [`crate::Client::put_many_with`].
    pub fn put_many_with<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
        options: &CallOptions,
    ) -> Vec<Result<Written, Error>> {
        self.home.wait(self.inner.put_many_with(pairs, options))
    }

    /// See [`crate::Client::map`].
    pub fn map(&self) -> Result<Arc<ClusterMap>, Error> {
        self.home.wait(self.inner.map())
    }

    /// See [`crate::Client::stats`].
    pub fn stats(&self) -> Result<SessionStats, Error> {
        self.home.wait(self.inner.stats())
    }

    /// See [`crate::Client::status`].
    pub fn status(&self, node: NodeId) -> Result<String, Error> {
        self.home.wait(self.inner.status(node))
    }

    /// See [`crate::Client::store_status`].
    pub fn store_status(&self, store: StoreId) -> Result<String, Error> {
        self.home.wait(self.inner.store_status(store))
    }
}
