//! The steps of the demo, one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use kvbench::{Distribution, Kind, Phase, Surroundings, Workload};
use ringkv::{Client, NodeId, ShardId, StoreId};
use tokio::time::sleep;

use super::DemoArgs;
use super::cluster::Cluster;
use super::input::Input;
use super::prober::{Probers, key_of_each_shard};
use super::story::Story;
use super::summary::{Leaderless, Summary};
use super::writers::{CALLERS, Writers, check};
use crate::status::{self, StoreStatus};

/// How long the nodes may take to find their leaders, or again after the kill.
const LEADERS_PATIENCE: Duration = Duration::from_secs(20);
/// How long the restarted node may take to catch up.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(20);
/// Writes before the kill, and after all shards are served again.
const WRITES: Duration = Duration::from_millis(1_500);
/// How long the bench runs, each phase.
const BENCH_SECONDS: f64 = 2.0;
/// Keys of the bench.
const BENCH_KEYS: u64 = 20_000;
/// Keys in one call where many are asked for.
const BATCH: usize = 64;
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Everything that a step needs.
pub(super) struct Scene<'a> {
    pub cluster: &'a mut Cluster,
    pub client: Client,
    pub probes: BTreeMap<ShardId, Bytes>,
    pub story: &'a Story,
    pub summary: Summary,
}

/// Plays the demo on nodes that were just started.
pub async fn tell(cluster: &mut Cluster, input: &Input, args: &DemoArgs, story: &Story) -> anyhow::Result<Summary> {
    let mut scene = begin(cluster, args, story).await?;
    scene.load(input).await?;
    scene.measure().await?;
    let written = scene.kill(args.replicas > 3).await?;
    scene.verify(input, written).await?;
    scene.heal().await?;
    Ok(scene.summary)
}

/// Waits for the map and for a leader of every shard.
pub(super) async fn begin<'a>(
    cluster: &'a mut Cluster,
    args: &DemoArgs,
    story: &'a Story,
) -> anyhow::Result<Scene<'a>> {
    story.line(&format!("\n  ringkv: {} nodes on this machine, each shard on {} of them\n", args.nodes, args.replicas));
    story.now("waiting for leaders");
    let started = Instant::now();
    let client = Client::builder().seeds(cluster.seeds()).connect_timeout(LEADERS_PATIENCE).connect().await;
    let client = client.context("the nodes do not answer")?;
    let map = client.map().await?;
    let keyspace = map.keyspace("default").context("there is no keyspace `default`")?.id;
    let probes = key_of_each_shard(&map, keyspace)?;
    let first_write: Vec<_> = probes.values().map(|key| (key.clone(), Bytes::from_static(b"0"))).collect();
    for answer in client.put_many(first_write).await {
        cluster.check()?;
        answer.context("a shard has no leader")?;
    }
    let seeds = cluster.seeds();
    let ports = seeds.first().map(|first| first.port()).zip(seeds.last().map(|last| last.port() + 1));
    let (first, last) = ports.unwrap_or_default();
    let summary = Summary {
        nodes: args.nodes,
        replicas: args.replicas,
        shards: probes.len(),
        host: cluster.host(),
        ..Summary::default()
    };
    let took = started.elapsed().as_secs_f64();
    let what = format!(
        "ports {first}-{last}, host {}; all {} shards have a leader after {took:.1} s",
        summary.host, summary.shards
    );
    story.done("started", &what);
    Ok(Scene { cluster, client, probes, story, summary })
}

impl Scene<'_> {
    /// Writes the input, reads it back, compares.
    async fn load(&mut self, input: &Input) -> anyhow::Result<()> {
        self.story.now("loading");
        let started = Instant::now();
        for chunk in input.pairs.chunks(BATCH) {
            for answer in self.client.put_many(chunk.to_vec()).await {
                answer.context("loading the input")?;
            }
        }
        self.client.put("key", "10").await.context("writing key=10")?;
        let (count, took) = (input.pairs.len(), started.elapsed().as_secs_f64());
        let keys = kvbench::thousands(count as f64);
        self.story.done("loaded", &format!("{keys} keys in {took:.1} s: {}; and key=10", input.title));
        self.summary.input_keys = count as u64;

        self.story.now("reading back");
        let started = Instant::now();
        let checked = check(&self.client, &input.pairs).await?;
        self.summary.input_wrong = checked.wrong();
        let took = started.elapsed().as_secs_f64();
        if checked.wrong() > 0 {
            self.story.wrong(
                "read back",
                &format!("{} of {keys} keys are not what was written: {checked:?}", checked.wrong()),
            );
        } else if input.is_licence && self.is_whole(input).await {
            let what =
                format!("all {keys} in {took:.1} s; its lines, put together again, are the licence letter for letter");
            self.story.done("read back", &what);
        } else {
            self.story.done("read back", &format!("all {keys} in {took:.1} s, each equal to what was written"));
        }
        Ok(())
    }

    async fn is_whole(&self, input: &Input) -> bool {
        let names = input.pairs.iter().map(|(key, _)| key).filter(|key| key.starts_with(b"line/"));
        let lines = self.client.get_many(names).await;
        let lines: Vec<Bytes> =
            lines.into_iter().filter_map(|line| line.ok().flatten()).map(|value| value.value).collect();
        Input::is_whole(lines.iter().map(|line| line.as_ref()))
    }

    /// Runs the bench for a moment.
    async fn measure(&mut self) -> anyhow::Result<()> {
        self.story.now("measuring");
        let phase = |kind, keys| Phase { kind, keys, seconds: Some(BENCH_SECONDS) };
        let load = Workload {
            keys: BENCH_KEYS,
            prefix: "bench/".to_owned(),
            value_bytes: 100,
            batch: BATCH,
            tasks: 16,
            distribution: Some(Distribution::Zipfian { theta: 0.99 }),
            phases: vec![phase(Kind::Load, BENCH_KEYS)],
            ..Workload::default()
        };
        let surroundings = Surroundings { probe_dir: Some(self.cluster.dir().to_owned()), ..Surroundings::default() };
        let clients = std::slice::from_ref(&self.client);
        let loaded = kvbench::run(clients, &load, &surroundings, None).await?;
        // A slow machine has not loaded all of them in time; what was not loaded is not asked for.
        let keys = loaded.phases.iter().map(|phase| phase.keys).sum::<u64>().max(1);
        let phases = vec![phase(Kind::Put, u64::MAX / 2), phase(Kind::Get, u64::MAX / 2)];
        let mut report = kvbench::run(clients, &Workload { keys, phases, ..load }, &surroundings, None).await?;
        report.phases.splice(0..0, loaded.phases);
        let unloaded = report.phases.first().is_some_and(|load| load.errors.total() > 0);
        let foreign: u64 = report.phases.iter().map(|phase| phase.errors.wrong).sum();
        let absent: u64 = report.phases.iter().map(|phase| phase.errors.absent).sum();
        self.summary.bench_wrong = if unloaded { foreign } else { foreign + absent };
        let record = |text: String| serde_json::Value::from(text);
        report.conditions.more.extend([
            (
                "servers".to_owned(),
                record(format!("{} nodes on the same CPUs, not pinned, spin 0", self.summary.nodes)),
            ),
            ("host".to_owned(), record(self.summary.host.clone())),
            ("shards".to_owned(), record(self.summary.shards.to_string())),
        ]);
        self.story.done(
            "measured",
            &format!("calls of {BATCH} keys, 100-byte values, all nodes and the client on one machine:"),
        );
        self.story.more(&report.to_string());
        self.summary.bench = Some(report);
        Ok(())
    }

    /// Kills a leader in the middle of writes; waits until its shards are served again.
    async fn kill(&mut self, of_the_key: bool) -> anyhow::Result<super::writers::Written> {
        self.story.now("writing");
        let probers = Probers::start(&self.client, &self.probes);
        let writers = Writers::start(&self.client);
        let started = Instant::now();
        sleep(WRITES).await;
        let (victim, led) = self.victim(of_the_key).await?;
        let rate = writers.acknowledged() as f64 / started.elapsed().as_secs_f64();
        let killed = self.cluster.kill(victim.0)?;
        let what = format!(
            "node {} with SIGKILL, leader of {} of {} shards, while {CALLERS} callers wrote {} keys/s",
            victim.0,
            led.len(),
            self.summary.shards,
            kvbench::thousands(rate),
        );
        self.story.done("killed", &what);
        self.story.now("waiting for new leaders");
        while !probers.all_answered_since(&led, killed) && killed.elapsed() < LEADERS_PATIENCE {
            sleep(LOOK).await;
        }
        let ten = self.client.get("key").await.context("reading `key` after the kill")?;
        self.summary.key = ten.map(|value| String::from_utf8_lossy(&value.value).into_owned());
        sleep(WRITES).await;
        let written = writers.stop().await?;
        let probed = probers.stop().await?;
        self.summary.killed_node = victim.0;
        self.summary.stale_reads = probed.values().map(|probed| probed.stale).sum();
        let times = led.iter().map(|shard| {
            let time = probed.get(shard).and_then(|probed| probed.served_again_after(killed));
            (shard.to_string(), time)
        });
        self.summary.leaderless_ms = Leaderless::new(times);
        self.tell_leaderless();
        Ok(written)
    }

    fn tell_leaderless(&self) {
        let leaderless = &self.summary.leaderless_ms;
        let times = format!("median {:.0} ms, longest {:.0} ms", leaderless.median, leaderless.max);
        let ten = self.summary.key.as_deref().unwrap_or("nothing");
        if leaderless.never.is_empty() {
            self.story.done(
                "taken over",
                &format!("its shards were without a leader for a {times}; `key` still holds {ten}"),
            );
        } else {
            self.story.wrong("taken over", &format!("{} shards found no new leader", leaderless.never.len()));
        }
        let mut shards: Vec<(&String, &f64)> = leaderless.shards.iter().collect();
        shards.sort_by_key(|(shard, _)| status::natural(shard));
        for (shard, ms) in shards {
            let width = (ms / leaderless.max.max(1.0) * 30.0).round() as usize;
            self.story.more(&format!("{shard:<6} {} {ms:.0} ms", "\u{2588}".repeat(width.max(1))));
        }
    }

    /// The node to kill and the shards it leads: the one that leads most (of these the one that took most writes), or the one
    /// that leads the shard of `key`.
    pub(super) async fn victim(&self, of_the_key: bool) -> anyhow::Result<(NodeId, Vec<ShardId>)> {
        let statuses = self.statuses().await?;
        let map = self.client.map().await?;
        let keyspace = map.keyspace("default").context("there is no keyspace `default`")?.id;
        let of_key = map.shard_of(keyspace, b"key").map(|shard| shard.id.to_string());
        let leads_key = |status: &StoreStatus| {
            status.shards.iter().any(|shard| shard.role == "leader" && Some(&shard.shard) == of_key.as_ref())
        };
        let candidates = statuses.values().filter(|status| !of_the_key || leads_key(status));
        let victim = candidates.max_by_key(|status| (status.led(), status.writes())).context("nobody leads")?;
        let leads = |id: &ShardId| {
            let name = id.to_string();
            victim.shards.iter().any(|shard| shard.role == "leader" && shard.shard == name)
        };
        Ok((NodeId(victim.node), self.probes.keys().copied().filter(leads).collect()))
    }

    async fn statuses(&self) -> anyhow::Result<BTreeMap<StoreId, StoreStatus>> {
        let mut statuses = BTreeMap::new();
        for (store, answer) in status::ask_all(&self.client).await? {
            statuses.insert(store, answer.with_context(|| format!("asking store {store} how it is"))?);
        }
        Ok(statuses)
    }

    /// Reads every key whose write was acknowledged; looks what became of the others.
    async fn verify(&mut self, input: &Input, written: super::writers::Written) -> anyhow::Result<()> {
        self.story.now("verifying");
        let started = Instant::now();
        let of_input = check(&self.client, &input.pairs).await?;
        let of_writes = check(&self.client, &written.acknowledged).await?;
        let of_unknown = check(&self.client, &written.unknown).await?;
        let of_refused = check(&self.client, &written.refused).await?;
        self.summary.acknowledged = (input.pairs.len() + written.acknowledged.len()) as u64 + 1; // key=10 is one of them
        self.summary.lost = of_input.wrong() + of_writes.wrong() + u64::from(self.summary.key.as_deref() != Some("10"));
        self.summary.unknown = written.unknown.len() as u64;
        self.summary.risen = of_refused.right + of_refused.different;
        let acknowledged = kvbench::thousands(self.summary.acknowledged as f64);
        let took = started.elapsed().as_secs_f64();
        let others = match (written.unknown.len(), written.refused.len()) {
            (0, 0) => "every write got its answer".to_owned(),
            (unknown, refused) => {
                format!("{unknown} ended unknown ({} of them are there), {refused} were refused", of_unknown.right)
            }
        };
        if self.summary.lost == 0 {
            self.story
                .done("verified", &format!("{acknowledged} acknowledged keys in {took:.1} s: none lost; {others}"));
        } else {
            let what = format!(
                "{} of {acknowledged} acknowledged keys are LOST: input {of_input:?}, writes {of_writes:?}",
                self.summary.lost
            );
            self.story.wrong("verified", &what);
        }
        if self.summary.stale_reads > 0 {
            self.story.wrong(
                "verified",
                &format!("{} reads were older than the write before them", self.summary.stale_reads),
            );
        }
        Ok(())
    }

    async fn heal(&mut self) -> anyhow::Result<()> {
        self.story.now("restarting the node");
        let victim = self.summary.killed_node;
        let took = self.restart(victim).await?;
        self.summary.caught_up_ms = (took.as_secs_f64() * 10_000.0).round() / 10.0;
        self.story.done("restarted", &format!("node {victim} has caught up after {:.1} s", took.as_secs_f64()));
        Ok(())
    }

    /// Starts a killed node again and waits until it has applied what the others have committed; gives how long that took.
    pub(super) async fn restart(&mut self, victim: u32) -> anyhow::Result<Duration> {
        let restarted = Instant::now();
        self.cluster.launch(victim)?;
        loop {
            self.cluster.check()?;
            match self.behind(victim).await {
                Ok(0) => return Ok(restarted.elapsed()),
                behind if restarted.elapsed() > CATCH_UP_PATIENCE => {
                    bail!(
                        "node {victim} has not caught up after {CATCH_UP_PATIENCE:?}: {behind:?} entries are missing"
                    );
                }
                _ => sleep(LOOK).await,
            }
        }
    }

    /// Entries committed anywhere that `node` has not applied.
    async fn behind(&self, node: u32) -> anyhow::Result<u64> {
        let statuses = self.statuses().await?;
        let mut behind = 0;
        for own in statuses.values().filter(|status| status.node == node) {
            for shard in &own.shards {
                let others =
                    statuses.values().flat_map(|status| &status.shards).filter(|other| other.shard == shard.shard);
                let committed = others.map(|other| other.commit).max().unwrap_or_default();
                behind += committed.saturating_sub(shard.applied);
            }
        }
        Ok(behind)
    }
}
