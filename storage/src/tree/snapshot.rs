//! Shipping a tree as its tables, and installing one (Raft §7).

use crate::compaction::choose::LAST_LEVEL;
use crate::disk::{ALIGN, Disk, DiskBuf, OpenMode};
use crate::error::StorageError;
use crate::manifest::{Bounds, Flushed, TableEntry};
use crate::sst::TableId;
use crate::sst::reader::{Table, TableRef};
use crate::sst::verify::verify_table;
use crate::sst::writer::Unborn;
use crate::tree::Tree;
use crate::tree::run::Member;
use crate::tree::version::Version;
use bytes::Bytes;
use ringkv_wire::msg::snapshot::OfferedTable;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Largest table file taken from a peer, bytes.
pub const TABLE_BYTES_MAX: u64 = 1 << 44;

/// The durable tables of a tree at one moment; their files stay as long as this lives.
pub struct TableSet<D: Disk> {
    version: Rc<Version<D>>,
}

impl<D: Disk> Clone for TableSet<D> {
    fn clone(&self) -> TableSet<D> {
        TableSet { version: self.version.clone() }
    }
}

impl<D: Disk> TableSet<D> {
    /// What the tables reflect; all zero for a tree never flushed.
    pub fn at(&self) -> Flushed {
        self.version.at.clone().unwrap_or_default()
    }

    /// The tables: those of one sorted run side by side, by key, newest run first.
    pub fn list(&self) -> Vec<OfferedTable> {
        let offered = |table: &Arc<Table<D>>| OfferedTable { id: table.place().id.0, bytes: table.place().bytes };
        self.version.tables().map(offered).collect()
    }

    /// What is known to be wrong with the tables: then they are not for others.
    pub fn damage(&self) -> Option<StorageError> {
        self.version.damage()
    }

    /// Up to `bytes` bytes of a table's file from `offset`, verified; fewer only at its end. Who receives them verifies them
    /// again.
    pub async fn read(&self, table: [u8; 16], offset: u64, bytes: usize) -> Result<Bytes, StorageError> {
        let found = self.version.tables().find(|held| held.place().id.0 == table);
        let Some(found) = found else { return Err(transfer(table, "a table of this snapshot", "none")) };
        let left = found.place().bytes.saturating_sub(offset);
        found.read_proved(offset, left.min(bytes as u64) as usize).await
    }
}

fn transfer(table: [u8; 16], expected: impl ToString, got: impl ToString) -> StorageError {
    StorageError::Transfer { table: TableId(table).to_string(), expected: expected.to_string(), got: got.to_string() }
}

/// Tables in the order of [`TableSet::list`] as members of a tree: tables that follow each other by key make a run, whatever the
/// sender had them in. What is oldest goes to the last level, the rest counts as flushed. The order itself is believed: between
/// levels versions do not tell it.
fn arranged<D: Disk>(tables: Vec<Arc<Table<D>>>) -> Vec<Member<D>> {
    let follows = |a: &Arc<Table<D>>, b: &Arc<Table<D>>| a.properties().greatest() < b.properties().least();
    let runs: Vec<_> = tables.chunk_by(follows).collect();
    let mut members = Vec::with_capacity(tables.len());
    for (older, run) in (0..runs.len() as u64).rev().zip(&runs) {
        let level = if older == 0 { LAST_LEVEL } else { 0 };
        members.extend(run.iter().map(|table| {
            let bounds = Bounds::of(table.properties().least(), table.properties().greatest());
            let entry = Arc::new(TableEntry { place: table.place(), level, run: older, bounds });
            Member { entry, table: Ok(table.clone()) }
        }));
    }
    members
}

/// A table on its way here.
struct Incoming<D: Disk> {
    file: D::File,
    place: TableRef,
    received: u64,
    /// Bytes behind the last whole page.
    rest: Vec<u8>,
    unborn: Unborn,
}

/// Takes a snapshot of a tree, table by table. Dropped before it is installed, it leaves nothing.
pub struct Receiver<D: Disk> {
    tree: Tree<D>,
    incoming: RefCell<BTreeMap<[u8; 16], Incoming<D>>>,
}

impl<D: Disk> Tree<D> {
    /// The durable tables, pinned, for shipping.
    pub fn tables(&self) -> TableSet<D> {
        TableSet { version: self.state.version() }
    }

    /// For an incoming snapshot of this tree.
    pub fn receive(&self) -> Receiver<D> {
        Receiver { tree: self.clone(), incoming: RefCell::default() }
    }
}

impl<D: Disk> Receiver<D> {
    /// Takes bytes of a table of `total` bytes. The pieces of one table come in order; what was already received is
    /// ignored, a gap is an error. After an error of the disk the table starts again from 0. One write of a table at a
    /// time.
    pub async fn write(&self, table: [u8; 16], total: u64, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        // Taken out while it is written: a failed or dropped write forgets the table.
        let taken = self.incoming.borrow_mut().remove(&table);
        let mut incoming = match taken {
            Some(incoming) => incoming,
            None => self.begin(table, total).await?,
        };
        let received = self.append(&mut incoming, total, offset, bytes).await;
        if !matches!(received, Err(StorageError::Disk(_))) {
            self.incoming.borrow_mut().insert(table, incoming);
        }
        received
    }

    /// Bytes received of a table, from its start.
    pub fn received(&self, table: [u8; 16]) -> u64 {
        self.incoming.borrow().get(&table).map_or(0, |incoming| incoming.received)
    }

    async fn begin(&self, table: [u8; 16], total: u64) -> Result<Incoming<D>, StorageError> {
        if total < ALIGN as u64 || total > TABLE_BYTES_MAX || !total.is_multiple_of(ALIGN as u64) {
            return Err(transfer(table, "whole pages, at least one", format!("{total} bytes")));
        }
        let engine = &self.tree.engine;
        let (number, path) = engine.new_file();
        let unborn = Unborn::new(path.clone(), engine.trash.clone());
        let file = engine.disk.open(&path, OpenMode::Create).await?;
        let place = TableRef { id: TableId(table), number, bytes: total };
        Ok(Incoming { file, place, received: 0, rest: Vec::new(), unborn })
    }

    async fn append(
        &self,
        incoming: &mut Incoming<D>,
        total: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let (id, have) = (incoming.place.id.0, incoming.received);
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= total);
        let Some(end) = end.filter(|_| total == incoming.place.bytes) else {
            return Err(transfer(
                id,
                format!("{} bytes", incoming.place.bytes),
                format!("{offset} + {} of {total}", bytes.len()),
            ));
        };
        if offset > have {
            return Err(transfer(id, format!("the bytes from {have}"), format!("those from {offset}")));
        }
        let fresh = bytes.get((have - offset) as usize..).unwrap_or_default();
        if fresh.is_empty() {
            return Ok(());
        }
        incoming.rest.extend_from_slice(fresh);
        incoming.received = end;
        let pages = incoming.rest.len() / ALIGN * ALIGN;
        if pages > 0 {
            let at = end - incoming.rest.len() as u64;
            let mut buf = DiskBuf::zeroed(pages);
            buf.copy_from_slice(&incoming.rest[..pages]);
            incoming.rest.drain(..pages);
            self.tree.engine.disk.write_at(&incoming.file, at, buf).await.0?;
        }
        Ok(())
    }

    /// Verifies the received tables wholly and makes them, in the order of [`TableSet::list`], all that the tree is: the memtables
    /// go too. A table not wholly received, or damaged, is an error and changes nothing; so does a failure of the disk.
    pub async fn install(self, at: Flushed, tables: &[[u8; 16]]) -> Result<(), StorageError> {
        let (tree, engine) = (&self.tree, &self.tree.engine);
        let _pass = tree.state.flushing.enter().await;
        let installed = self.install_now(at, tables).await;
        drop(self.incoming.take());
        engine.sweep().await;
        installed
    }

    async fn install_now(&self, at: Flushed, ids: &[[u8; 16]]) -> Result<(), StorageError> {
        let (tree, engine) = (&self.tree, &self.tree.engine);
        let mut tables = Vec::new();
        for id in ids {
            let place = self.synced(*id).await?;
            let table = engine.open_table(place).await?;
            verify_table(&table).await?;
            if table.properties().version_max > at.index {
                return Err(transfer(*id, format!("versions up to {}", at.index), table.properties().version_max));
            }
            tables.push(table);
        }
        engine.disk.sync_dir(&engine.tables_dir).await?;

        let edit = engine.manifest.edit().await;
        let before = tree.state.version();
        let version = Version::of(Some(at), arranged(tables));
        edit.commit(tree.state.shard, version.record()).await?;
        for (_, incoming) in self.incoming.take() {
            if ids.contains(&incoming.place.id.0) {
                incoming.unborn.keep();
            }
        }
        tree.show(version);
        before.doom(engine, |_| true);
        let newest = tree.state.freeze();
        drop(edit);
        tree.forget_frozen(newest).await;
        Ok(())
    }

    /// The place of a table that was wholly received, its file synced.
    async fn synced(&self, id: [u8; 16]) -> Result<TableRef, StorageError> {
        let found =
            self.incoming.borrow().get(&id).map(|incoming| (incoming.file.clone(), incoming.place, incoming.received));
        let Some((file, place, received)) = found else { return Err(transfer(id, "the table", "nothing")) };
        if received != place.bytes {
            return Err(transfer(id, format!("{} bytes", place.bytes), format!("{received} bytes")));
        }
        self.tree.engine.disk.sync(&file).await?;
        Ok(place)
    }
}
