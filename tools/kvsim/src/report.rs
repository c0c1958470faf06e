//! What is said of a run: a line, a failure with its last events, JSON.

use crate::cluster::{Cluster, KEYSPACE};
use crate::events::{nodes_in, seconds};
use crate::marks::{self, Tally};
use crate::plan::Options;
use crate::sim::Outcome;
use lincheck::Op;
use ringkv_wire::ids::ShardId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Operations told with a failure.
const OPERATIONS_TOLD: usize = 30;

/// The command line that makes a run again, without the program's name.
pub fn command(what: &str, seed: u64, options: &Options) -> String {
    let mut line = format!("{what} --seed {seed}");
    let mut number = |name: &str, n: Option<u64>| {
        if let Some(n) = n {
            let _never = write!(line, " --{name} {n}");
        }
    };
    number("nodes", options.nodes.map(|n| n as u64));
    number("shards", options.shards.map(|n| n as u64));
    number("virtual-seconds", options.seconds);
    number("clients", options.clients.map(|n| n as u64));
    number("ops", options.ops_per_s);
    if options.calm {
        line.push_str(" --calm");
    }
    if options.beyond {
        line.push_str(" --beyond");
    }
    if let Some(kinds) = &options.faults {
        let names: Vec<String> = kinds.iter().map(|kind| kind.name()).collect();
        let _never = write!(line, " --faults {}", names.join(","));
    }
    if !options.skip_faults.is_empty() {
        let _never = write!(line, " --skip-faults {}", options.skip_faults);
    }
    line
}

/// One line about a run; more when something is wrong.
pub fn line(seed: u64, options: &Options, outcome: &Outcome) -> String {
    let (asked, acknowledged) = outcome.operations;
    let mut text = format!(
        "seed {seed}: trace {:016x}, {:.1} virtual s, {} faults, {asked} operations, {acknowledged} acknowledged, {} elections, {} polls: {}",
        outcome.trace,
        outcome.virtual_ns as f64 / 1e9,
        outcome.faults.len(),
        outcome.elections,
        outcome.polls,
        if outcome.wrong.is_empty() { "ok" } else { "WRONG" },
    );
    if outcome.wrong.is_empty() {
        return text;
    }
    for what in &outcome.wrong {
        let _never = write!(text, "\n  {}", what.trim_end());
    }
    text.push_str("\n  before that:");
    for event in &outcome.events {
        let _never = write!(text, "\n    {event}");
    }
    let until = format!("{:.3}s", outcome.virtual_ns as f64 / 1e9 + 0.001);
    let _never = write!(text, "\n  again:   kvsim {}", command("run", seed, options));
    let _never = write!(text, "\n  follow:  kvsim {} --until {until} -v", command("replay", seed, options));
    let _never = write!(text, "\n  smaller: kvsim {}", command("shrink", seed, options));
    text
}

/// One operation, for people.
pub fn operation(op: &Op) -> String {
    let mut text = format!("client {} {:?} {}", op.client, op.kind, op.key).to_lowercase();
    if let Some(value) = &op.value {
        let _never = write!(text, " {value}");
    }
    if (op.kind, op.outcome, &op.value) == (lincheck::Kind::Get, lincheck::Outcome::Ok, &None) {
        text.push_str(" absent");
    }
    let took_ms = op.ret.map(|ret| (ret.saturating_sub(op.call)) as f64 / 1e6);
    match took_ms {
        Some(took_ms) => {
            let _never = write!(text, ": {:?} after {took_ms:.1} ms", op.outcome);
        }
        None => text.push_str(": no answer"),
    }
    if let Some(version) = op.version {
        let _never = write!(text, ", index {version}");
    }
    text
}

/// The last events of the nodes that `wrong` speaks of, and the last operations, in order.
pub fn last_events(cluster: &Cluster, history: &[Op], wrong: &[String]) -> Vec<String> {
    let (nodes, keys) = concerned(cluster, history, wrong);
    let mut ops: Vec<&Op> = history.iter().filter(|op| keys.is_empty() || keys.contains(op.key.as_str())).collect();
    ops.sort_by_key(|op| op.ret.unwrap_or(op.call));
    let told = &ops[ops.len().saturating_sub(OPERATIONS_TOLD)..];
    let mut lines = cluster.events.last(&nodes);
    lines.extend(told.iter().map(|op| format!("{} {}", seconds(op.ret.unwrap_or(op.call)), operation(op))));
    lines.sort();
    lines
}

/// The nodes and the keys that messages speak of: nodes by name, else those of the shards or keys named, else all.
fn concerned<'h>(cluster: &Cluster, history: &'h [Op], wrong: &[String]) -> (BTreeSet<usize>, BTreeSet<&'h str>) {
    let first: Vec<&str> = wrong.iter().filter_map(|what| what.lines().next()).collect();
    let words: BTreeSet<&str> =
        first.iter().flat_map(|what| what.split(|c: char| c.is_whitespace() || ",:;()".contains(c))).collect();
    let keys: BTreeSet<&str> = history.iter().map(|op| op.key.as_str()).filter(|key| words.contains(key)).collect();
    let mut nodes: BTreeSet<usize> = first.iter().flat_map(|what| nodes_in(what)).collect();
    if nodes.is_empty() {
        let map = &cluster.map;
        let of_key = |key: &&str| map.shard_of(KEYSPACE, key.as_bytes()).map(|shard| shard.id);
        let named = map.shards.iter().map(|shard| shard.id).filter(|id| words.contains(id.to_string().as_str()));
        let shards: BTreeSet<ShardId> = keys.iter().filter_map(of_key).chain(named).collect();
        let replicas = shards.iter().filter_map(|id| map.shard(*id)).flat_map(|shard| &shard.replicas);
        nodes = replicas.map(|store| store.node.0 as usize - 1).collect();
    }
    if nodes.is_empty() {
        nodes = (0..cluster.plan.nodes).collect();
    }
    (nodes, keys)
}

/// One run as JSON.
pub fn json(seed: u64, options: &Options, outcome: &Outcome, cpu_ns: u64) -> Value {
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    for fault in &outcome.faults {
        *faults.entry(fault.kind.name()).or_default() += 1;
    }
    json!({
        "seed": seed,
        "trace": format!("{:016x}", outcome.trace),
        "wrong": outcome.wrong,
        "events": outcome.events,
        "command": command("run", seed, options),
        "counted": marks::counts(outcome),
        "marks": marks::reached(outcome),
        "faults": faults,
        "operations": { "asked": outcome.operations.0, "acknowledged": outcome.operations.1 },
        "virtual_s": outcome.virtual_ns as f64 / 1e9,
        "cpu_ms": cpu_ns as f64 / 1e6,
    })
}

/// The end of many runs as JSON.
pub fn summary(tally: &Tally, real_s: f64) -> Value {
    let marks: BTreeMap<&str, Value> = tally
        .marks
        .iter()
        .map(|(mark, reached)| {
            let (per_1000, missing) = (tally.per_1000(reached), tally.is_missing(reached));
            let value =
                json!({ "times": reached.times, "seeds": reached.seeds, "per_1000": per_1000, "missing": missing });
            (mark.as_str(), value)
        })
        .collect();
    json!({
        "summary": true,
        "seeds": tally.seeds,
        "counted": tally.counted,
        "wrong": tally.wrong,
        "marks": marks,
        "faults": tally.faults,
        "operations": { "asked": tally.operations.0, "acknowledged": tally.operations.1 },
        "virtual_s": tally.virtual_ns as f64 / 1e9,
        "cpu_s": tally.cpu_ns as f64 / 1e9,
        "times_real": tally.times_real(),
        "real_s": real_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FaultKind;

    #[test]
    fn a_command_line_says_what_is_not_usual() {
        assert_eq!(command("run", 7, &Options::default()), "run --seed 7");
        let options = Options {
            nodes: Some(3),
            seconds: Some(10),
            clients: Some(1),
            faults: Some(vec![FaultKind::KillProcess, FaultKind::Reset]),
            skip_faults: "1,4-".parse().unwrap_or_default(),
            ..Options::default()
        };
        let line =
            "run --seed 7 --nodes 3 --virtual-seconds 10 --clients 1 --faults kill-process,reset --skip-faults 1,4-";
        assert_eq!(command("run", 7, &options), line);
    }

    #[test]
    fn what_is_said_as_json_is_json() {
        let outcome = Outcome { wrong: vec!["at 1 ms: \"quoted\"\nlines".to_owned()], ..Outcome::default() };
        let text = json(3, &Options::default(), &outcome, 1_500_000).to_string();
        let back: Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!((&back["seed"], &back["cpu_ms"]), (&json!(3), &json!(1.5)));
        assert_eq!(back["wrong"][0], "at 1 ms: \"quoted\"\nlines");
        assert_eq!(back["marks"]["flush"], 0);
        let mut tally = Tally::default();
        tally.add(3, &outcome, 2, 1);
        let back: Value = serde_json::from_str(&summary(&tally, 0.5).to_string()).unwrap_or_default();
        assert_eq!((&back["wrong"][0], &back["marks"]["flush"]["missing"]), (&json!(3), &json!(true)));
    }
}
