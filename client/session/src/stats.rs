//! What a session has counted.

/// Counted since the session was made. All only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Requests answered by a store that does not lead the shard. Some with every change of leaders.
    pub redirects: u64,
    /// Operations sent once more, whatever the reason. Many: the cluster is overloaded, or loses its leaders.
    pub retries: u64,
    /// Requests that came to nothing: a lost connection or no answer in time.
    pub lost: u64,
    /// Writes of which their caller was told that the outcome is unknown.
    pub unknown: u64,
    /// Maps asked for beyond the first.
    pub map_refetches: u64,
}

impl SessionStats {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 5] {
        let SessionStats { redirects, retries, lost, unknown, map_refetches } = *self;
        [
            ("client_redirects", redirects),
            ("client_retries", retries),
            ("client_lost", lost),
            ("client_unknown", unknown),
            ("client_map_refetches", map_refetches),
        ]
    }
}
