//! ringkv, through its public client.

use bytes::Bytes;
use ringkv::{Client, Error, Outcome, SessionStats, Value, Written};

use super::{Failure, Found, Source, Target};

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
    async fn stats(&self) -> Option<SessionStats> {
        Client::stats(self).await.ok()
    }

    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        found(Client::get(self, key).await)
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        version(Client::put(self, key, value).await)
    }

    async fn delete(&self, key: Bytes) -> Result<u64, Failure> {
        version(Client::delete(self, key).await)
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> impl Iterator<Item = Result<Option<Found>, Failure>> {
        Client::get_many(self, keys).await.into_iter().map(found)
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = Result<u64, Failure>> {
        Client::put_many(self, pairs).await.into_iter().map(version)
    }
}

impl Source for ringkv::Builder {
    type Target = Client;

    async fn connect(&self) -> anyhow::Result<Client> {
        Ok(self.clone().connect().await?)
    }
}
