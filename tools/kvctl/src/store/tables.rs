//! A store's tables, through the few faces of the storage that the tools need.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ringkv_storage::disk::files::Root;
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_storage::disk::{ALIGN, Disk, DiskBuf, OpenMode};
use ringkv_storage::error::StorageError;
use ringkv_storage::manifest::{Bounds, Flushed, TableEntry, look};
use ringkv_storage::sst::compress::Compression;
use ringkv_storage::sst::footer::{FOOTER_BYTES, Footer};
use ringkv_storage::sst::reader::{Table, TableRef, Trash, table_name, table_number};
use ringkv_storage::sst::scan::TableScan;
use ringkv_storage::sst::verify::verify_table;
use ringkv_storage::sst::{self, TableId, TreeKey};
use ringkv_wire::ids::{KeyspaceId, ShardId};
use serde::Serialize;

/// A table file, and what a manifest says of it.
pub struct TableFile {
    /// The directory below which its path lies.
    pub root: PathBuf,
    disk: PlainDisk,
    path: String,
    named: Option<Named>,
}

/// A table as the manifest names it.
#[derive(Clone)]
pub struct Named {
    /// The tree.
    pub shard: ShardId,
    /// How many of the tree's runs are newer.
    pub newer: usize,
    /// What is said of the table itself.
    pub entry: TableEntry,
}

/// An open table.
pub struct Opened {
    table: Arc<Table<PlainDisk>>,
    footer: Footer,
}

/// How many blocks are stored in which way.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Stored {
    /// As they are.
    pub plain: u64,
    pub lz4: u64,
    pub zstd: u64,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stored { plain, lz4, zstd } = self;
        let kinds = [(plain, "plain"), (lz4, "lz4"), (zstd, "zstd")];
        let there = kinds.into_iter().filter(|(count, _)| **count > 0).map(|(count, name)| format!("{count} {name}"));
        f.write_str(&there.collect::<Vec<_>>().join(", "))
    }
}

/// One version of one key.
pub struct Record {
    pub keyspace: KeyspaceId,
    pub key: Bytes,
    pub version: u64,
    pub value: Option<Bytes>,
    /// When it expires, log time, ms; `u64::MAX`: never.
    pub expiry_ms: u64,
}

impl Record {
    /// Its place in the tree.
    pub fn tree_key(&self) -> TreeKey<'_> {
        (self.keyspace, &self.key)
    }

    /// As the engine knows it.
    pub fn stored(&self) -> sst::Record<'_> {
        sst::Record { version: self.version, value: self.value.as_deref(), expiry_ms: self.expiry_ms }
    }
}

/// The table files of a store.
pub struct StoreTables {
    /// Those that its manifest names, tree by tree, newest run first and those of one run by key; then those that it
    /// does not.
    pub files: Vec<TableFile>,
    /// What the tables of each tree reflect.
    pub trees: BTreeMap<ShardId, Flushed>,
    /// Why the manifest cannot be read: then no file is named.
    pub error: Option<StorageError>,
}

/// A key with its keyspace, as it is printed.
pub fn shown((keyspace, key): TreeKey<'_>) -> String {
    format!("{}:{}", keyspace.0, key.escape_ascii())
}

/// One table file by itself.
pub fn lone(path: &Path) -> anyhow::Result<TableFile> {
    let root = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let disk = PlainDisk::over(Root::read_only(root)?)?;
    Ok(TableFile { root: root.to_owned(), disk, path: name.to_owned(), named: None })
}

/// The tables of a store.
pub async fn of_store(store: &Path) -> anyhow::Result<StoreTables> {
    let disk = PlainDisk::over(Root::read_only(store)?)?;
    let files = disk.list("tables").await?;
    let mut left: BTreeMap<u64, Option<Named>> =
        files.iter().filter_map(|name| table_number(name)).map(|number| (number, None)).collect();
    let (trees, error) = match look(&disk, "", !left.is_empty()).await {
        Ok(trees) => (trees, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let mut all = Vec::new();
    for (shard, tree) in &trees {
        for (newer, mut run) in runs_of(&tree.tables).into_iter().enumerate() {
            run.sort_by(|a, b| a.bounds.least().cmp(&b.bounds.least()));
            for entry in run {
                left.remove(&entry.place.number);
                all.push((entry.place.number, Some(Named { shard: *shard, newer, entry: entry.clone() })));
            }
        }
    }
    all.extend(left);
    let file = |(number, named)| {
        let (root, disk) = (store.to_owned(), disk.clone());
        TableFile { root, disk, path: format!("tables/{}", table_name(number)), named }
    };
    let trees = trees.into_iter().map(|(shard, tree)| (shard, tree.at)).collect();
    Ok(StoreTables { files: all.into_iter().map(file).collect(), trees, error })
}

/// The runs of a tree, in the manifest's order.
fn runs_of(tables: &[TableEntry]) -> Vec<Vec<&TableEntry>> {
    let same = |a: &TableEntry, b: &TableEntry| (a.level, a.run) == (b.level, b.run);
    tables.chunk_by(same).map(|run| run.iter().collect()).collect()
}

impl TableFile {
    /// Its name, as it can be given to a command.
    pub fn shown(&self) -> String {
        self.root.join(&self.path).display().to_string()
    }

    /// What the manifest says of it, if it names it.
    pub fn named(&self) -> Option<&Named> {
        self.named.as_ref()
    }

    /// Between which keys all of its own lie, as far as the manifest knows; the second may be cut.
    pub fn range(&self) -> Option<(String, String)> {
        let bounds = self.named.as_ref().map(|named| &named.entry.bounds).filter(|bounds| **bounds != Bounds::all())?;
        let rest = if bounds.greatest_is_cut() { "…" } else { "" };
        Some((shown(bounds.least()), shown(bounds.greatest()) + rest))
    }

    /// Opens it, as what the manifest names or else as what its own footer says.
    pub async fn open(&self) -> Result<Opened, StorageError> {
        let footer = self.footer().await?;
        let number = self.path.rsplit('/').next().and_then(table_number).unwrap_or_default();
        let own = TableRef { id: footer.id, number, bytes: footer.file_bytes };
        let place = self.named.as_ref().map_or(own, |named| named.entry.place);
        let table = Table::open(self.disk.clone(), self.path.clone(), place, 0, Trash::default()).await?;
        Ok(Opened { table, footer })
    }

    async fn footer(&self) -> Result<Footer, StorageError> {
        let damaged = |offset, expected: &str, got: String| StorageError::Damaged {
            path: self.path.clone(),
            offset,
            expected: expected.to_owned(),
            got,
        };
        let file = match self.disk.open(&self.path, OpenMode::Read).await {
            Err(ringkv_storage::error::DiskError::NotFound { .. }) if self.named.is_some() => {
                return Err(damaged(0, "the table that the manifest names", "no file".to_owned()));
            }
            file => file?,
        };
        let bytes = self.disk.size(&file).await?;
        let last = bytes.checked_sub(ALIGN as u64).filter(|last| last.is_multiple_of(ALIGN as u64));
        let Some(last) = last else {
            return Err(damaged(bytes, "whole pages, at least one", format!("{bytes} bytes")));
        };
        let (read, page) = self.disk.read_at(&file, last, DiskBuf::zeroed(ALIGN)).await;
        read?;
        Footer::decode(&page[ALIGN - FOOTER_BYTES..], bytes, &self.path)
    }
}

impl Opened {
    /// What it holds, in numbers and by its ends.
    pub fn stats(&self) -> serde_json::Value {
        let (held, footer) = (self.table.properties(), &self.footer);
        let bytes_of = |range: &std::ops::Range<u64>| range.end - range.start;
        let per_key = |bytes: f64| (bytes / held.entries as f64 * 100.0).round() / 100.0;
        let (index, filter) = (bytes_of(&footer.index.range), bytes_of(&footer.filter.range));
        let data = held.key_bytes + held.value_bytes;
        serde_json::json!({
            "id": footer.id.to_string(), "format": footer.version, "bytes": footer.file_bytes, "blocks": footer.blocks,
            "entries": held.entries, "tombstones": held.tombstones, "version_min": held.version_min,
            "version_max": held.version_max, "key_bytes": held.key_bytes, "value_bytes": held.value_bytes,
            "block_bytes": footer.blocks_bytes, "index_bytes": index, "filter_bytes": filter,
            "index_bytes_per_key": per_key(index as f64), "filter_bits_per_key": per_key(filter as f64 * 8.0),
            "bytes_per_data_byte": (footer.blocks_bytes as f64 / data.max(1) as f64 * 100.0).round() / 100.0,
            "expire": held.expiring.map_or(0, |all| all.entries),
            "first_expiry_ms": held.expiring.map(|all| all.first_ms),
            "last_expiry_ms": held.expiring.map(|all| all.last_ms),
            "least": shown(held.least()), "greatest": shown(held.greatest()),
        })
    }

    /// Checks everything.
    pub async fn verify(&self) -> Result<(), StorageError> {
        verify_table(&self.table).await
    }

    /// How many of its blocks are stored in each way, and those that cannot be read, by number.
    pub async fn stored(&self) -> (Stored, Vec<(usize, StorageError)>) {
        let (mut stored, mut unread) = (Stored::default(), Vec::new());
        let places = self.table.index().map(|index| (0..).map_while(move |number| index.place(number)));
        for place in places.into_iter().flatten() {
            match self.table.compression_of(place).await {
                Ok(Compression::None) => stored.plain += 1,
                Ok(Compression::Lz4) => stored.lz4 += 1,
                Ok(Compression::Zstd) => stored.zstd += 1,
                Err(error) => unread.push((place.number, error)),
            }
        }
        (stored, unread)
    }

    /// What the tree knows it by.
    pub fn id(&self) -> TableId {
        self.footer.id
    }

    /// Its least and greatest key.
    pub fn ends(&self) -> (TreeKey<'_>, TreeKey<'_>) {
        (self.table.properties().least(), self.table.properties().greatest())
    }

    /// The keyspace of the first key that a block may hold.
    pub fn first_keyspace(&self, block: usize) -> KeyspaceId {
        let separator = self.table.index().and_then(|index| index.separator(block));
        separator.map_or(self.ends().0.0, |key| key.0)
    }

    /// Entries, and their lowest and highest version.
    pub fn held(&self) -> (u64, u64, u64) {
        let held = self.table.properties();
        (held.entries, held.version_min, held.version_max)
    }

    /// A walk over its blocks.
    pub fn blocks(&self) -> Blocks {
        Blocks { table: self.table.clone(), scan: TableScan::new(self.table.clone()), next: 0 }
    }

    /// Between which keys those of a block lie, the second not among them but in the last block.
    pub fn range_of(&self, block: usize) -> (String, String) {
        let held = self.table.properties();
        let separator = |block| {
            let (keyspace, rest) = self.table.index()?.separator(block)?;
            // The index leaves out what all keys of the table share.
            let shared = held.least().1.get(..usize::from(self.footer.skip))?;
            Some(shown((keyspace, &[shared, rest].concat())))
        };
        let from = separator(block).filter(|_| block > 0);
        (from.unwrap_or_else(|| shown(held.least())), separator(block + 1).unwrap_or_else(|| shown(held.greatest())))
    }
}

/// The blocks of a table in order; one that cannot be read is told and passed over.
pub struct Blocks {
    table: Arc<Table<PlainDisk>>,
    scan: TableScan<PlainDisk>,
    next: usize,
}

impl Blocks {
    /// The next block's number, and its records or why they cannot be read; none at the end.
    pub async fn next(&mut self) -> Option<(usize, Result<Vec<Record>, StorageError>)> {
        let number = self.next;
        self.next += 1;
        match self.scan.next_block().await {
            Ok(None) => None,
            Ok(Some((_, block))) => {
                let record = |at| {
                    let entry = block.entry(at)?;
                    let (keyspace, key) = block.view()?.key(&entry)?;
                    let sst::Record { version, expiry_ms, .. } = entry.record;
                    Some(Record { keyspace, key, version, value: block.value(&entry), expiry_ms })
                };
                Some((number, Ok((0..block.count()).filter_map(record).collect())))
            }
            Err(error) => {
                self.scan = TableScan::starting_at(self.table.clone(), self.next);
                Some((number, Err(error)))
            }
        }
    }
}
