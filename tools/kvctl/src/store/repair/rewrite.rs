//! Rewriting a damaged tree through the engine, as a peer's snapshot would be installed.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::Context;
use ringkv_storage::compaction::choose::LAST_LEVEL;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::engine::{Engine, EngineOptions};
use ringkv_storage::sst::TableId;
use ringkv_storage::sst::builder::TableBuilder;
use ringkv_storage::sst::writer::TableWriter;
use ringkv_storage::tree::Receiver;

use super::assess::{Assessed, Fate};
use crate::store::place::StorePlace;
use crate::store::tables::Opened;

/// Where damaged files go.
const LOST_AND_FOUND: &str = "lost+found";
/// Where a table is made before the engine takes it.
const SCRATCH: &str = "lost+found/rewritten.sst";
/// Bytes given to the engine at once.
const PIECE_BYTES: usize = 1 << 20;

/// Rewrites trees from what is readable of them.
pub async fn rewrite(place: &StorePlace, trees: &[&Assessed]) -> anyhow::Result<()> {
    let folder = place.path.join(LOST_AND_FOUND);
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (file, fate) in trees.iter().flat_map(|tree| &tree.tables) {
        if let Fate::Holed { opened, .. } = fate {
            keep(Path::new(&file.shown()), &folder.join(format!("{}.sst", opened.id())))?;
        }
    }
    for dir in [&folder, &place.path] {
        File::open(dir).and_then(|dir| dir.sync_all()).with_context(|| dir.display().to_string())?;
    }
    // Left by a try that was cut off.
    remove(&place.path.join(SCRATCH))?;
    let disk = PlainDisk::open(&place.path)?;
    let options = EngineOptions { seed: rand::random(), ..EngineOptions::default() };
    let engine = Engine::open(disk.clone(), "", options.clone()).await?;
    for tree in trees {
        let receiver = engine.tree(tree.shard).receive();
        // In the order that installing wants: newest run first, and those of a run by key.
        let mut ids = Vec::new();
        for (file, fate) in &tree.tables {
            match fate {
                Fate::Sound(opened) => {
                    give(&receiver, opened.id(), Path::new(&file.shown())).await?;
                    ids.push(opened.id().0);
                }
                Fate::Holed { opened, lost, .. } => {
                    let lost: BTreeSet<usize> = lost.iter().map(|(block, _)| *block).collect();
                    // As the engine stores them.
                    let compression =
                        options.compression_of(file.named().map_or(LAST_LEVEL, |named| named.entry.level));
                    let id = TableId(rand::random());
                    let builder = TableBuilder::new(id, options.block_bytes, compression);
                    if without(&disk, id, builder, opened, &lost).await? {
                        give(&receiver, id, &place.path.join(SCRATCH)).await?;
                        ids.push(id.0);
                    }
                    remove(&place.path.join(SCRATCH))?;
                }
                Fate::Gone(_) | Fate::Opaque(_) => {}
            }
        }
        receiver.install(tree.at.clone(), &ids).await?;
    }
    engine.sweep().await;
    Ok(())
}

/// Gives a file a second name, unless an earlier try did.
fn keep(file: &Path, name: &Path) -> anyhow::Result<()> {
    match fs::hard_link(file, name) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        linked => linked.with_context(|| format!("{} to {}", file.display(), name.display())),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| path.display().to_string()),
    }
}

/// Writes the readable blocks of a table as a new one; answers whether there are any.
async fn without(
    disk: &PlainDisk,
    id: TableId,
    builder: TableBuilder,
    opened: &Opened,
    lost: &BTreeSet<usize>,
) -> anyhow::Result<bool> {
    let path = SCRATCH.to_owned();
    let mut writer = TableWriter::create(disk.clone(), path, 0, id, builder, Default::default()).await?;
    let (mut blocks, mut any) = (opened.blocks(), false);
    while let Some((number, records)) = blocks.next().await {
        // One that failed before and is read now is not to be believed.
        let Ok(records) = records else { continue };
        if lost.contains(&number) {
            continue;
        }
        for record in records {
            writer.add(record.tree_key(), &record.stored()).await?;
            any = true;
        }
    }
    if any {
        let (_, unborn) = writer.finish().await?.synced().await?;
        unborn.keep();
    }
    Ok(any)
}

/// Gives a table file to the engine, which verifies it wholly before it counts.
async fn give(receiver: &Receiver<PlainDisk>, id: TableId, path: &Path) -> anyhow::Result<()> {
    let shown = || path.display().to_string();
    let mut file = File::open(path).with_context(shown)?;
    let total = file.metadata().with_context(shown)?.len();
    let (mut offset, mut piece) = (0, vec![0; PIECE_BYTES]);
    while offset < total {
        let got = file.read(&mut piece).with_context(shown)?;
        anyhow::ensure!(got > 0, "{}: ends at {offset} of {total} bytes", path.display());
        receiver.write(id.0, total, offset, &piece[..got]).await?;
        offset += got as u64;
    }
    Ok(())
}
