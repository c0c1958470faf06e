//! What a session has counted.

/// Where the time of answered keys went: sums over keys. Each key of a request counts with the request's whole time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Keys answered.
    pub keys: u64,
    /// From their call to the request that asked for them, ns. Of keys asked for again, up to the last request.
    pub queued_ns: u64,
    /// From that request to its answer, ns.
    pub away_ns: u64,
    /// The part of it in which the store had the request, by the store's own word, ns.
    pub store_ns: u64,
}

impl Stages {
    /// What came since `before`.
    pub fn since(self, before: Stages) -> Stages {
        Stages {
            keys: self.keys - before.keys,
            queued_ns: self.queued_ns - before.queued_ns,
            away_ns: self.away_ns - before.away_ns,
            store_ns: self.store_ns - before.store_ns,
        }
    }
}

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
    /// Where the time went.
    pub stages: Stages,
}

impl SessionStats {
    /// Each counter with its name.
    pub fn named(&self) -> [(&'static str, u64); 6] {
        let SessionStats { redirects, retries, lost, late_answers, unknown, map_refetches, stages: _ } = *self;
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
