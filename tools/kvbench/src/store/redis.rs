//! Redis and what speaks its protocol, one server. Calls of one client go through one connection and travel together, as those of
//! ringkv's client do; a batch is one MGET or MSET.

use std::collections::BTreeMap;
use std::iter::repeat_n;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, cmd};

use super::{Failure, Found, Source, Target};

/// Commands that may wait for the connection; with the default of 50 many callers would queue before it.
const QUEUED: usize = 4_096;
/// Bytes gathered before they are written.
const GATHERED_BYTES: usize = 256 << 10;
/// Settings that a figure means nothing without.
const SETTINGS: [&str; 5] = ["appendonly", "appendfsync", "save", "io-threads", "maxmemory"];

/// A client of Redis.
#[derive(Clone)]
pub struct Redis {
    connection: MultiplexedConnection,
}

/// What a write that failed came to: what the server refuses is not done, what is lost on the way is not known.
fn failure(error: &RedisError) -> Failure {
    tracing::info!(%error, "a call failed");
    if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
        Failure::Unknown
    } else {
        Failure::NotApplied
    }
}

fn found(value: Option<Bytes>) -> Option<Found> {
    value.map(|bytes| Found { bytes, version: 0 })
}

impl Target for Redis {
    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        let mut connection = self.connection.clone();
        let value = cmd("GET").arg(key.as_ref()).query_async(&mut connection).await;
        value.map(found).map_err(|error| read_failed(&error))
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        let mut connection = self.connection.clone();
        let set = cmd("SET").arg(key.as_ref()).arg(value.as_ref()).exec_async(&mut connection).await;
        set.map(|()| 0).map_err(|error| failure(&error))
    }

    async fn delete(&self, key: Bytes) -> Result<u64, Failure> {
        let mut connection = self.connection.clone();
        let deleted = cmd("DEL").arg(key.as_ref()).exec_async(&mut connection).await;
        deleted.map(|()| 0).map_err(|error| failure(&error))
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> impl Iterator<Item = Result<Option<Found>, Failure>> {
        let mut connection = self.connection.clone();
        let mut get = cmd("MGET");
        for key in &keys {
            get.arg(key.as_ref());
        }
        let values: Result<Vec<Option<Bytes>>, _> = get.query_async(&mut connection).await;
        let (values, failed) = match values {
            Ok(values) => (values, 0),
            Err(error) => {
                read_failed(&error);
                (Vec::new(), keys.len())
            }
        };
        values.into_iter().map(|value| Ok(found(value))).chain(repeat_n(Err(Failure::NotApplied), failed))
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = Result<u64, Failure>> {
        let mut connection = self.connection.clone();
        let mut set = cmd("MSET");
        for (key, value) in &pairs {
            set.arg(key.as_ref()).arg(value.as_ref());
        }
        let set = set.exec_async(&mut connection).await;
        repeat_n(set.map(|()| 0).map_err(|error| failure(&error)), pairs.len())
    }
}

fn read_failed(error: &RedisError) -> Failure {
    tracing::info!(%error, "a read failed");
    Failure::NotApplied
}

/// Connects to one server.
#[derive(Clone)]
pub struct RedisSource {
    client: redis::Client,
    timeout: Duration,
}

impl RedisSource {
    /// `redis://HOST:PORT`, or whatever else the crate `redis` takes.
    ///
    /// # Errors
    /// When it is no such address.
    pub fn new(url: &str, timeout: Duration) -> anyhow::Result<RedisSource> {
        let client = redis::Client::open(url).with_context(|| format!("no address of a Redis server: {url}"))?;
        Ok(RedisSource { client, timeout })
    }

    /// What the server says of itself: its version, and the settings that decide what a figure means.
    ///
    /// # Errors
    /// When it cannot be reached. A setting that it does not tell is left out.
    pub async fn survey(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut connection = self.connect().await?.connection;
        let info: String = cmd("INFO").arg("server").query_async(&mut connection).await.context("asking for INFO")?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("unknown");
        let mut told = BTreeMap::from([("redis".to_owned(), version.trim().to_owned())]);
        for setting in SETTINGS {
            let pair = cmd("CONFIG").arg("GET").arg(setting).query_async::<Vec<String>>(&mut connection).await;
            if let Ok([name, value]) = pair.as_deref() {
                told.insert(format!("redis {name}"), value.clone());
            }
        }
        Ok(told)
    }
}

impl Source for RedisSource {
    type Target = Redis;

    async fn connect(&self) -> anyhow::Result<Redis> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout))
            .set_pipeline_buffer_size(QUEUED)
            .set_write_backpressure_boundary(GATHERED_BYTES);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Redis { connection: connection.context("connecting to Redis")? })
    }
}
