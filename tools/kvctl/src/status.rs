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
        let counters = self.more.get("counters").and_then(|counters| counters.as_object());
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

/// `kvctl status`. Exit code 1 when a store does not answer or its log failed.
pub async fn show(args: &ClusterArgs, json: bool, every_shard: bool, counters: bool) -> anyhow::Result<ExitCode> {
    let client = connect(args).await?;
    let answers = ask_all(&client).await?;
    let well = answers.iter().all(|(_, answer)| answer.as_ref().is_ok_and(|status| status.failed.is_none()));
    if json {
        let well: Vec<&StoreStatus> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
        crate::say(serde_json::to_string_pretty(&well)?);
    } else {
        crate::say(stores_table(&answers));
        if every_shard {
            crate::say(format_args!("\n{}", shards_table(&answers)));
        }
        if counters {
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

/// A row for each counter, a column for each store.
fn counters_table(answers: &Answers) -> Table {
    let stores: Vec<&StoreStatus> = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    let mut table = Table::new();
    let header = std::iter::once("counter".to_owned()).chain(stores.iter().map(|status| status.store.clone()));
    table.load_style(TableStyle::new()).set_header(header);
    let names: BTreeSet<String> = stores.iter().flat_map(|status| status.counters().into_keys()).collect();
    for name in names {
        let counted = |status: &&StoreStatus| status.counters().get(&name).map_or_else(String::new, u64::to_string);
        let row: Vec<String> = stores.iter().map(counted).collect();
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
            "shards":[{"shard":"s1.0","role":"leader","term":2,"leader":"n1/0","commit":5,"applied":5,"last":5,"floor":0},
                      {"shard":"s1.1","role":"follower","term":2,"leader":null,"commit":5,"applied":4,"last":5,"floor":0}]}"#;
        let status: StoreStatus = serde_json::from_str(text).unwrap();
        assert_eq!((status.led(), status.writes()), (1, 7));
        let answers = [(StoreId::new(1, 0), Ok(status)), (StoreId::new(2, 0), Err(anyhow::anyhow!("gone")))];
        let shown = stores_table(&answers).to_string();
        assert!(shown.contains("serving") && shown.contains("gone"), "{shown}");
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
