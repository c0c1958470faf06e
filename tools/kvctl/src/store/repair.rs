//! `kvctl repair`: a damaged tree of a shard that has no other replica.
//!
//! Where a shard has peers nothing is given up: they repair a damaged tree while the node runs. A lone replica keeps what is
//! readable and says with every read of the rest that it is damaged, which is the exact truth. Giving the rest up is a
//! decision, so this tells what would be lost and does it only when told to:
//!
//! - Of each damaged table the readable blocks are written into a new one. Sound tables stay as they are. The tree goes on
//!   reflecting the same log index: the log's redo fits it as before.
//! - What the lost blocks held may be absent afterwards, or, where an older run has such keys, show an older value, or be back
//!   after a delete.
//! - The damaged files get a second name in `lost+found` before anything else is done, and are never removed from there.
//! - The manifest edit that installs a received snapshot installs the tree: a crash leaves the old one or the new one.
//!
//! Refused is what would break more than it repairs: a shard with peers (its replica would differ from theirs in silence), a
//! lost session table (a retried write might take effect twice), a table that is there but does not open (its blocks may all
//! be sound), sound blocks that do not fit together.

mod assess;
mod rewrite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::Damage;
use super::place::{Hold, StoreArgs, StorePlace};
use super::tables::of_store;
use assess::{Assessed, Fate};

/// Which store, and whether to do it.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The store's directory, for instance `data/store-0000`. Its node must not be running.
    #[arg(long, value_name = "STORE DIR")]
    store: PathBuf,
    /// Rewrites damaged trees from what is readable. Without it nothing is changed.
    #[arg(long)]
    accept_loss: bool,
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// `kvctl repair`. Exit code 4: something is damaged, and still is.
pub async fn run(args: RepairArgs) -> anyhow::Result<ExitCode> {
    let hold = if args.accept_loss { Hold::ToChange } else { Hold::ToLook };
    let place = StorePlace::find(&StoreArgs::of(args.store.clone()), hold)?;
    let trees = assess(&place).await?;
    let tell = |line: serde_json::Value, words: String| {
        if args.json { crate::say(line) } else { crate::say(words) }
    };
    let damaged: Vec<Assessed> = trees.into_iter().filter(|tree| !tree.is_sound()).collect();
    for tree in &damaged {
        tree.tell(args.json);
    }
    if damaged.is_empty() {
        tell(json!({ "kind": "sound" }), "no tree is damaged".to_owned());
        return Ok(ExitCode::SUCCESS);
    }
    let wanted: Vec<&Assessed> = damaged.iter().filter(|tree| tree.refusal.is_none()).collect();
    if !args.accept_loss {
        if !args.json && !wanted.is_empty() {
            let again = format!("kvctl repair --store {} --accept-loss", place.path.display());
            crate::say(format_args!("nothing was changed; to give up what is lost and keep the rest: {again}"));
        }
        return Ok(Damage::code());
    }
    if !wanted.is_empty() {
        rewrite::rewrite(&place, &wanted).await?;
    }
    let after = assess(&place).await?;
    for tree in wanted {
        let now = after.iter().find(|now| now.shard == tree.shard);
        if !now.is_some_and(Assessed::is_sound) {
            bail!("{}: still damaged after it was rewritten; the old files are in lost+found", tree.shard);
        }
        let (shard, lost) = (tree.shard.to_string(), tree.records_lost());
        let line = json!({ "kind": "repaired", "tree": shard, "records_lost": lost });
        tell(line, format!("REPAIRED tree {shard}: {}; the damaged files are in lost+found", assess::records(lost)));
    }
    Ok(if after.iter().all(Assessed::is_sound) { ExitCode::SUCCESS } else { Damage::code() })
}

/// Every tree with what is wrong with it.
async fn assess(place: &StorePlace) -> anyhow::Result<Vec<Assessed>> {
    let found = of_store(&place.path).await?;
    if let Some(error) = found.error {
        bail!("{error}; without its manifest nobody knows what the tables mean: not repaired");
    }
    let mut trees: Vec<Assessed> = Vec::new();
    for file in found.files {
        let Some(shard) = file.named().map(|named| named.shard) else { continue };
        if trees.last().is_none_or(|tree| tree.shard != shard) {
            let at = found.trees.get(&shard).cloned().unwrap_or_default();
            trees.push(Assessed { shard, at, tables: Vec::new(), refusal: None });
        }
        let fate = Fate::of(&file).await?;
        if let Some(tree) = trees.last_mut() {
            tree.tables.push((file, fate));
        }
    }
    trees.iter_mut().for_each(|tree| tree.refusal = tree.why_not(place.id));
    Ok(trees)
}
