//! `kvctl sst`: what tables hold, and whether they are sound.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, TableStyle};
use ringkv_storage::error::StorageError;
use serde_json::json;

use super::Damage;
use super::place::{self, Hold};
use super::tables::{Opened, Record, StoreTables, TableFile, lone, of_store, shown};

/// What to do with tables. None of it changes a file. Exit code 4: one of them, or a manifest, is damaged.
#[derive(Debug, Subcommand)]
pub enum SstCommand {
    /// Tells of each table where in its tree it is, what it holds, and what its parts take. Reads every block, to tell how
    /// many are stored in which way.
    Stats(SstArgs),
    /// Prints the records of each table in order; a block that cannot be read is told and passed over.
    Dump {
        #[command(flatten)]
        which: SstArgs,
        /// Prints values too.
        #[arg(long)]
        values: bool,
        /// Prints at most so many records.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true, value_name = "N")]
        limit: u64,
    },
    /// Reads each table whole and tells every block that is not what was written, with the keys that it may have held.
    Verify(SstArgs),
}

/// Which tables.
#[derive(Debug, Clone, Args)]
pub struct SstArgs {
    /// Table files, directories of stores, or data directories. The node of a directory must not be running.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Prints one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// The tables asked for. While this lives, no node opens their data directories.
struct Tables {
    files: Vec<TableFile>,
    /// What is wrong with the manifests.
    damage: Vec<Damage>,
    _locks: Vec<File>,
}

/// `kvctl sst`.
pub async fn run(command: SstCommand) -> anyhow::Result<ExitCode> {
    match command {
        SstCommand::Stats(which) => stats(&which).await,
        SstCommand::Dump { which, values, limit } => dump(&which, values, limit).await,
        SstCommand::Verify(which) => verify(&which).await,
    }
}

impl Tables {
    async fn find(args: &SstArgs) -> anyhow::Result<Tables> {
        let mut tables = Tables { files: Vec::new(), damage: Vec::new(), _locks: Vec::new() };
        for path in &args.paths {
            let real = path.canonicalize().with_context(|| path.display().to_string())?;
            if real.is_file() {
                tables.files.push(lone(path)?);
                continue;
            }
            let (data, stores) = match real.join("identity").exists() {
                true => (real.as_path(), stores_in(path)?),
                false => (real.parent().context("the root of the file system is no store")?, vec![path.clone()]),
            };
            tables._locks.extend(place::hold(data, Hold::ToLook)?);
            for store in stores {
                if !store.join("tables").is_dir() {
                    bail!("{}: no table, no store with tables, no data directory", store.display());
                }
                let StoreTables { files, error, .. } = of_store(&store).await?;
                tables.files.extend(files);
                tables.damage.extend(error.map(|error| Damage::of(&store, error)).transpose()?);
            }
        }
        Ok(tables)
    }

    /// Opens one; what is wrong with it is kept.
    async fn open(&mut self, at: usize) -> anyhow::Result<Option<Opened>> {
        let opened = self.files[at].open().await;
        Ok(match opened {
            Ok(opened) => Some(opened),
            Err(error) => {
                self.damage.push(of_table(&self.files[at], error)?);
                None
            }
        })
    }

    /// Tells what was found wrong, and the exit code.
    fn end(&self, json: bool) -> ExitCode {
        for damage in &self.damage {
            if json { crate::say(damage.json()) } else { crate::say(damage) }
        }
        if self.damage.is_empty() { ExitCode::SUCCESS } else { Damage::code() }
    }
}

fn stores_in(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut stores = Vec::new();
    for entry in std::fs::read_dir(data).with_context(|| data.display().to_string())? {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("store-"));
        stores.extend(named.then_some(path));
    }
    stores.sort();
    Ok(stores)
}

async fn stats(args: &SstArgs) -> anyhow::Result<ExitCode> {
    let columns = [
        ("tree", "tree"),
        ("level", "level"),
        ("run", "run"),
        ("newer", "newer"),
        ("format", "format"),
        ("entries", "entries"),
        ("tombstones", "tombst."),
        ("expire", "expire"),
        ("bytes", "bytes"),
        ("blocks", "blocks"),
        ("stored", "stored"),
        ("index_bytes_per_key", "index B/key"),
        ("filter_bits_per_key", "filter bit/key"),
        ("bytes_per_data_byte", "B/data B"),
        ("least", "least key"),
        ("greatest", "greatest key"),
    ];
    let mut tables = Tables::find(args).await?;
    let mut shown = Table::new();
    let header = ["file"].into_iter().chain(columns.map(|(_, title)| title));
    shown.load_style(TableStyle::new()).set_header(header);
    for at in 0..tables.files.len() {
        let Some(opened) = tables.open(at).await? else { continue };
        let file = &tables.files[at];
        let mut stats = opened.stats();
        stats["kind"] = json!("table");
        stats["file"] = json!(file.shown());
        stats["tree"] = json!(file.named().map(|named| named.shard.to_string()));
        stats["level"] = json!(file.named().map(|named| named.entry.level));
        stats["run"] = json!(file.named().map(|named| named.entry.run));
        stats["newer"] = json!(file.named().map(|named| named.newer));
        let (stored, unread) = opened.stored().await;
        stats["stored"] = json!(stored);
        for (number, error) in unread {
            tables.damage.push(of_block(file, &opened, number, error)?);
        }
        if args.json {
            crate::say(stats);
            continue;
        }
        let short = Path::new(&file.shown()).file_name().map(|name| name.to_string_lossy().into_owned());
        let cells = columns.map(|(name, _)| match name {
            "stored" => stored.to_string(),
            name => super::plain(&stats[name]),
        });
        shown.add_row(short.into_iter().chain(cells));
    }
    if !args.json {
        crate::say(shown);
    }
    Ok(tables.end(args.json))
}

async fn dump(args: &SstArgs, values: bool, limit: u64) -> anyhow::Result<ExitCode> {
    let (mut tables, mut left) = (Tables::find(args).await?, limit);
    for at in 0..tables.files.len() {
        if left == 0 {
            break;
        }
        let Some(opened) = tables.open(at).await? else { continue };
        let (file, mut blocks) = (tables.files[at].shown(), opened.blocks());
        if !args.json {
            crate::say(format_args!("{file}"));
        }
        while let Some((number, records)) = blocks.next().await.filter(|_| left > 0) {
            match records {
                Ok(records) => {
                    let wanted = records.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= wanted.len() as u64;
                    wanted.for_each(|record| crate::say(line(record, &file, values, args.json)));
                }
                Err(error) => tables.damage.push(of_block(&tables.files[at], &opened, number, error)?),
            }
        }
    }
    Ok(tables.end(args.json))
}

fn line(record: &Record, file: &str, values: bool, as_json: bool) -> String {
    let (key, Record { version, value, .. }) = (shown(record.tree_key()), record);
    let (kind, bytes) = (if value.is_some() { "value" } else { "tombstone" }, value.as_ref().map_or(0, |v| v.len()));
    let content = value.as_ref().filter(|_| values).map(|value| value.escape_ascii().to_string());
    if as_json {
        let mut told = json!({ "kind": kind, "file": file, "key": key, "version": version, "value_bytes": bytes });
        if record.stored().expires() {
            told["expiry_ms"] = json!(record.expiry_ms);
        }
        if let Some(content) = content {
            told["value"] = json!(content);
        }
        return told.to_string();
    }
    let content = content.map_or_else(String::new, |content| format!("  {content}"));
    let until = if record.stored().expires() { format!("  until {} ms", record.expiry_ms) } else { String::new() };
    format!("{version:>12} {kind:<9} {bytes:>8}  {key}{until}{content}")
}

async fn verify(args: &SstArgs) -> anyhow::Result<ExitCode> {
    let mut tables = Tables::find(args).await?;
    let mut entries = 0;
    for at in 0..tables.files.len() {
        let Some(opened) = tables.open(at).await? else { continue };
        entries += opened.held().0;
        let Err(first) = opened.verify().await else { continue };
        let found = of_blocks(&tables.files[at], &opened).await?;
        // Sound blocks that do not fit together.
        let whole = found.is_empty().then(|| Damage::of(&tables.files[at].root, first)).transpose()?;
        tables.damage.extend(found.into_iter().map(|(_, damage)| damage).chain(whole));
    }
    let (count, found) = (tables.files.len(), tables.damage.len());
    if args.json {
        crate::say(json!({ "kind": "verified", "tables": count, "entries": entries, "damages": found }));
    } else {
        crate::say(format_args!("{count} tables, {entries} entries, {found} damages"));
    }
    Ok(tables.end(args.json))
}

/// Damage to a table that does not open, with the keys that the manifest says it has.
pub(super) fn of_table(file: &TableFile, error: StorageError) -> anyhow::Result<Damage> {
    let damage = Damage::of(&file.root, error)?;
    Ok(Damage { keys: file.range(), ..damage })
}

/// The blocks of a table that cannot be read, by number.
pub(super) async fn of_blocks(file: &TableFile, opened: &Opened) -> anyhow::Result<Vec<(usize, Damage)>> {
    let (mut found, mut blocks) = (Vec::new(), opened.blocks());
    while let Some((number, records)) = blocks.next().await {
        if let Err(error) = records {
            found.push((number, of_block(file, opened, number, error)?));
        }
    }
    Ok(found)
}

/// Damage to one block, with the keys that stood in it.
fn of_block(file: &TableFile, opened: &Opened, number: usize, error: StorageError) -> anyhow::Result<Damage> {
    let damage = Damage::of(&file.root, error)?;
    Ok(Damage { keys: Some(opened.range_of(number)), ..damage })
}
