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
    /// Answers to requests that were given up before: ignored. Many: the attempts' timeout is too short for the network.
    pub late_answers: u64,
    /// Writes of which their caller was told that the outcome is unknown.
    pub unknown: u64,
    /// Maps asked for beyond the first.
    pub map_refetches: u64,
}

impl SessionStats {
    /// Each with its name.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        let SessionStats { redirects, retries, lost, late_answers, unknown, map_refetches } = *self;
        [
            ("client_redirects", redirects),
            ("client_retries", retries),
            ("client_lost", lost),
            ("client_late_answers", late_answers),
            ("client_unknown", unknown),
            ("client_map_refetches", map_refetches),
        ]
    }
}
