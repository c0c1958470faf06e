//! Reading a table in the order of its keys, either way: many blocks at a time past the block cache, or, for the first blocks of a walk
//! that is probably short, a few at a time through it.

use crate::cache::{Near, is_for_slot};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::iter::{Head, Span, Way};
use crate::sst::block::Block;
use crate::sst::index::BlockPlace;
use crate::sst::reader::Table;
use crate::sst::view::key_of;
use crate::sst::{Record, TreeKey, damaged};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// Bytes read at once.
const AHEAD_BYTES: u64 = 128 << 10;
/// The same while a walk is probably short: takes a disk hardly longer than one block.
const NEAR_BYTES: u64 = 16 << 10;
/// So many blocks of a walk are looked for in the cache, and kept there.
const NEAR_BLOCKS: usize = 8;

/// A scan over the records of a table, in order.
pub struct TableScan<D: Disk> {
    table: Arc<Table<D>>,
    way: Way,
    /// The number of the block that comes next.
    next_block: Option<usize>,
    /// The last block that the walk can need.
    last_block: usize,
    /// Where the first blocks are looked for and kept, and how many more of them.
    near: Option<(Arc<dyn Near>, usize)>,
    /// Bytes read ahead and where they start.
    ahead: (u64, Bytes),
    block: Option<Block>,
    /// The entry in that block, what it says, and its key as it is laid.
    at: usize,
    said: Said,
    key: Laid,
}

/// What the entry says that a scan stands at.
#[derive(Default)]
struct Said {
    version: u64,
    /// Where in the block the value stands.
    value: Option<Range<usize>>,
    expiry_ms: u64,
}

impl<D: Disk> TableScan<D> {
    /// A scan over all records, before the first one.
    pub fn new(table: Arc<Table<D>>) -> TableScan<D> {
        TableScan::starting_at(table, 0)
    }

    /// A scan from a block on.
    pub fn starting_at(table: Arc<Table<D>>, next_block: usize) -> TableScan<D> {
        let last_block = last_of(&table);
        TableScan {
            table,
            way: Way::Up,
            next_block: Some(next_block),
            last_block,
            near: None,
            ahead: (0, Bytes::new()),
            block: None,
            at: 0,
            said: Said::default(),
            key: Laid::default(),
        }
    }

    /// A scan at the first record of a span, seen in this direction; it ends with a block, behind the
    /// span's end.
    pub async fn within(table: Arc<Table<D>>, span: &Span, way: Way) -> Result<TableScan<D>, StorageError> {
        TableScan::near(table, span, way, None).await
    }

    /// The same, looking for the first blocks in `near`.
    pub(crate) async fn near(
        table: Arc<Table<D>>,
        span: &Span,
        way: Way,
        near: Option<Arc<dyn Near>>,
    ) -> Result<TableScan<D>, StorageError> {
        let near = near.map(|near| (near, NEAR_BLOCKS));
        let mut scan = TableScan { way, near, ..TableScan::new(table) };
        let (start, end) = (Some(span.start.as_slice()), span.end.as_deref());
        let ((edge, opposite), back) = match way {
            Way::Up => ((start, end), Way::Down),
            Way::Down => ((end, start), Way::Up),
        };
        scan.next_block = Some(block_at(&scan.table, edge, way));
        scan.last_block = block_at(&scan.table, opposite, back);
        scan.load().await?;
        if let (Some(block), Some(edge)) = (scan.block.as_ref().and_then(Block::view), edge) {
            let first_from = block.first_from(edge);
            match way {
                Way::Up if first_from == block.count() => return scan.loaded_next().await,
                Way::Up => scan.at = first_from,
                Way::Down if first_from == 0 => return scan.loaded_next().await,
                Way::Down => scan.at = first_from - 1,
            }
            scan.lay();
        }
        Ok(scan)
    }

    async fn loaded_next(mut self) -> Result<TableScan<D>, StorageError> {
        self.load().await?;
        Ok(self)
    }

    /// The table scanned.
    pub fn table(&self) -> &Arc<Table<D>> {
        &self.table
    }

    /// The key it stands at; none before the first step and at the end.
    #[inline]
    pub(crate) fn key(&self) -> Option<TreeKey<'_>> {
        self.block.as_ref().and_then(|_| key_of(self.key.bytes()))
    }

    /// The record it stands at; none before the first step and at the end.
    #[inline]
    pub fn head(&self) -> Option<Head<'_>> {
        let block = self.block.as_ref()?;
        let Said { version, ref value, expiry_ms } = self.said;
        let value = value.as_ref().map(|value| &block.raw()[value.clone()]);
        Some(Head { key: key_of(self.key.bytes())?, record: Record { version, value, expiry_ms } })
    }

    /// Whether what it stands at is a value, at a log time.
    #[inline]
    pub(crate) fn has_value(&self, log_time_ms: u64) -> bool {
        self.block.is_some() && self.said.value.is_some() && self.said.expiry_ms > log_time_ms
    }

    /// The value it stands at, sharing the memory of what was read ahead.
    pub fn value(&self) -> Option<Bytes> {
        Some(self.block.as_ref()?.slice(self.said.value.clone()?))
    }

    /// Goes one record on; false at the end.
    pub async fn next(&mut self) -> Result<bool, StorageError> {
        if self.next_in_block() {
            return Ok(true);
        }
        self.load().await
    }

    /// Goes on inside the block; false at its end.
    #[inline]
    pub fn next_in_block(&mut self) -> bool {
        let Some(block) = &self.block else { return false };
        match self.way {
            Way::Up if self.at + 1 < block.count() => self.at += 1,
            Way::Down if self.at > 0 => self.at -= 1,
            _ => return false,
        }
        self.lay();
        true
    }

    /// Looks at the entry it came to.
    #[inline]
    fn lay(&mut self) {
        if let Some(block) = &self.block
            && let Some(view) = block.view()
            && let Some(entry) = view.entry_here(self.at)
        {
            self.key.lay(block.prefix().len(), entry.suffix());
            let Record { version, expiry_ms, value } = entry.record;
            self.said = Said { version, value: value.map(|value| block.place_of(value)), expiry_ms };
        }
    }

    /// Goes to the next block's first record.
    async fn load(&mut self) -> Result<bool, StorageError> {
        self.block = self.next_block().await?.map(|(_, block)| block);
        self.at = match (&self.block, self.way) {
            (Some(block), Way::Down) => block.count() - 1,
            _ => 0,
        };
        self.key.lay(0, self.block.as_ref().map_or(&[], Block::prefix));
        self.lay();
        Ok(self.block.is_some())
    }

    /// The next block, verified; none at the end. As [`Table::read_block`] it believes in damage only after a second try.
    pub async fn next_block(&mut self) -> Result<Option<(BlockPlace, Block)>, StorageError> {
        let Some(place) = self.next_block.and_then(|number| self.place(number)) else { return Ok(None) };
        let block = match self.near_block(place) {
            Some(block) => block,
            None => self.far_block(place).await?,
        };
        self.next_block = match self.way {
            _ if place.number == self.last_block => None,
            Way::Up => Some(place.number + 1),
            Way::Down => place.number.checked_sub(1),
        };
        Ok(Some((place, block)))
    }

    /// A block that somebody keeps.
    fn near_block(&self, place: BlockPlace) -> Option<Block> {
        let (near, _) = self.near.as_ref()?;
        near.copy(self.table.in_cache(), place.number)
    }

    async fn far_block(&mut self, place: BlockPlace) -> Result<Block, StorageError> {
        let most = if self.near.is_some() { NEAR_BYTES } else { AHEAD_BYTES };
        let block = match self.read(place, most).await {
            Ok(block) => block,
            Err(_) => {
                // By itself: it may be a neighbour that cannot be read.
                self.ahead = (0, Bytes::new());
                let again = self.read(place, 0).await;
                again.inspect_err(|error| self.table.found_damaged(error))?
            }
        };
        if let Some((near, left)) = &mut self.near {
            // What is kept must not hold the memory of its neighbours.
            let shares = self.ahead.1.len() > place.bytes as usize && !is_for_slot(&block);
            let alone = if shares { block.view().map(Block::of) } else { None };
            near.keep(self.table.kept_as(), place.number, alone.as_ref().unwrap_or(&block));
            *left -= 1;
        }
        self.near.take_if(|(_, left)| *left == 0);
        Ok(block)
    }

    /// A block, read with neighbours that come next, up to so many bytes in all, unless it was so read before.
    async fn read(&mut self, place: BlockPlace, most: u64) -> Result<Block, StorageError> {
        let (start, bytes) = &self.ahead;
        if place.offset < *start || place.end() > start + bytes.len() as u64 {
            self.read_ahead(place, most).await?;
        }
        let from = (place.offset - self.ahead.0) as usize;
        let range = from..from + place.bytes as usize;
        if self.ahead.1.len() < range.end {
            return Err(damaged(self.table.path(), place.offset, "a block", "the end"));
        }
        self.table.verify_block(self.ahead.1.slice(range), place)
    }

    fn place(&self, number: usize) -> Option<BlockPlace> {
        self.table.index()?.place(number)
    }

    async fn read_ahead(&mut self, first: BlockPlace, most: u64) -> Result<(), StorageError> {
        let (mut start, mut end, mut number) = (first.offset, first.end(), first.number);
        while number != self.last_block {
            let next = match self.way {
                Way::Up => number.checked_add(1),
                Way::Down => number.checked_sub(1),
            };
            let Some(place) = next.and_then(|next| self.place(next)) else { break };
            number = place.number;
            let (low, high) = (start.min(place.offset), end.max(place.end()));
            if high - low > most {
                break;
            }
            // What the cache has is read only where it stands between others.
            if self.near.is_none() || !self.table.in_cache().1.have(number) {
                (start, end) = (low, high);
            }
        }
        self.ahead = (start, Bytes::new());
        self.ahead.1 = self.table.read_raw(start, (end - start) as usize).await?;
        Ok(())
    }
}

/// Longest part of a key that is copied as so many bytes, whatever its length: a call would cost more.
const PART_BYTES: usize = 16;

/// Memory for a key that is made at first: room for most, without a second allocation.
const KEY_BYTES_FIRST: usize = 64;

/// A key as it is laid.
#[derive(Default)]
struct Laid {
    buf: Vec<u8>,
    /// So many of them are the key.
    bytes: usize,
}

impl Laid {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buf[..self.bytes]
    }

    /// Keeps the first `kept` bytes, and lays a part behind them.
    #[inline]
    fn lay(&mut self, kept: usize, part: &[u8]) {
        self.bytes = kept + part.len();
        if self.buf.len() < self.bytes {
            self.buf.resize(self.bytes.max(KEY_BYTES_FIRST), 0);
        }
        let to = &mut self.buf[kept..];
        match (part.first_chunk::<8>(), part.last_chunk::<8>()) {
            // They overlap, or meet.
            (Some(first), Some(last)) if part.len() <= PART_BYTES => {
                to[..8].copy_from_slice(first);
                to[part.len() - 8..part.len()].copy_from_slice(last);
            }
            _ => to[..part.len()].copy_from_slice(part),
        }
    }
}

fn last_of(table: &Table<impl Disk>) -> usize {
    table.index().map_or(0, |index| index.blocks().saturating_sub(1))
}

/// The block where a walk this way begins that has this edge; where one the other way ends.
fn block_at(table: &Table<impl Disk>, edge: Option<&[u8]>, way: Way) -> usize {
    match (edge.and_then(key_of), way) {
        (Some(key), _) if key < table.properties().least() => 0,
        (Some(key), _) if table.properties().covers(key) => {
            table.index().and_then(|index| index.find(key)).unwrap_or(0)
        }
        (None, Way::Up) => 0,
        _ => last_of(table),
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
