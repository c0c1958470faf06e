//! What a session is told when it is made.

use ringkv_wire::ids::ClientId;
use ringkv_wire::msg::client::ReadLevel;
use std::net::SocketAddr;

/// What a session is told when it is made.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Any stores' or nodes' addresses: the first to answer gives the cluster map.
    pub seeds: Vec<SocketAddr>,
    /// 128 random bits, fresh for each session: they name it in the stores' tables.
    pub client: ClientId,
    /// How long a call may take when it does not say, ms.
    pub call_timeout_ms: u64,
    /// How long one attempt or one connect may take before another is made, ms.
    pub attempt_timeout_ms: u64,
    /// Requests in flight on one connection, 1..=64.
    pub window_requests: usize,
    /// Bytes of requests in flight on one connection. One request is always let through.
    pub window_bytes: usize,
    /// Bytes of keys and values in calls that are not done; beyond it a call is refused at once.
    pub held_bytes_max: usize,
    /// Retries per second in the long run, for all shards together; redirects by a leader's hint are free.
    pub retries_per_s: u32,
    /// What reads must reflect when they do not say.
    pub read_level: ReadLevel,
}

impl SessionConfig {
    /// The usual settings.
    pub fn new(seeds: Vec<SocketAddr>, client: ClientId) -> SessionConfig {
        SessionConfig {
            seeds,
            client,
            call_timeout_ms: 10_000,
            attempt_timeout_ms: 1_000,
            window_requests: 64,
            window_bytes: 16 << 20,
            held_bytes_max: 256 << 20,
            retries_per_s: 500,
            read_level: ReadLevel::Linearizable,
        }
    }
}
