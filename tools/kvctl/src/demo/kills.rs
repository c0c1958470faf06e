//! `kvctl demo --kills N`: how long a cluster is not served in full after its busiest leader dies, many times over.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use kvbench::{Beside, BesideReport};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::cluster::Cluster;
use super::prober::Probers;
use super::story::Story;
use super::tale::{Scene, begin};
use super::{DemoArgs, write_json};

/// How long the shards may take to be served again.
const SERVED_PATIENCE: Duration = Duration::from_secs(20);
/// Rest before each kill, so that leaders are where they belong.
const REST: Duration = Duration::from_millis(500);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What came out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kills {
    nodes: u16,
    replicas: u8,
    shards: usize,
    host: String,
    /// For each kill, in order: ms until every shard had answered a write that was asked for after the kill. `null`: one had
    /// not within 20 s.
    all_served_ms: Vec<Option<f64>>,
    median_ms: f64,
    p90_ms: f64,
    max_ms: f64,
    /// Reads that were older than the write acknowledged before them.
    stale_reads: u64,
    /// Nodes that did not end in good order when asked.
    ended_badly: Vec<u32>,
    /// The machine at the same time.
    #[serde(flatten)]
    beside: BesideReport,
    seconds: f64,
}

impl Kills {
    fn is_well(&self) -> bool {
        self.all_served_ms.iter().all(Option::is_some) && self.stale_reads == 0 && self.ended_badly.is_empty()
    }

    /// Fills in median, 90th percentile (nearest rank) and maximum.
    fn sum_up(&mut self) {
        let mut sorted: Vec<f64> = self.all_served_ms.iter().copied().flatten().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
        };
        (self.median_ms, self.p90_ms, self.max_ms) = (rank(0.5), rank(0.9), rank(1.0));
    }
}

/// Kills and tells. Exit code 0 only when every shard was served again after every kill and no read was stale.
pub async fn run(mut cluster: Cluster, kills: u32, args: &DemoArgs, story: Story) -> anyhow::Result<ExitCode> {
    let dir = cluster.dir().to_owned();
    let beside = Beside::start(Some(&dir));
    let told = measure(&mut cluster, kills, args, &story).await;
    let beside = beside.stop();
    story.end();
    let mut told = match told {
        Ok(told) => told,
        Err(error) => {
            let gone = cluster.check();
            story.line(&format!("\n  The data and logs of the nodes are in {}", dir.display()));
            gone?;
            return Err(error);
        }
    };
    told.ended_badly = cluster.stop();
    told.beside = beside;
    told.seconds = story.seconds();
    story.line(&last_words(&told));
    if told.is_well() {
        let _what_cannot_be_removed_stays = std::fs::remove_dir_all(&dir);
    } else {
        story.line(&format!("  Something went wrong; the data and logs of the nodes are in {}\n", dir.display()));
    }
    write_json(args, &told)?;
    Ok(if told.is_well() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn last_words(told: &Kills) -> String {
    let ms = |us: f64| us / 1_000.0;
    let hiccup = &told.beside.hiccup_us;
    let flush = told.beside.fdatasync_us.unwrap_or_default();
    format!(
        "\n  {} kills: every shard served again after median {:.0} ms, 90% within {:.0} ms, longest {:.0} ms\n  \
         beside it: hiccups p99 {:.1} ms, max {:.1} ms; fdatasync p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms. {:.0} s in all.\n",
        told.all_served_ms.len(),
        told.median_ms,
        told.p90_ms,
        told.max_ms,
        ms(hiccup.p99),
        ms(hiccup.max),
        ms(flush.p50),
        ms(flush.p99),
        ms(flush.max),
        told.seconds,
    )
}

async fn measure(cluster: &mut Cluster, kills: u32, args: &DemoArgs, story: &Story) -> anyhow::Result<Kills> {
    let mut scene = begin(cluster, args, story).await?;
    let probers = Probers::start(&scene.client, &scene.probes);
    let mut killed = Vec::new();
    for number in 1..=kills {
        story.now(&format!("kill {number} of {kills}"));
        sleep(REST).await;
        killed.push(scene.kill_and_restart(&probers).await?);
    }
    let probed = probers.stop().await?;
    let all_served = |killed: &Instant| {
        let times = probed.values().map(|probed| probed.served_again_after(*killed));
        let longest = times.collect::<Option<Vec<_>>>()?.into_iter().max()?;
        Some((longest.as_secs_f64() * 10_000.0).round() / 10.0)
    };
    let mut told = Kills {
        nodes: scene.summary.nodes,
        replicas: scene.summary.replicas,
        shards: scene.summary.shards,
        host: scene.summary.host,
        all_served_ms: killed.iter().map(all_served).collect(),
        stale_reads: probed.values().map(|probed| probed.stale).sum(),
        ..Kills::default()
    };
    told.sum_up();
    Ok(told)
}

impl Scene<'_> {
    /// Kills the node that leads most, waits until every shard is served, starts it again and waits until it has caught up.
    async fn kill_and_restart(&mut self, probers: &Probers) -> anyhow::Result<Instant> {
        let (victim, _) = self.victim(false).await?;
        let killed = self.cluster.kill(victim.0)?;
        let shards: Vec<_> = self.probes.keys().copied().collect();
        while !probers.all_answered_since(&shards, killed) && killed.elapsed() < SERVED_PATIENCE {
            sleep(LOOK).await;
        }
        self.restart(victim.0).await?;
        Ok(killed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks_and_a_kill_without_end_is_not_well() {
        let mut told =
            Kills { all_served_ms: (1..=50).rev().map(|n| Some(f64::from(n))).collect(), ..Kills::default() };
        told.sum_up();
        assert_eq!((told.median_ms, told.p90_ms, told.max_ms), (25.0, 45.0, 50.0));
        assert!(told.is_well());
        assert!(!Kills { stale_reads: 1, ..told.clone() }.is_well());
        assert!(!Kills { ended_badly: vec![2], ..told.clone() }.is_well());
        told.all_served_ms.push(None);
        assert!(!told.is_well());
    }
}
