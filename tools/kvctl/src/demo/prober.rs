//! One caller per shard that writes and reads the same key without end: it knows how long its shard was without a leader, and it
//! notices a read that is older than its last write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use ringkv::Client;
use ringkv_wire::ids::{KeyspaceId, ShardId};
use ringkv_wire::ring::topology::ClusterMap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Rest between two probes of a shard.
const REST: Duration = Duration::from_millis(5);
/// Keys tried until every shard has one.
const KEYS_TRIED: usize = 1_000_000;

/// A key of each shard.
pub fn key_of_each_shard(map: &ClusterMap, keyspace: KeyspaceId) -> anyhow::Result<BTreeMap<ShardId, Bytes>> {
    let pool = map.keyspaces.iter().find(|known| known.id == keyspace).map(|known| known.pool);
    let wanted = map.shards.iter().filter(|shard| Some(shard.id.pool()) == pool).count();
    let mut keys = BTreeMap::new();
    for number in 0..KEYS_TRIED {
        if keys.len() == wanted {
            break;
        }
        let key = Bytes::from(format!("probe/{number}"));
        if let Some(shard) = map.shard_of(keyspace, &key) {
            keys.entry(shard.id).or_insert(key);
        }
    }
    (keys.len() == wanted && wanted > 0).then_some(keys).context("there is a shard that no key reaches")
}

/// The callers at work.
pub struct Probers {
    stop: Arc<AtomicBool>,
    latest: BTreeMap<ShardId, watch::Receiver<Option<Instant>>>,
    callers: BTreeMap<ShardId, JoinHandle<Probed>>,
}

/// What one caller saw.
#[derive(Debug, Default)]
pub struct Probed {
    /// Writes that were answered: when they were asked, when answered.
    pub answered: Vec<(Instant, Instant)>,
    /// Reads that were older than the write before them.
    pub stale: u64,
}

impl Probed {
    /// How long after `killed` the first write that was asked for since then was answered.
    pub fn served_again_after(&self, killed: Instant) -> Option<Duration> {
        let first = self.answered.iter().find(|(asked, _)| *asked >= killed);
        first.map(|(_, answered)| answered.duration_since(killed))
    }
}

impl Probers {
    /// Starts a caller for each of `keys`.
    pub fn start(client: &Client, keys: &BTreeMap<ShardId, Bytes>) -> Probers {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut latest, mut callers) = (BTreeMap::new(), BTreeMap::new());
        for (shard, key) in keys {
            let (told, seen) = watch::channel(None);
            latest.insert(*shard, seen);
            callers.insert(*shard, tokio::spawn(probe(client.clone(), key.clone(), stop.clone(), told)));
        }
        Probers { stop, latest, callers }
    }

    /// Whether each of `shards` has answered a write that was asked for after `since`.
    pub fn all_answered_since(&self, shards: &[ShardId], since: Instant) -> bool {
        let answered =
            |shard: &ShardId| self.latest.get(shard).is_some_and(|seen| seen.borrow().is_some_and(|at| at > since));
        shards.iter().all(answered)
    }

    /// Ends them.
    pub async fn stop(self) -> anyhow::Result<BTreeMap<ShardId, Probed>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for (shard, caller) in self.callers {
            all.insert(shard, caller.await.context("a prober ended by a panic")?);
        }
        Ok(all)
    }
}

async fn probe(client: Client, key: Bytes, stop: Arc<AtomicBool>, told: watch::Sender<Option<Instant>>) -> Probed {
    let mut probed = Probed::default();
    let mut round = 0u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let value = Bytes::from(round.to_string());
        let asked = Instant::now();
        if client.put(key.clone(), value.clone()).await.is_ok() {
            probed.answered.push((asked, Instant::now()));
            told.send_replace(Some(asked));
            // Nobody else writes this key: a read after the write finds exactly that write.
            if let Ok(found) = client.get(key.clone()).await {
                probed.stale += u64::from(found.is_none_or(|found| found.value != value));
            }
        }
        tokio::time::sleep(REST).await;
    }
    probed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_asked_for_before_the_kill_proves_nothing() {
        let start = Instant::now();
        let t = |ms| start + Duration::from_millis(ms);
        let probed =
            Probed { answered: vec![(t(0), t(2)), (t(8), t(11)), (t(16), t(260)), (t(265), t(266))], stale: 0 };
        assert_eq!(probed.served_again_after(t(10)), Some(Duration::from_millis(250)));
        assert_eq!(probed.served_again_after(t(300)), None);
    }
}
