//! The manifest: which tables make up each tree (FORMAT.md §3).

mod current;
mod look;
pub mod record;
mod recover;
mod sector;

pub use look::look;
pub use record::{Bounds, Flushed, TableEntry, TreeRecord};

use crate::disk::{Disk, DiskBuf, OpenMode};
use crate::error::{DiskError, StorageError};
use crate::gate::{Gate, Pass, Turn};
use crate::sst::damaged;
use current::Current;
use ringkv_wire::ids::ShardId;
use sector::SECTOR_BYTES;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of edits behind the first one after which a fresh manifest is made.
const REWRITE_BYTES: u64 = 1 << 20;
/// Bytes by which the file grows.
const GROW_BYTES: u64 = 64 << 10;
const CURRENT: &str = "CURRENT";
const MANIFEST: &str = "MANIFEST-";

/// The manifest of a store. Clones are the same one.
pub struct Manifest<D: Disk>(Rc<Inner<D>>);

struct Inner<D: Disk> {
    disk: D,
    dir: String,
    gate: Gate,
    state: RefCell<State<D>>,
}

struct State<D: Disk> {
    /// All trees, as acknowledged.
    trees: BTreeMap<ShardId, TreeRecord>,
    /// The file that edits go to; none when the next one needs a fresh file.
    open: Option<Open<D>>,
    /// Highest number ever used for a manifest here.
    number: u64,
    /// Makes ids: see [`Manifest::open`].
    ids: Box<dyn FnMut() -> [u8; 16]>,
    /// A switch of CURRENT whose outcome is unknown and may still change.
    switching: bool,
    /// Numbers of all manifest files that CURRENT names, named, or may name, and of those that could not be removed.
    files: Vec<u64>,
}

struct Open<D: Disk> {
    file: D::File,
    current: Current,
    /// Where the next edit goes, its number, bytes of the first edit, bytes of the file.
    end: u64,
    next: u64,
    first_bytes: u64,
    size: u64,
}

impl<D: Disk> Clone for Manifest<D> {
    fn clone(&self) -> Manifest<D> {
        Manifest(self.0.clone())
    }
}

/// The right to edit, until dropped: what the manifest says does not change under its holder.
pub struct Edit<D: Disk> {
    manifest: Rc<Inner<D>>,
    _pass: Pass,
}

impl<D: Disk> Manifest<D> {
    /// Reads the manifest in `dir`, and moves to a fresh one, which proves what was read. Without CURRENT the store is
    /// new, unless it `has_tables`. On a full disk the old one is proved instead, and the first edit that finds room moves.
    /// `ids` draws random ids.
    pub async fn open(
        disk: D,
        dir: &str,
        has_tables: bool,
        mut ids: impl FnMut(u64) -> [u8; 16] + 'static,
    ) -> Result<Manifest<D>, StorageError> {
        let names = disk.list(dir).await?;
        let prepared = names.iter().filter_map(|name| number_in(name, "CURRENT-"));
        let manifests = names.iter().filter_map(|name| number_in(name, MANIFEST));
        let number = manifests.clone().chain(prepared).max().unwrap_or(0);
        let found = match names.iter().any(|name| name == CURRENT) {
            true => Some(Found::read(&disk, dir).await?),
            false if has_tables => {
                return Err(damaged(&join(dir, CURRENT), 0, "CURRENT, because there are tables", "no file"));
            }
            false => None,
        };
        let trees = found.as_ref().map(|found| found.trees.clone()).unwrap_or_default();
        let files = manifests.collect();
        let mut drawn = number;
        let ids = Box::new(move || {
            drawn += 1;
            ids(drawn)
        });
        let state = State { trees: trees.clone(), open: None, number, ids, switching: false, files };
        let inner = Inner { disk, dir: dir.to_owned(), gate: Gate::default(), state: RefCell::new(state) };
        match (inner.rewrite(trees).await, found) {
            (Err(StorageError::Disk(DiskError::NoSpace { .. })), Some(found)) => found.prove(&inner.disk, dir).await?,
            (rewritten, _) => rewritten?,
        }
        for name in names.iter().filter(|name| name.starts_with(CURRENT) && *name != CURRENT) {
            let _ = inner.disk.remove(&join(dir, name)).await;
        }
        Ok(Manifest(Rc::new(inner)))
    }

    /// Takes a place in the line of editors, now.
    pub fn edit(&self) -> impl Future<Output = Edit<D>> + 'static {
        let (turn, manifest): (Turn, _) = (self.0.gate.enter(), self.0.clone());
        async move { Edit { manifest, _pass: turn.await } }
    }

    /// All trees, as acknowledged.
    pub fn trees(&self) -> BTreeMap<ShardId, TreeRecord> {
        self.0.state.borrow().trees.clone()
    }

    /// Whether the file holds exactly what was acknowledged: only then may files it does not name be removed.
    pub fn is_settled(&self) -> bool {
        let state = self.0.state.borrow();
        state.open.is_some() && !state.switching
    }

    /// Highest number used for a manifest file.
    pub fn number(&self) -> u64 {
        self.0.state.borrow().number
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.0.state.borrow().open.as_ref().map_or(0, |open| open.size)
    }
}

impl<D: Disk> Edit<D> {
    /// Makes `record` the durable state of `shard`. After an error nothing has changed, though a crash may find it changed.
    pub async fn commit(&self, shard: ShardId, record: TreeRecord) -> Result<(), StorageError> {
        let inner = &self.manifest;
        if inner.state.borrow().switching {
            return Err(StorageError::Interrupted { what: "a manifest switch" });
        }
        let full =
            inner.state.borrow().open.as_ref().is_none_or(|open| open.end >= open.first_bytes * 2 + REWRITE_BYTES);
        if full {
            let mut trees = inner.state.borrow().trees.clone();
            trees.insert(shard, record.clone());
            let rewritten = inner.rewrite(trees).await;
            if rewritten.is_ok() || inner.state.borrow().open.is_none() {
                return rewritten;
            }
        }
        inner.append(shard, record).await
    }
}

impl<D: Disk> Inner<D> {
    async fn append(&self, shard: ShardId, record: TreeRecord) -> Result<(), StorageError> {
        // Taken out: if this future fails or is dropped after the write began, the next edit needs a fresh file.
        let taken = self.state.borrow_mut().open.take();
        let Some(mut open) = taken else { return Err(StorageError::Interrupted { what: "a manifest edit" }) };
        let buf = record::encode_edit(
            open.current.seed(),
            open.next,
            sector_index(open.end),
            [(&shard, &record)].into_iter(),
        );
        let bytes = buf.len() as u64;
        if open.end + bytes > open.size {
            let size = open.end + bytes.max(GROW_BYTES);
            if let Err(error) = self.disk.allocate(&open.file, size).await {
                // Nothing was written: this file is as good as before.
                self.state.borrow_mut().open = Some(open);
                return Err(error.into());
            }
            open.size = size;
        }
        self.disk.commit(&open.file, open.end, buf).await.0?;
        open.end += bytes;
        open.next += 1;
        let mut state = self.state.borrow_mut();
        state.open = Some(open);
        state.trees.insert(shard, record);
        Ok(())
    }

    /// Moves to a fresh manifest that says `trees`.
    async fn rewrite(&self, trees: BTreeMap<ShardId, TreeRecord>) -> Result<(), StorageError> {
        let current = {
            let mut state = self.state.borrow_mut();
            state.number += 1;
            Current { number: state.number, id: (state.ids)() }
        };
        let next = self.pointer(current.number);
        let made = self.make(&current, &next, &trees).await;
        let open = match made {
            Ok(open) => open,
            Err(error) => {
                self.remove(current.number).await;
                return Err(error);
            }
        };
        {
            let mut state = self.state.borrow_mut();
            state.switching = true;
            state.files.push(current.number);
            state.open = None;
        }
        let renamed = self.disk.rename(&next, &join(&self.dir, CURRENT)).await;
        let durable = match renamed {
            Ok(()) => self.disk.sync_dir(&self.dir).await,
            error => error,
        };
        let stale = {
            let mut state = self.state.borrow_mut();
            state.switching = false;
            durable?;
            state.open = Some(open);
            state.trees = trees;
            std::mem::replace(&mut state.files, vec![current.number])
        };
        for number in stale.into_iter().filter(|number| *number != current.number) {
            self.remove(number).await;
        }
        Ok(())
    }

    /// Removes the files of a manifest that CURRENT does not name. What cannot be removed goes with the next move.
    async fn remove(&self, number: u64) {
        for path in [self.path(number), self.pointer(number)] {
            match self.disk.remove(&path).await {
                Ok(()) | Err(DiskError::NotFound { .. }) => {}
                Err(_) => self.state.borrow_mut().files.push(number),
            }
        }
    }

    /// Makes the files of a fresh manifest and of the CURRENT that names it, durable under other names.
    async fn make(
        &self,
        current: &Current,
        next: &str,
        trees: &BTreeMap<ShardId, TreeRecord>,
    ) -> Result<Open<D>, StorageError> {
        let first = record::encode_edit(current.seed(), 1, 0, trees.iter());
        let end = first.len() as u64;
        let size = end + GROW_BYTES;
        let file = self.disk.open(&self.path(current.number), OpenMode::Create).await?;
        self.disk.allocate(&file, size).await?;
        self.disk.commit(&file, 0, first).await.0?;
        let pointer = self.disk.open(next, OpenMode::Create).await?;
        let buf = current.encode();
        self.disk.allocate(&pointer, buf.len() as u64).await?;
        self.disk.commit(&pointer, 0, buf).await.0?;
        self.disk.sync_dir(&self.dir).await?;
        Ok(Open { file, current: *current, end, next: 2, first_bytes: end, size })
    }

    fn path(&self, number: u64) -> String {
        join(&self.dir, &format!("{MANIFEST}{number:016x}"))
    }

    /// The name of the CURRENT to be that names a manifest.
    fn pointer(&self, number: u64) -> String {
        join(&self.dir, &format!("{CURRENT}-{number:016x}"))
    }
}

/// The manifest that CURRENT names, as it was read.
struct Found {
    path: String,
    trees: BTreeMap<ShardId, TreeRecord>,
    /// The last edit's bytes and where they stand.
    last: (u64, DiskBuf),
}

impl Found {
    async fn read<D: Disk>(disk: &D, dir: &str) -> Result<Found, StorageError> {
        let path = join(dir, CURRENT);
        let current = Current::decode(&read_whole(disk, &path).await?, &path)?;
        let path = join(dir, &format!("{MANIFEST}{:016x}", current.number));
        let bytes = match read_whole(disk, &path).await {
            Err(StorageError::Disk(DiskError::NotFound { .. })) => {
                return Err(damaged(&path, 0, "the manifest that CURRENT names", "no file"));
            }
            bytes => bytes?,
        };
        let recovered = recover::recover(&bytes, current.seed(), &path)?;
        let range = recovered.last_range;
        let mut last = DiskBuf::zeroed(range.len());
        last.copy_from_slice(&bytes[range.clone()]);
        Ok(Found { path, trees: recovered.trees, last: (range.start as u64, last) })
    }

    /// Makes sure that what was read is durable, without taking room: the last edit and CURRENT may have been seen before
    /// their syncs ended. The same bytes are written to the same place.
    async fn prove<D: Disk>(self, disk: &D, dir: &str) -> Result<(), StorageError> {
        let file = disk.open(&self.path, OpenMode::Write).await?;
        disk.commit(&file, self.last.0, self.last.1).await.0?;
        disk.sync_dir(dir).await?;
        Ok(())
    }
}

async fn read_whole<D: Disk>(disk: &D, path: &str) -> Result<DiskBuf, StorageError> {
    let file = disk.open(path, OpenMode::Read).await?;
    let bytes = disk.size(&file).await?;
    let (read, buf) = disk.read_at(&file, 0, DiskBuf::zeroed(bytes as usize)).await;
    let got = read?;
    if got as u64 != bytes || buf.len() != got {
        return Err(damaged(path, got as u64, format!("{bytes} bytes, whole pages"), format!("{got} bytes")));
    }
    Ok(buf)
}

fn sector_index(offset: u64) -> u32 {
    u32::try_from(offset / SECTOR_BYTES as u64).expect("a manifest is rewritten long before 2 TiB")
}

fn number_in(name: &str, prefix: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?, 16).ok()
}

/// A name in a directory; `""` is the root.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
mod tests;
