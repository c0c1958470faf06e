//! What waits in a session: each is bounded.

use crate::session::Session;

/// What waits in a session, between two turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Calls that are not done.
    pub calls: usize,
    /// Bytes of their keys and values: at most `held_bytes_max`.
    pub bytes: usize,
    /// Keys of them that have no result yet.
    pub waiting_keys: usize,
    /// Keys in queues: those that wait and are not on their way, and those of ended calls until the next sweep.
    pub queued_keys: usize,
    /// Connections: one per store, and a few to seeds.
    pub conns: usize,
    /// Requests on their way over the busiest connection: at most `window_requests` for keys, and those for map and status.
    pub requests: usize,
    /// Their bytes: at most `window_bytes`, and one request.
    pub request_bytes: usize,
}

impl Session {
    /// What waits. It costs a look at each call and connection.
    pub fn held(&self) -> Held {
        let (calls, waiting_keys) = self.waiting();
        let fullest = |of: fn(&crate::conns::Conn) -> usize| self.links().map(of).max().unwrap_or(0);
        Held {
            calls,
            bytes: self.held_bytes(),
            waiting_keys,
            queued_keys: self.queued_keys(),
            conns: self.links().count(),
            requests: fullest(|conn| conn.requests),
            request_bytes: fullest(|conn| conn.bytes),
        }
    }
}
