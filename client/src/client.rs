//! The handle that applications hold.

use crate::bytes::IntoBytes;
use crate::desk::Calls;
use crate::options::CallOptions;
use crate::{Builder, ClusterMap, Error, KeyspaceId, NodeId, Outcome, SessionStats, StoreId, Value, Written};
use bytes::Bytes;
use ringkv_session::{Ask, Completion};
use std::sync::Arc;

/// A client of one keyspace. Cheap to clone: clones share connections, and calls made through any of them travel together.
#[derive(Clone, Debug)]
pub struct Client {
    calls: Calls,
    keyspace: KeyspaceId,
}

impl Client {
    /// Settings of a client to be: at least [`Builder::seeds`], then [`Builder::connect`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(calls: Calls, keyspace: KeyspaceId) -> Client {
        Client { calls, keyspace }
    }

    /// The same client for another keyspace.
    ///
    /// # Errors
    /// [`Error::NoKeyspace`] when the cluster has none of this name.
    pub async fn keyspace(&self, name: &str) -> Result<Client, Error> {
        let map = self.map().await?;
        let found = map.keyspace(name).ok_or_else(|| Error::NoKeyspace(name.into()))?;
        Ok(Client { calls: self.calls.clone(), keyspace: found.id })
    }

    /// The value of a key, or `None`. Reflects every write acknowledged before the call.
    pub async fn get(&self, key: impl IntoBytes) -> Result<Option<Value>, Error> {
        self.get_with(key, &CallOptions::new()).await
    }

    /// [`Client::get`] with options.
    pub async fn get_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Option<Value>, Error> {
        got(self.ask(Ask::Get { keyspace: self.keyspace, key: key.into_bytes() }, options).await)
    }

    /// Sets a key. When it returns `Ok`, a majority of the key's replicas have it on disk.
    pub async fn put(&self, key: impl IntoBytes, value: impl IntoBytes) -> Result<Written, Error> {
        self.put_with(key, value, &CallOptions::new()).await
    }

    /// [`Client::put`] with options.
    pub async fn put_with(
        &self,
        key: impl IntoBytes,
        value: impl IntoBytes,
        options: &CallOptions,
    ) -> Result<Written, Error> {
        let (keyspace, key, value) = (self.keyspace, key.into_bytes(), value.into_bytes());
        written(self.ask(Ask::Put { keyspace, key, value }, options).await)
    }

    /// Removes a key, whether it is there or not.
    pub async fn delete(&self, key: impl IntoBytes) -> Result<Written, Error> {
        self.delete_with(key, &CallOptions::new()).await
    }

    /// [`Client::delete`] with options.
    pub async fn delete_with(&self, key: impl IntoBytes, options: &CallOptions) -> Result<Written, Error> {
        written(self.ask(Ask::Delete { keyspace: self.keyspace, key: key.into_bytes() }, options).await)
    }

    /// The values of many keys: for each, in the order given, its own result. Each is read linearizably; together they are
    /// no snapshot.
    pub async fn get_many<K: IntoBytes>(&self, keys: impl IntoIterator<Item = K>) -> Vec<Result<Option<Value>, Error>> {
        self.get_many_with(keys, &CallOptions::new()).await
    }

    /// [`Client::get_many`] with options.
    pub async fn get_many_with<K: IntoBytes>(
        &self,
        keys: impl IntoIterator<Item = K>,
        options: &CallOptions,
    ) -> Vec<Result<Option<Value>, Error>> {
        let keys: Vec<Bytes> = keys.into_iter().map(K::into_bytes).collect();
        let count = keys.len();
        got_many(self.ask(Ask::GetMany { keyspace: self.keyspace, keys }, options).await, count)
    }

    /// Sets many keys: for each, in the order given, its own result. They are not one transaction. Of a key given twice
    /// either value may last.
    pub async fn put_many<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<Written, Error>> {
        self.put_many_with(pairs, &CallOptions::new()).await
    }

    /// [`Client::put_many`] with options.
    pub async fn put_many_with<K: IntoBytes, V: IntoBytes>(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
        options: &CallOptions,
    ) -> Vec<Result<Written, Error>> {
        let pairs: Vec<(Bytes, Bytes)> = pairs.into_iter().map(|(k, v)| (k.into_bytes(), v.into_bytes())).collect();
        let count = pairs.len();
        written_many(self.ask(Ask::PutMany { keyspace: self.keyspace, pairs }, options).await, count)
    }

    /// The cluster's map as this client knows it.
    pub async fn map(&self) -> Result<Arc<ClusterMap>, Error> {
        map(self.ask(Ask::Map, &CallOptions::new()).await)
    }

    /// What this client has counted, together with its clones, and where the time of its calls went.
    pub async fn stats(&self) -> Result<SessionStats, Error> {
        stats(self.ask(Ask::Stats, &CallOptions::new()).await)
    }

    /// How a node is, as its first store tells it: JSON text.
    pub async fn status(&self, node: NodeId) -> Result<String, Error> {
        self.store_status(StoreId { node, store: 0 }).await
    }

    /// How a store is: JSON text.
    pub async fn store_status(&self, store: StoreId) -> Result<String, Error> {
        status(self.ask(Ask::Status { store }, &CallOptions::new()).await)
    }

    async fn ask(&self, ask: Ask, options: &CallOptions) -> Option<Completion> {
        self.calls.submit(options.call(ask)).await
    }
}

// What a completion is for each call. `None`: the driver is gone, with its runtime.

fn got(completion: Option<Completion>) -> Result<Option<Value>, Error> {
    match completion {
        Some(Completion::Got(result)) => result,
        _ => Err(Error::Closed { outcome: Outcome::NotApplied }),
    }
}

fn written(completion: Option<Completion>) -> Result<Written, Error> {
    match completion {
        Some(Completion::Written(result)) => result,
        _ => Err(Error::Closed { outcome: Outcome::Unknown }),
    }
}

fn got_many(completion: Option<Completion>, count: usize) -> Vec<Result<Option<Value>, Error>> {
    match completion {
        Some(Completion::GotMany(results)) => results,
        _ => vec![Err(Error::Closed { outcome: Outcome::NotApplied }); count],
    }
}

fn written_many(completion: Option<Completion>, count: usize) -> Vec<Result<Written, Error>> {
    match completion {
        Some(Completion::WrittenMany(results)) => results,
        _ => vec![Err(Error::Closed { outcome: Outcome::Unknown }); count],
    }
}

fn map(completion: Option<Completion>) -> Result<Arc<ClusterMap>, Error> {
    match completion {
        Some(Completion::Map(result)) => result,
        _ => Err(Error::Closed { outcome: Outcome::NotApplied }),
    }
}

fn stats(completion: Option<Completion>) -> Result<SessionStats, Error> {
    match completion {
        Some(Completion::Stats(result)) => result,
        _ => Err(Error::Closed { outcome: Outcome::NotApplied }),
    }
}

fn status(completion: Option<Completion>) -> Result<String, Error> {
    match completion {
        Some(Completion::Status(result)) => result,
        _ => Err(Error::Closed { outcome: Outcome::NotApplied }),
    }
}
