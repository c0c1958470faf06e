//! The sound stores that edits begin with.

use super::{DIR, KEYSPACE, SHARD, at, key, options};
use bytes::Bytes;
use ringkv_storage::disk::fault::{FaultDisk, block_on};
use ringkv_storage::disk::{Disk, DiskBuf, OpenMode};
use ringkv_storage::engine::Engine;
use ringkv_storage::error::StorageError;
use ringkv_storage::sst::footer::{FOOTER_BYTES, Footer};
use ringkv_storage::sst::index::Index;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;

/// What an older ringkv wrote (FORMAT.md §2.7).
const OLD: [(&str, &[u8]); 4] = [
    ("CURRENT", include_bytes!("../../../../storage/tests/fixtures/version-1/CURRENT")),
    (
        "MANIFEST-0000000000000001",
        include_bytes!("../../../../storage/tests/fixtures/version-1/MANIFEST-0000000000000001"),
    ),
    (
        "tables/0000000000000001.sst",
        include_bytes!("../../../../storage/tests/fixtures/version-1/tables_0000000000000001.sst"),
    ),
    (
        "tables/0000000000000002.sst",
        include_bytes!("../../../../storage/tests/fixtures/version-1/tables_0000000000000002.sst"),
    ),
];

thread_local! {
    static TODAY: OnceCell<Good> = const { OnceCell::new() };
    static BEFORE: OnceCell<Good> = const { OnceCell::new() };
}

/// A sound store, and where the checksums of its tables stand.
pub struct Good {
    pub disk: FaultDisk,
    pub tables: BTreeMap<String, Layout>,
}

/// Where a table's blocks end, and its sections.
pub struct Layout {
    pub footer: Footer,
    pub blocks: Vec<Range<usize>>,
}

/// Flushed tables, stored as they are, above merged ones.
async fn write_today(disk: &FaultDisk) -> Result<(), StorageError> {
    let engine = Engine::open(disk.clone(), DIR, options()).await?;
    let tree = engine.tree(SHARD);
    for round in 0..3u64 {
        for number in 0..60 {
            let index = round * 60 + number + 1;
            match number % 7 {
                3 if round == 2 => tree.delete(index, KEYSPACE, &key(number)),
                _ => tree.put(index, KEYSPACE, &key(number), Bytes::from(vec![round as u8; number as usize * 3])),
            }
        }
        tree.flush(at(60 * (round + 1)), Vec::new()).await?;
        if round == 1 {
            tree.settle().await?;
        }
    }
    Ok(())
}

async fn write_before(disk: &FaultDisk) -> Result<(), StorageError> {
    for dir in [DIR.to_owned(), format!("{DIR}/tables")] {
        disk.create_dir(&dir).await?;
    }
    for (name, bytes) in OLD {
        let file = disk.open(&format!("{DIR}/{name}"), OpenMode::Create).await?;
        let mut buf = DiskBuf::zeroed(bytes.len());
        buf.copy_from_slice(bytes);
        disk.write_at(&file, 0, buf).await.0?;
        disk.sync(&file).await?;
    }
    Ok(())
}

/// One of the two, made once.
pub fn good(old: bool, with: impl FnOnce(&Good)) {
    let make = || {
        let disk = FaultDisk::new(1);
        let written = block_on(async { if old { write_before(&disk).await } else { write_today(&disk).await } });
        written.expect("a good disk");
        let paths = disk.paths().into_iter().filter(|path| path.ends_with(".sst"));
        let tables = paths.map(|path| (path.clone(), layout(&disk.peek(&path).expect("it is there")))).collect();
        Good { disk: disk.crash_process(), tables }
    };
    let kept = if old { &BEFORE } else { &TODAY };
    kept.with(|kept| with(kept.get_or_init(make)));
}

fn layout(bytes: &[u8]) -> Layout {
    let footer = Footer::decode(&bytes[bytes.len() - FOOTER_BYTES..], bytes.len() as u64, "").expect("a good table");
    let section = &bytes[footer.index.range.start as usize..footer.index.range.end as usize];
    let (blocks, number) = (footer.blocks as usize, |at: usize, count: usize| {
        section[at..at + count].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    });
    let places: Vec<Range<usize>> = if footer.version == 1 {
        (0..blocks).map(|n| number(32 * n, 8)..number(32 * n, 8) + number(32 * n + 8, 4)).collect()
    } else {
        let index = Index::new(section, blocks, footer.skip).expect("a good index");
        let place = |n| index.place(n).expect("a block");
        (0..blocks).map(|n| place(n).offset as usize..place(n).end() as usize).collect()
    };
    Layout { footer, blocks: places }
}
