//! `kvctl wal`: what a store's log holds, and whether it is sound.

mod row;

use std::process::ExitCode;

use clap::Subcommand;
use comfy_table::{Table, TableStyle};
use ringkv_storage::disk::Disk;
use ringkv_storage::error::StorageError;
use ringkv_storage::wal::RecoveredShard;
use ringkv_storage::wal::inspect::{Inspected, Standing, inspect, segment_name};
use ringkv_wire::ids::ShardId;
use serde_json::{Value, json};

use super::place::{Hold, StoreArgs, StorePlace};
use super::{Damage, plain};
use row::Row;

/// The log's directory in a store's.
const LOG: &str = "log";

/// What to do with a log. None of it changes the directory. Exit code 4: the log is damaged.
#[derive(Debug, Subcommand)]
pub enum WalCommand {
    /// Prints the records of the log in order, up to its end or to damage.
    Dump {
        #[command(flatten)]
        store: StoreArgs,
        /// Only records of this shard: `s1.7`, or its number.
        #[arg(long, value_parser = shard)]
        shard: Option<ShardId>,
        /// Leaves out entries below this index.
        #[arg(long, default_value_t = 0, value_name = "INDEX")]
        from: u64,
        /// Prints at most so many records.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "N")]
        limit: u64,
        /// Prints one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Reads the log as a recovery does and says what it holds, where an unfinished tail begins, or what is damaged.
    Verify {
        #[command(flatten)]
        store: StoreArgs,
        /// Prints one JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// `kvctl wal`.
pub async fn run(command: WalCommand) -> anyhow::Result<ExitCode> {
    match command {
        WalCommand::Dump { store, shard, from, limit, json } => dump(&store, shard, from, limit, json).await,
        WalCommand::Verify { store, json } => verify(&store, json).await,
    }
}

async fn dump(args: &StoreArgs, shard: Option<ShardId>, from: u64, limit: u64, json: bool) -> anyhow::Result<ExitCode> {
    let place = StorePlace::find(args, Hold::ToLook)?;
    let mut left = limit;
    if !json {
        crate::say(Row::header());
    }
    let print = |standing: Standing<'_>| {
        if left == 0 || !row::is_wanted(standing.record, shard, from) {
            return;
        }
        left -= 1;
        let row = Row::of(standing);
        if json { crate::say(row.json()) } else { crate::say(row) }
    };
    match read(&place, print).await? {
        Ok(found) => {
            if let Some(tail) = tail(&found) {
                if json { crate::say(tail) } else { eprintln!("kvctl: {}", tail_in_words(&found)) }
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(damage) => {
            if json {
                crate::say(damage.json())
            } else {
                eprintln!("kvctl: {damage}")
            }
            Ok(Damage::code())
        }
    }
}

async fn verify(args: &StoreArgs, json: bool) -> anyhow::Result<ExitCode> {
    let place = StorePlace::find(args, Hold::ToLook)?;
    let (mut batch, mut records) = (None, 0_u64);
    let count = |standing: Standing<'_>| {
        batch = Some(standing.at);
        records += 1;
    };
    let found = match read(&place, count).await? {
        Ok(found) => found,
        Err(damage) => {
            let behind = batch.map(|at| (at.number, segment_name(at.segment), at.offset));
            match (json, behind) {
                (true, _) => crate::say(damage.json()),
                (false, None) => crate::say(&damage),
                (false, Some((number, segment, offset))) => crate::say(format_args!(
                    "{damage}\nsound before it: {records} records, the last in batch {number}, which begins at offset \
                     {offset} of {segment}"
                )),
            }
            return Ok(Damage::code());
        }
    };
    if json {
        crate::say(summary(&place, &found));
        found.recovered.shards.iter().for_each(|shard| crate::say(shard_json(shard)));
        tail(&found).into_iter().for_each(crate::say);
    } else {
        crate::say(in_words(&place, &found));
        crate::say(shards_table(&found.recovered.shards));
        crate::say("sound");
    }
    Ok(ExitCode::SUCCESS)
}

/// Walks the log: what it holds, or the damage that a recovery would stop at.
async fn read(place: &StorePlace, heard: impl FnMut(Standing<'_>)) -> anyhow::Result<Result<Inspected, Damage>> {
    let disk = place.disk()?;
    // A store whose node has made all logs and that has none lost it.
    let lost = |got: &str| StorageError::Damaged {
        path: LOG.to_owned(),
        offset: 0,
        expected: "the log that this store had".to_owned(),
        got: got.to_owned(),
    };
    if place.made && !disk.list("").await?.iter().any(|name| name == LOG) {
        return Ok(Err(Damage::of(&place.path, lost("no directory"))?));
    }
    match inspect(&disk, LOG, place.log_identity, heard).await {
        Ok(found) if place.made && found.segments.is_empty() => {
            Ok(Err(Damage::of(&place.path, lost("no segment with a complete head"))?))
        }
        Ok(found) => Ok(Ok(found)),
        Err(error) => Ok(Err(Damage::of(&place.path, error)?)),
    }
}

/// Where an unfinished tail begins.
fn tail(found: &Inspected) -> Option<Value> {
    let (segment, sector) = found.recovered.report.cut?;
    let file = format!("{LOG}/{}", segment_name(segment));
    Some(json!({ "kind": "tail", "file": file, "segment": segment, "sector": sector, "offset": sector * 512 }))
}

fn tail_in_words(found: &Inspected) -> String {
    match found.recovered.report.cut {
        None => "no unfinished tail".to_owned(),
        Some((segment, sector)) => {
            let (file, offset) = (segment_name(segment), sector * 512);
            format!("unfinished tail at offset {offset} of {file}, never acknowledged: a recovery cuts it")
        }
    }
}

fn summary(place: &StorePlace, found: &Inspected) -> Value {
    let report = &found.recovered.report;
    json!({
        "kind": "log", "store": place.id.to_string(), "segments": report.segments, "other_files": found.others.len(),
        "batches": report.batches, "entries": report.entries, "last_batch": found.last, "synced": found.synced,
        "admitted": found.recovered.admitted, "peers": found.recovered.peers.len(),
    })
}

fn in_words(place: &StorePlace, found: &Inspected) -> String {
    let report = &found.recovered.report;
    let range = match (found.segments.first(), found.segments.last()) {
        (Some(first), Some(last)) => format!("{} to {}", first.sequence, last.sequence),
        _ => "none".to_owned(),
    };
    let (others, batches, entries) = (found.others.len(), report.batches, report.entries);
    [
        format!("log of {}", place.id),
        format!("segments  {} ({range}), {others} files that are no part of it", report.segments),
        format!(
            "batches   {batches}, the last is {}, durable by the log's own word up to {}",
            found.last, found.synced
        ),
        format!("entries   {entries}"),
        format!("tail      {}", tail_in_words(found)),
    ]
    .join("\n")
}

fn shard_json(shard: &RecoveredShard) -> Value {
    let RecoveredShard { state, entries } = shard;
    json!({
        "kind": "shard", "shard": state.shard.to_string(), "generation": state.generation.0,
        "state": row::state(state.state), "term": state.hard.term,
        "vote": state.hard.vote.map(|vote| vote.to_string()), "floor": state.floor_index,
        "floor_term": state.floor_term, "flushed": state.flushed_index, "entries": entries.len(),
        "first": entries.first().map(|entry| entry.index), "last": entries.last().map(|entry| entry.index),
    })
}

fn shards_table(shards: &[RecoveredShard]) -> Table {
    let names = ["shard", "state", "term", "vote", "floor", "first", "last", "entries", "flushed"];
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(names);
    for shard in shards.iter().map(shard_json) {
        table.add_row(names.map(|name| plain(&shard[name])));
    }
    table
}

fn shard(text: &str) -> Result<ShardId, String> {
    let named = text.strip_prefix('s').and_then(|rest| rest.split_once('.'));
    let found = match named {
        Some((pool, arc)) => pool.parse().ok().zip(arc.parse().ok().filter(|arc| *arc < 1 << 24)),
        None => return text.parse().map(ShardId).map_err(|_| format!("{text:?} is no shard")),
    };
    found.map(|(pool, arc)| ShardId::new(pool, arc)).ok_or_else(|| format!("{text:?} is no shard"))
}
