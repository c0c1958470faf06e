//! Reading a table from one end to the other, many blocks at a time, past the block cache.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::sst::block::Block;
use crate::sst::index::BlockPlace;
use crate::sst::reader::Table;
use crate::sst::{Record, damaged};
use bytes::Bytes;
use std::rc::Rc;

/// Bytes read at once.
const AHEAD_BYTES: u64 = 128 << 10;

/// A scan over all records of a table, in order.
pub struct TableScan<D: Disk> {
    table: Rc<Table<D>>,
    next_block: usize,
    /// Bytes read ahead and where they start.
    ahead: (u64, Bytes),
    block: Option<(Block, usize)>,
}

impl<D: Disk> TableScan<D> {
    /// A scan from the first record on.
    pub fn new(table: Rc<Table<D>>) -> TableScan<D> {
        TableScan::starting_at(table, 0)
    }

    /// A scan from a block on.
    pub fn starting_at(table: Rc<Table<D>>, next_block: usize) -> TableScan<D> {
        TableScan { table, next_block, ahead: (0, Bytes::new()), block: None }
    }

    /// The table scanned.
    pub fn table(&self) -> &Rc<Table<D>> {
        &self.table
    }

    /// The next record; none at the end.
    pub async fn next(&mut self) -> Result<Option<Record>, StorageError> {
        loop {
            if let Some((block, at)) = &mut self.block
                && let Some(record) = block.record(*at)
            {
                *at += 1;
                return Ok(Some(record));
            }
            match self.next_block().await? {
                Some((_, block)) => self.block = Some((block, 0)),
                None => return Ok(None),
            }
        }
    }

    /// The next block, verified; none at the end. As [`Table::read_block`] it believes in damage only after a second try.
    pub async fn next_block(&mut self) -> Result<Option<(BlockPlace, Block)>, StorageError> {
        let Some(place) = self.place(self.next_block) else { return Ok(None) };
        let block = match self.read(place).await {
            Ok(block) => block,
            Err(_) => {
                self.ahead = (0, Bytes::new());
                let again = self.read(place).await;
                again.inspect_err(|error| self.table.found_damaged(error))?
            }
        };
        self.next_block += 1;
        Ok(Some((place, block)))
    }

    async fn read(&mut self, place: BlockPlace) -> Result<Block, StorageError> {
        let (start, bytes) = &self.ahead;
        if place.offset < *start || place.end() > start + bytes.len() as u64 {
            self.read_ahead(place).await?;
        }
        let from = (place.offset - self.ahead.0) as usize;
        let range = from..from + place.bytes as usize;
        if self.ahead.1.len() < range.end {
            return Err(damaged(self.table.path(), place.offset, "a block", "the end"));
        }
        Block::verify(self.ahead.1.slice(range), &self.table.place().id, place.offset, self.table.path())
    }

    fn place(&self, number: usize) -> Option<BlockPlace> {
        self.table.index()?.place(number)
    }

    async fn read_ahead(&mut self, first: BlockPlace) -> Result<(), StorageError> {
        let (mut end, mut number) = (first.end(), first.number + 1);
        while let Some(place) = self.place(number).filter(|place| place.end() - first.offset <= AHEAD_BYTES) {
            (end, number) = (place.end(), number + 1);
        }
        self.ahead = (first.offset, Bytes::new());
        self.ahead.1 = self.table.read_raw(first.offset, (end - first.offset) as usize).await?;
        Ok(())
    }
}
