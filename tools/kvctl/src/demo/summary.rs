//! What came out: JSON for machines, a last word for people.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The outcome of a demo.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Nodes started.
    pub nodes: u16,
    /// Replicas of each shard.
    pub replicas: u8,
    /// Shards.
    pub shards: usize,
    /// The host that the nodes chose.
    pub host: String,
    /// Keys of the input, and those that did not read back equal before anything was killed.
    pub input_keys: u64,
    /// See `input_keys`.
    pub input_wrong: u64,
    /// Keys whose write was acknowledged: the input's, and those written around the kill.
    pub acknowledged: u64,
    /// Of these, keys that were absent, different or unreadable at the end.
    pub lost: u64,
    /// Writes whose outcome the client could not tell.
    pub unknown: u64,
    /// Writes that were refused, and are there nevertheless.
    pub risen: u64,
    /// Reads that were older than the write acknowledged before them.
    pub stale_reads: u64,
    /// The node that was killed.
    pub killed_node: u32,
    /// How long the shards that it led were without a leader.
    pub leaderless_ms: Leaderless,
    /// What `key` held after its leader was killed; it must be 10.
    pub key: Option<String>,
    /// From the restart of the killed node until it had applied all that was committed.
    pub caught_up_ms: f64,
    /// Nodes that did not end in good order when asked.
    pub ended_badly: Vec<u32>,
    /// Keys that the bench had loaded and that it found absent, or with another key's value.
    pub bench_wrong: u64,
    /// Keys a second and latencies, measured briefly.
    pub bench: Option<kvbench::Report>,
    /// The whole demo.
    pub seconds: f64,
}

/// Milliseconds from the kill until a write was served again.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Leaderless {
    /// Half of the shards were faster.
    pub median: f64,
    /// The slowest.
    pub max: f64,
    /// Each of them.
    pub shards: BTreeMap<String, f64>,
    /// Shards that were not served again while the demo waited.
    pub never: Vec<String>,
}

impl Leaderless {
    /// From the times of each shard; `None` for one that was not served again.
    pub fn new(times: impl IntoIterator<Item = (String, Option<Duration>)>) -> Leaderless {
        let mut leaderless = Leaderless::default();
        for (shard, time) in times {
            match time {
                Some(time) => {
                    leaderless.shards.insert(shard, (time.as_secs_f64() * 10_000.0).round() / 10.0);
                }
                None => leaderless.never.push(shard),
            }
        }
        let mut sorted: Vec<f64> = leaderless.shards.values().copied().collect();
        sorted.sort_by(f64::total_cmp);
        leaderless.median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        leaderless.max = sorted.last().copied().unwrap_or_default();
        leaderless
    }
}

impl Summary {
    /// Whether nothing was lost and everything healed.
    pub fn is_well(&self) -> bool {
        let nothing_wrong = self.counted().iter().all(|(count, _)| *count == 0);
        let healed = self.leaderless_ms.never.is_empty() && self.ended_badly.is_empty();
        nothing_wrong && healed && self.key.as_deref() == Some("10")
    }

    /// What must be zero, with the words for it.
    fn counted(&self) -> [(u64, &'static str); 5] {
        [
            (self.lost, "acknowledged keys were LOST"),
            (self.input_wrong, "keys did not read back as they were written"),
            (self.bench_wrong, "keys of the bench were absent or foreign"),
            (self.risen, "refused writes took effect"),
            (self.stale_reads, "reads were stale"),
        ]
    }

    /// The last word.
    pub fn last_words(&self) -> String {
        let seconds = self.seconds;
        if self.is_well() {
            let acknowledged = kvbench::thousands(self.acknowledged as f64);
            return format!("  {acknowledged} keys acknowledged, none lost. {seconds:.1} s in all.");
        }
        let mut wrong = Vec::new();
        wrong.extend(
            self.counted().iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        if !self.leaderless_ms.never.is_empty() {
            wrong.push(format!("no new leader for {}", self.leaderless_ms.never.join(", ")));
        }
        if self.key.as_deref() != Some("10") {
            wrong.push(format!("`key` holds {:?} instead of 10", self.key));
        }
        if !self.ended_badly.is_empty() {
            wrong.push(format!("nodes {:?} did not end in good order", self.ended_badly));
        }
        format!("  Something went wrong: {}. {seconds:.1} s in all.", wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Summary {
        Summary { acknowledged: 1_234, key: Some("10".into()), ..Summary::default() }
    }

    #[test]
    fn only_a_flawless_run_is_well() {
        assert!(well().is_well());
        assert!(well().last_words().contains("1,234 keys acknowledged, none lost"));
        let flaws = [
            Summary { lost: 1, ..well() },
            Summary { input_wrong: 1, ..well() },
            Summary { bench_wrong: 1, ..well() },
            Summary { risen: 1, ..well() },
            Summary { stale_reads: 1, ..well() },
            Summary { key: Some("9".into()), ..well() },
            Summary { key: None, ..well() },
            Summary { ended_badly: vec![2], ..well() },
            Summary { leaderless_ms: Leaderless { never: vec!["s1.0".into()], ..Leaderless::default() }, ..well() },
        ];
        for flaw in flaws {
            assert!(!flaw.is_well(), "{flaw:?}");
            assert!(flaw.last_words().contains("went wrong"), "{flaw:?}");
        }
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let times = [("s1.0", Some(200)), ("s1.1", Some(300)), ("s1.2", Some(250)), ("s1.3", None)];
        let times = times.map(|(shard, ms)| (shard.to_owned(), ms.map(Duration::from_millis)));
        let summary = Summary { leaderless_ms: Leaderless::new(times), ..well() };
        let json = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["acknowledged"], 1_234);
        assert_eq!(json["lost"], 0);
        assert_eq!(json["leaderless_ms"]["median"], 250.0);
        assert_eq!(json["leaderless_ms"]["max"], 300.0);
        assert_eq!(json["leaderless_ms"]["never"][0], "s1.3");
    }
}
