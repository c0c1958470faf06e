//! How the stores are.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Context;
use comfy_table::{Table, TableStyle};
use ringkv::{Client, ClusterMap, StoreId};
use ringkv_wire::ring::topology::NodeInfo;
use serde::{Deserialize, Serialize};

use crate::ClusterArgs;
use crate::calls::connect;

/// A store's own word, as its status JSON has it. Fields that are not named here are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `n1/0`.
    pub store: String,
    /// Its node.
    pub node: u32,
    /// It may vote.
    pub admitted: bool,
    /// Why its log failed, if it did.
    #[serde(default)]
    pub failed: Option<String>,
    /// Its replicas.
    pub shards: Vec<ShardStatus>,
    /// What was counted, and the rest.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// `s1.7`.
    pub shard: String,
    /// `leader`, `follower`, ..
    pub role: String,
    /// Its term.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<String>,
    /// Committed up to here.
    pub commit: u64,
    /// Applied up to here.
    pub applied: u64,
    /// Last entry of its log.
    pub last: u64,
    /// Its log begins behind this index.
    pub floor: u64,
}

impl StoreStatus {
    /// Shards that this store leads.
    pub fn led(&self) -> usize {
        self.shards.iter().filter(|shard| shard.role == "leader").count()
    }

    /// What it has counted since it was opened.
    pub fn counters(&self) -> BTreeMap<String, u64> {
        self.numbers("counters")
    }

    /// What its storage engine holds and has done since it was opened, and what follows from that.
    pub fn engine(&self) -> BTreeMap<String, String> {
        let numbers = self.numbers("engine");
        let part = |of: u64, by: u64| format!("{:.2}", of as f64 / by.max(1) as f64);
        let number = |name: &str| numbers.get(name).copied().unwrap_or_default();
        let written = number("flushed_bytes") + number("merged_bytes");
        let mut all: BTreeMap<String, String> = numbers.iter().map(|(name, n)| (name.clone(), n.to_string())).collect();
        let derived = [
            ("read amplification (sorted runs)", number("runs_max").to_string(), true),
            (
                "space amplification",
                part(number("table_bytes"), number("last_level_bytes")),
                number("last_level_bytes") > 0,
            ),
            ("write amplification", part(written, number("flushed_bytes")), number("flushed_bytes") > 0),
        ];
        all.extend(derived.into_iter().filter(|(_, _, known)| *known).map(|(name, value, _)| (name.to_owned(), value)));
        if let Some(budget) = self.more.get("memory_budget_bytes") {
            all.insert("memory_budget_bytes".to_owned(), budget.to_string());
        }
        all
    }

    fn numbers(&self, of: &str) -> BTreeMap<String, u64> {
        let counters = self.more.get(of).and_then(|counters| counters.as_object());
        let counted = |(name, n): (&String, &serde_json::Value)| Some((name.clone(), n.as_u64()?));
        counters.map_or_else(BTreeMap::new, |counters| counters.iter().filter_map(counted).collect())
    }

    /// Writes it has taken since it was opened.
    pub fn writes(&self) -> u64 {
        self.counters().get("writes").copied().unwrap_or_default()
    }
}

/// The stores of the cluster, by id.
pub fn stores(map: &ClusterMap) -> Vec<StoreId> {
    let of_node = |node: &NodeInfo| {
        let id = node.id;
        (0..node.stores.len() as u16).map(move |store| StoreId { node: id, store }).collect::<Vec<_>>()
    };
    map.nodes.iter().flat_map(of_node).collect()
}

/// Asks one store.
pub async fn ask(client: &Client, store: StoreId) -> anyhow::Result<StoreStatus> {
    let text = client.store_status(store).await?;
    serde_json::from_str(&text).with_context(|| format!("store {store} answers what is no status: {text}"))
}

/// Asks every store; those that do not answer are given with the reason.
pub async fn ask_all(client: &Client) -> anyhow::Result<Vec<(StoreId, anyhow::Result<StoreStatus>)>> {
    let map = client.map().await?;
    let asked = stores(&map).into_iter().map(|store| {
        let client = client.clone();
        (store, tokio::spawn(async move { ask(&client, store).await }))
    });
    let mut answers = Vec::new();
    for (store, answer) in asked.collect::<Vec<_>>() {
        answers.push((store, answer.await.unwrap_or_else(|lost| Err(lost.into()))));
    }
    Ok(answers)
}

/// What is shown besides the stores.
#[derive(Debug, clap::Args)]
pub struct Shown {
    /// Shows every shard too.
    #[arg(long)]
    shards: bool,
    /// Shows what each store's storage engine holds, owes and has written.
    #[arg(long)]
    engine: bool,
    /// Shows what every store has counted since it was opened.
    #[arg(long)]
    counters: bool,
}

/// `kvctl status`. Exit code 1 when a store does not answer or its log failed.
pub async fn show(args: &ClusterArgs, json: bool, what: &Shown) -> anyhow::Result<ExitCode> {
    let client = connect(args).await?;
    let answers = ask_all(&client).await?;
    let well = answers.iter().all(|(_, answer)| answer.as_ref().is_ok_and(|status| status.failed.is_none()));
    if json {
        let well: Vec<&StoreStatus> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        crate::say(serde_json::to_string_pretty(&well)?);
    } else {
        crate::say(stores_table(&answers));
        if what.shards {
            crate::say(format_args!("\n{}", shards_table(&answers)));
        }
        if what.engine {
            let table = table_of(&answers, "engine", StoreStatus::engine);
            crate::say(format_args!("\n{table}"));
        }
        if what.counters {
            crate::say(format_args!("\n{}", counters_table(&answers)));
        }
    }
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

type Answers = [(StoreId, anyhow::Result<StoreStatus>)];

fn stores_table(answers: &Answers) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(["store", "state", "shards", "leads", "writes", "behind"]);
    for (store, answer) in answers {
        match answer {
            Ok(status) => {
                let state = match (&status.failed, status.admitted) {
                    (Some(_), _) => "failed",
                    (None, true) => "serving",
                    (None, false) => "not admitted yet",
                };
                let behind: u64 = status.shards.iter().map(|shard| shard.commit.saturating_sub(shard.applied)).sum();
                let [shards, led] = [status.shards.len(), status.led()].map(|count| count.to_string());
                table.add_row([
                    store.to_string(),
                    state.into(),
                    shards,
                    led,
                    status.writes().to_string(),
                    behind.to_string(),
                ]);
            }
            Err(error) => {
                table.add_row([store.to_string(), format!("{error:#}")]);
            }
        }
    }
    table
}

fn shards_table(answers: &Answers) -> Table {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_header(["shard", "store", "role", "term", "floor", "applied", "commit", "last"]);
    let mut rows = Vec::new();
    for status in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()) {
        rows.extend(status.shards.iter().map(|shard| (shard.shard.clone(), status.store.clone(), shard)));
    }
    rows.sort_by(|a, b| natural(&a.0).cmp(&natural(&b.0)).then_with(|| a.1.cmp(&b.1)));
    for (name, store, shard) in rows {
        let numbers =
            [shard.term, shard.floor, shard.applied, shard.commit, shard.last].map(|number| number.to_string());
        table.add_row([name, store, shard.role.clone()].into_iter().chain(numbers));
    }
    table
}

fn counters_table(answers: &Answers) -> Table {
    let told = |(name, n): (String, u64)| (name, n.to_string());
    table_of(answers, "counter", |status| status.counters().into_iter().map(told).collect())
}

/// A row for each number that a store tells, a column for each store.
fn table_of(answers: &Answers, what: &str, told: impl Fn(&StoreStatus) -> BTreeMap<String, String>) -> Table {
    let stores: Vec<&StoreStatus> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    let mut table = Table::new();
    let header = std::iter::once(what.to_owned()).chain(stores.iter().map(|status| status.store.clone()));
    table.load_style(TableStyle::new()).set_header(header);
    let columns: Vec<BTreeMap<String, String>> = stores.iter().map(|status| told(status)).collect();
    let names: BTreeSet<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let row: Vec<String> = columns.iter().map(|told| told.get(name).cloned().unwrap_or_default()).collect();
        table.add_row(std::iter::once(name.clone()).chain(row));
    }
    table
}

/// `s1.10` behind `s1.9`.
pub fn natural(name: &str) -> (usize, String) {
    (name.len(), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_json_is_understood() {
        let text = r#"{"store":"n1/0","node":1,"admitted":true,"failed":null,"connections":2,"counters":{"writes":7},
            "memory_budget_bytes":1000,"engine":{"flushed_bytes":100,"merged_bytes":150,"table_bytes":180,"last_level_bytes":100},
            "shards":[{"shard":"s1.0","role":"leader","term":2,"leader":"n1/0","commit":5,"applied":5,"last":5,"floor":0},
                      {"shard":"s1.1","role":"follower","term":2,"leader":null,"commit":5,"applied":4,"last":5,"floor":0}]}"#;
        let status: StoreStatus = serde_json::from_str(text).unwrap();
        assert_eq!((status.led(), status.writes()), (1, 7));
        let answers = [(StoreId::new(1, 0), Ok(status)), (StoreId::new(2, 0), Err(anyhow::anyhow!("gone")))];
        let shown = stores_table(&answers).to_string();
        assert!(shown.contains("serving") && shown.contains("gone"), "{shown}");
        let engine = table_of(&answers, "engine", StoreStatus::engine).to_string();
        let has = |name: &str, value: &str| engine.lines().any(|line| line.contains(name) && line.contains(value));
        assert!(has("write amplification", "2.50") && has("space amplification", "1.80"), "{engine}");
        assert!(has("memory_budget", "1000"), "{engine}");
        let counted = counters_table(&answers).to_string();
        assert!(counted.lines().any(|line| line.contains("writes") && line.contains('7')), "{counted}");
    }

    #[test]
    fn shards_are_sorted_as_people_count() {
        let mut names = ["s1.10", "s1.9", "s1.0"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["s1.0", "s1.9", "s1.10"]);
    }
}
