//! What is measured: anything that gets and puts. In earnest it is the client; tests measure a map in memory.

use std::future::Future;

use bytes::Bytes;
use ringkv::{Client, Error, Outcome, Value, Written};

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

/// A store as the bench sees it.
pub trait Target: Clone + Send + Sync + 'static {
    /// The value of a key, `None` when absent.
    fn get(&self, key: Bytes) -> impl Future<Output = Result<Option<Found>, Failure>> + Send;
    /// Sets a key; gives the version.
    fn put(&self, key: Bytes, value: Bytes) -> impl Future<Output = Result<u64, Failure>> + Send;
    /// Removes a key, whether it is there or not; gives the version.
    fn delete(&self, key: Bytes) -> impl Future<Output = Result<u64, Failure>> + Send;
    /// The values of many keys, in their order.
    fn get_many(&self, keys: Vec<Bytes>) -> impl Future<Output = Vec<Result<Option<Found>, Failure>>> + Send;
    /// Sets many keys; gives their versions, in their order.
    fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Future<Output = Vec<Result<u64, Failure>>> + Send;
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        tracing::info!(%error, "a call failed");
        match error.outcome() {
            Outcome::NotApplied => Failure::NotApplied,
            Outcome::Applied => Failure::Applied,
            Outcome::Unknown => Failure::Unknown,
        }
    }
}

fn found(answer: Result<Option<Value>, Error>) -> Result<Option<Found>, Failure> {
    let value = answer.map_err(|error| Failure::from(&error))?;
    Ok(value.map(|value| Found { bytes: value.value, version: value.version }))
}

fn version(answer: Result<Written, Error>) -> Result<u64, Failure> {
    answer.map(|written| written.version).map_err(|error| Failure::from(&error))
}

impl Target for Client {
    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        found(Client::get(self, key).await)
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        version(Client::put(self, key, value).await)
    }

    async fn delete(&self, key: Bytes) -> Result<u64, Failure> {
        version(Client::delete(self, key).await)
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> Vec<Result<Option<Found>, Failure>> {
        Client::get_many(self, keys).await.into_iter().map(found).collect()
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> Vec<Result<u64, Failure>> {
        Client::put_many(self, pairs).await.into_iter().map(version).collect()
    }
}
