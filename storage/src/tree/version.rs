//! The durable side of a tree, swapped whole.

use crate::cache::BlockCache;
use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::manifest::{Flushed, TreeRecord};
use crate::sst::reader::{Found, Table, TableRef};
use crate::tree::{Lookup, Sought};
use std::rc::Rc;

/// What the manifest says of a tree, opened.
pub(crate) struct Version<D: Disk> {
    pub(crate) at: Option<Flushed>,
    /// Newest first.
    pub(crate) tables: Vec<Rc<Table<D>>>,
    /// What is older than all of them and not open.
    pub(crate) closed: Option<Rc<Closed>>,
}

/// A table that could not be opened, and all that are older than it: without it nobody knows what they still mean. The
/// manifest goes on naming them.
pub(crate) struct Closed {
    pub(crate) error: StorageError,
    pub(crate) places: Vec<TableRef>,
}

impl<D: Disk> Version<D> {
    /// Nothing was ever flushed.
    pub(crate) fn empty() -> Version<D> {
        Version { at: None, tables: Vec::new(), closed: None }
    }

    /// Opens the tables of a record, newest first, up to one that is damaged.
    pub(crate) async fn open(engine: &EngineState<D>, record: TreeRecord) -> Result<Version<D>, StorageError> {
        let mut tables = Vec::with_capacity(record.tables.len());
        let mut closed = None;
        for (number, place) in record.tables.iter().enumerate() {
            let opened = match engine.open_table(*place).await {
                // As a block, it is believed to be damaged when it is so twice.
                Err(error) if error.is_damage() => engine.open_table(*place).await,
                opened => opened,
            };
            match opened {
                Ok(table) => tables.push(table),
                Err(error) if error.is_damage() => {
                    closed = Some(Rc::new(Closed { error, places: record.tables[number..].to_vec() }));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Version { at: Some(record.at), tables, closed })
    }

    /// Looks a key up in filters and the block cache, and tells `each`.
    pub(crate) fn look(&self, cache: &BlockCache, key: Sought<'_>, each: &mut impl FnMut(Lookup<'_>)) {
        for table in &self.tables {
            match table.find_now((key.keyspace, key.key), key.hash, cache) {
                Found::Value(found) => return each(Lookup::Found { version: found.version, value: &found.value }),
                Found::Deleted => return each(Lookup::Absent),
                Found::Nothing => {}
                Found::Block(_) => return each(Lookup::Disk),
            }
        }
        // What a table that is not open holds is an error: for `get` to tell.
        each(if self.closed.is_some() { Lookup::Disk } else { Lookup::Absent });
    }

    /// The same with other open tables.
    pub(crate) fn with(&self, at: Option<Flushed>, tables: Vec<Rc<Table<D>>>) -> Version<D> {
        Version { at, tables, closed: self.closed.clone() }
    }

    /// What the manifest is to say.
    pub(crate) fn record(&self) -> TreeRecord {
        let open = self.tables.iter().map(|table| table.place());
        let closed = self.closed.iter().flat_map(|closed| closed.places.iter().copied());
        TreeRecord { at: self.at.clone().unwrap_or_default(), tables: open.chain(closed).collect() }
    }

    /// Why the oldest part is not open.
    pub(crate) fn closed_by(&self) -> Option<StorageError> {
        self.closed.as_ref().map(|closed| closed.error.clone())
    }

    /// The first thing known to be wrong with any table.
    pub(crate) fn damage(&self) -> Option<StorageError> {
        self.closed_by().or_else(|| self.tables.iter().find_map(|table| table.damage()))
    }

    /// The manifest no longer names these tables: their files go, those that are read when their last reader has gone.
    pub(crate) fn doom(&self, engine: &EngineState<D>) {
        self.tables.iter().for_each(|table| table.doom());
        let closed = self.closed.iter().flat_map(|closed| &closed.places);
        engine.trash.borrow_mut().extend(closed.map(|place| engine.table_path(place.number)));
    }
}
