//! What is wrong with a tree, what would be lost, and whether it may be.

use bytes::Bytes;
use ringkv_storage::error::StorageError;
use ringkv_storage::manifest::Bounds;
use ringkv_storage::tree::Flushed;
use ringkv_wire::ids::{KeyspaceId, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use serde_json::json;

use crate::store::Damage;
use crate::store::sst::{of_blocks, of_table};
use crate::store::tables::{Opened, TableFile};

/// The store's own keyspace: it holds the session table.
const OWN: KeyspaceId = KeyspaceId(0);

/// A tree and its tables, newest run first, those of one run by key.
pub struct Assessed {
    pub shard: ShardId,
    /// What the tables reflect.
    pub at: Flushed,
    pub tables: Vec<(TableFile, Fate)>,
    /// Why it is not to be rewritten.
    pub refusal: Option<String>,
}

/// What became of a table.
pub enum Fate {
    /// It is as it was written.
    Sound(Opened),
    /// Some of its blocks cannot be read.
    Holed { opened: Opened, lost: Vec<(usize, Damage)>, records_lost: u64 },
    /// Its file is gone.
    Gone(Damage),
    /// It is there, and its blocks cannot be told apart or do not fit together.
    Opaque(Damage),
}

impl Fate {
    /// Reads all of a table.
    pub async fn of(file: &TableFile) -> anyhow::Result<Fate> {
        let opened = match file.open().await {
            Ok(opened) => opened,
            Err(error) => {
                let gone = matches!(&error, StorageError::Damaged { got, .. } if got == "no file");
                let damage = of_table(file, error)?;
                return Ok(if gone { Fate::Gone(damage) } else { Fate::Opaque(damage) });
            }
        };
        let Err(first) = opened.verify().await else { return Ok(Fate::Sound(opened)) };
        let lost = of_blocks(file, &opened).await?;
        if lost.is_empty() {
            return Ok(Fate::Opaque(Damage::of(&file.root, first)?));
        }
        let mut left = opened.held().0;
        let mut blocks = opened.blocks();
        while let Some((_, records)) = blocks.next().await {
            left = left.saturating_sub(records.map_or(0, |records| records.len() as u64));
        }
        Ok(Fate::Holed { opened, lost, records_lost: left })
    }

    /// Whether a block with keys of the store's own keyspace is lost, or may be.
    fn is_holed_in_own(&self) -> bool {
        match self {
            Fate::Sound(_) => false,
            Fate::Holed { opened, lost, .. } => lost.iter().any(|(block, _)| opened.first_keyspace(*block) == OWN),
            Fate::Gone(_) | Fate::Opaque(_) => true,
        }
    }

    /// Its highest version, where that is known.
    fn version_max(&self) -> Option<u64> {
        match self {
            Fate::Sound(opened) | Fate::Holed { opened, .. } => Some(opened.held().2),
            Fate::Gone(_) | Fate::Opaque(_) => None,
        }
    }
}

impl Assessed {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.tables.iter().all(|(_, fate)| matches!(fate, Fate::Sound(_)))
    }

    /// How many records are lost; none when a whole table is, and nobody knows.
    pub fn records_lost(&self) -> Option<u64> {
        let of = |fate: &Fate| match fate {
            Fate::Sound(_) => Some(0),
            Fate::Holed { records_lost, .. } => Some(*records_lost),
            Fate::Gone(_) | Fate::Opaque(_) => None,
        };
        self.tables.iter().map(|(_, fate)| of(fate)).sum()
    }

    /// Why it is not to be rewritten, if so.
    pub fn why_not(&self, store: StoreId) -> Option<String> {
        if self.is_sound() {
            return None;
        }
        match Configuration::decode(Bytes::clone(&self.at.config)) {
            Err(error) => return Some(format!("who its peers are cannot be read: {error}")),
            Ok(Configuration { voters, learners, outgoing }) => {
                let lone = voters.iter().map(|voter| voter.store).eq([store]);
                if !lone || !learners.is_empty() || !outgoing.is_empty() {
                    return Some("it has other replicas: start the node, they repair it".to_owned());
                }
            }
        }
        if self.tables.iter().any(|(_, fate)| matches!(fate, Fate::Opaque(_))) {
            return Some("a table is there that does not open or does not add up: its blocks may be sound".to_owned());
        }
        let lost = (0..self.tables.len()).any(|at| self.may_have_had_sessions(at));
        lost.then(|| "its session table may be lost: a retried write might take effect twice".to_owned())
    }

    /// Whether what a table lost may be of the session table that the last flush wrote. Each flush writes it wholly, at its
    /// own log index: what an older run has where a newer one lies above it is of an earlier flush.
    fn may_have_had_sessions(&self, at: usize) -> bool {
        let (file, fate) = &self.tables[at];
        let Some(named) = file.named().filter(|_| fate.is_holed_in_own()) else { return false };
        if fate.version_max().is_some_and(|version| version < self.at.index) {
            return false;
        }
        let bounds = &named.entry.bounds;
        let is_above = |(newer, fate): &(TableFile, Fate)| {
            let (Fate::Sound(opened) | Fate::Holed { opened, .. }) = fate else { return false };
            let (from, to) = opened.ends();
            let is_newer = newer.named().is_some_and(|newer| newer.newer < named.newer);
            let is_to_the_end = to.0 > OWN || (bounds.greatest() <= to && !bounds.greatest_is_cut());
            is_newer && !fate.is_holed_in_own() && from <= bounds.least() && is_to_the_end
        };
        bounds.least().0 == OWN && !self.tables.iter().any(is_above)
    }

    /// Whether an older run may have keys that a damaged table lost.
    fn may_show_older(&self) -> bool {
        let overlap = |a: &Bounds, b: &Bounds| a.cover(b.least()) || b.cover(a.least());
        let damaged = self.tables.iter().filter(|(_, fate)| !matches!(fate, Fate::Sound(_)));
        damaged.filter_map(|(file, _)| file.named()).any(|lost| {
            let older = self.tables.iter().filter_map(|(file, _)| file.named()).filter(|t| t.newer > lost.newer);
            older.map(|older| &older.entry.bounds).any(|bounds| overlap(bounds, &lost.entry.bounds))
        })
    }

    /// Tells what is damaged and what would be lost.
    pub fn tell(&self, as_json: bool) {
        let name = self.shard.to_string();
        let mut damages = Vec::new();
        for (_, fate) in &self.tables {
            match fate {
                Fate::Sound(_) => {}
                Fate::Gone(damage) | Fate::Opaque(damage) => damages.push((damage, None)),
                Fate::Holed { opened, lost, .. } => {
                    damages.extend(lost.iter().map(|(_, damage)| (damage, Some(opened.held()))));
                }
            }
        }
        for (damage, held) in damages {
            let versions = held.map(|(_, min, max)| (min, max));
            if as_json {
                let mut told = damage.json();
                told["tree"] = json!(name);
                (told["version_min"], told["version_max"]) =
                    (json!(versions.map(|v| v.0)), json!(versions.map(|v| v.1)));
                crate::say(told);
            } else {
                let any = if damage.keys.is_some() { "any version" } else { "any key" };
                let of = versions.map_or_else(|| any.to_owned(), |(min, max)| format!("versions {min} to {max}"));
                crate::say(format_args!("{damage}; {of}"));
            }
        }
        let (lost, older) = (self.records_lost(), self.may_show_older());
        if as_json {
            let mut told = json!({ "kind": "tree", "tree": name, "records_lost": lost, "may_show_older": older });
            told["refused"] = json!(self.refusal);
            crate::say(told);
            return;
        }
        crate::say(format_args!("tree {name}: {}", records(lost)));
        match &self.refusal {
            Some(why) => crate::say(format_args!("  not repaired: {why}")),
            None if older => {
                crate::say("  repaired, their keys may be absent, show an older value, or be back after a delete");
            }
            None => crate::say("  repaired, their keys may be absent; there is no older value of them to show"),
        }
    }
}

/// How many records are lost, in words.
pub fn records(lost: Option<u64>) -> String {
    lost.map_or_else(|| "a whole table lost".to_owned(), |lost| format!("{lost} records lost"))
}
