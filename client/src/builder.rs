//! Making a client.

use crate::client::Client;
use crate::desk::Calls;
use crate::driver;
use ringkv_session::{Ask, Call, ClientId, Completion, Error, Outcome, ReadLevel, SessionConfig};
use std::net::SocketAddr;
use std::time::Duration;

/// Settings of a client to be. See [`Client::builder`].
#[derive(Clone, Debug)]
pub struct Builder {
    seeds: Vec<String>,
    keyspace: String,
    connect_timeout: Duration,
    call_timeout: Duration,
    attempt_timeout: Duration,
    read_level: ReadLevel,
    spin: Duration,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            seeds: Vec::new(),
            keyspace: "default".into(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(1),
            read_level: ReadLevel::Linearizable,
            spin: Duration::ZERO,
        }
    }
}

impl Builder {
    /// Addresses of any nodes, `host:port`. The first to answer gives the map of the whole cluster. One is enough; more help
    /// while nodes are down.
    pub fn seeds<S: ToString>(mut self, seeds: impl IntoIterator<Item = S>) -> Builder {
        self.seeds.extend(seeds.into_iter().map(|s| s.to_string()));
        self
    }

    /// The keyspace; `default` when not said.
    pub fn keyspace(self, name: impl Into<String>) -> Builder {
        Builder { keyspace: name.into(), ..self }
    }

    /// How long [`Builder::connect`] may take to get the cluster's map; 10 s when not said.
    pub fn connect_timeout(self, timeout: Duration) -> Builder {
        Builder { connect_timeout: timeout, ..self }
    }

    /// How long a call may take; 10 s when not said.
    pub fn call_timeout(self, timeout: Duration) -> Builder {
        Builder { call_timeout: timeout, ..self }
    }

    /// How long one attempt of a call may take before another is made; 1 s when not said.
    pub fn attempt_timeout(self, timeout: Duration) -> Builder {
        Builder { attempt_timeout: timeout, ..self }
    }

    /// What reads must reflect; linearizable, by the leader's lease where it has one, when not said.
    pub fn read_level(self, level: ReadLevel) -> Builder {
        Builder { read_level: level, ..self }
    }

    /// How long the client looks for answers before it lets its thread sleep; not at all when not said. Waking a thread costs
    /// 50 to 130 us on many machines: a client with a core of its own saves that on every answer, and keeps the core busy. Of
    /// use only where a thread runs little else.
    pub fn spin(self, spin: Duration) -> Builder {
        Builder { spin, ..self }
    }

    /// Connects: resolves the seeds, gets the cluster's map, finds the keyspace. The client lives on the tokio runtime this
    /// is called on, until its last clone is dropped.
    ///
    /// # Errors
    /// [`Error::Seed`] when no seed resolves, [`Error::Deadline`] when no seed answers in time, [`Error::NoKeyspace`] when
    /// the cluster has no such keyspace.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(self) -> Result<Client, Error> {
        let mut seeds = Vec::new();
        for seed in &self.seeds {
            match tokio::net::lookup_host(seed).await {
                Ok(found) => seeds.extend(found),
                Err(error) => tracing::warn!(%seed, %error, "a seed does not resolve"),
            }
        }
        let (calls, driver) = driver::start(self.config(seeds)?, self.spin);
        tokio::spawn(driver);
        let completion = calls.submit(self.map_call()).await;
        self.finish(calls, completion)
    }

    fn config(&self, seeds: Vec<SocketAddr>) -> Result<SessionConfig, Error> {
        if seeds.is_empty() {
            return Err(Error::Seed(self.seeds.join(", ")));
        }
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        Ok(SessionConfig {
            call_timeout_ms: ms(self.call_timeout),
            attempt_timeout_ms: ms(self.attempt_timeout),
            read_level: self.read_level,
            ..SessionConfig::new(seeds, ClientId(rand::random()))
        })
    }

    fn map_call(&self) -> Call {
        let timeout_ms = u64::try_from(self.connect_timeout.as_millis()).unwrap_or(u64::MAX);
        Call { timeout_ms: Some(timeout_ms), ..Call::new(Ask::Map) }
    }

    fn finish(&self, calls: Calls, completion: Option<Completion>) -> Result<Client, Error> {
        let Some(Completion::Map(map)) = completion else { return Err(Error::Closed { outcome: Outcome::NotApplied }) };
        let map = map?;
        let Some(keyspace) = map.keyspace(&self.keyspace) else { return Err(Error::NoKeyspace(self.keyspace.clone())) };
        Ok(Client::new(calls, keyspace.id))
    }
}
