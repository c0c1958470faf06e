//! Makes the bytes of a table in memory, from records in order.

use crate::disk::ALIGN;
use crate::sst::block::{BLOCK_TARGET_MAX, BlockBuilder};
use crate::sst::compress::{Compression, Compressor};
use crate::sst::filter::FilterBuilder;
use crate::sst::footer::{FOOTER_BYTES, Footer, Section, TABLE_VERSION, TABLE_VERSION_LASTING};
use crate::sst::index::{IndexBuilder, shared_bytes};
use crate::sst::properties::Properties;
use crate::sst::{Record, TableId, TreeKey};
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::ring::hash::key_hash;

/// Makes a table. What it has made is taken from the front while more is added.
pub struct TableBuilder {
    id: TableId,
    block_target: usize,
    block: BlockBuilder,
    compressor: Compressor,
    /// First key of the open block.
    block_first: (KeyspaceId, Vec<u8>),
    /// Last key of the block before the open one.
    block_before: Option<(KeyspaceId, Vec<u8>)>,
    out: Vec<u8>,
    /// Bytes of `out` already taken, and bytes taken in all but those.
    head: usize,
    gone: u64,
    index: IndexBuilder,
    filter: FilterBuilder,
    properties: Properties,
}

impl TableBuilder {
    /// A table `id` in blocks of about `block_target` bytes before their compression.
    pub fn new(id: TableId, block_target: usize, compression: Compression) -> TableBuilder {
        assert!((512..=BLOCK_TARGET_MAX).contains(&block_target), "a block's target is 512 to 32,768 bytes");
        TableBuilder {
            id,
            block_target,
            block: BlockBuilder::default(),
            compressor: Compressor::new(compression),
            block_first: (KeyspaceId(0), Vec::new()),
            block_before: None,
            out: Vec::new(),
            head: 0,
            gone: 0,
            index: IndexBuilder::default(),
            filter: FilterBuilder::default(),
            properties: Properties::default(),
        }
    }

    /// Adds a record; its key is greater than the one before.
    pub fn add(&mut self, key: TreeKey<'_>, record: &Record<'_>) {
        assert!(self.is_empty() || self.properties.greatest() < key, "keys come in order, each once");
        let hash = key_hash(key.0, key.1);
        let mut bytes = self.block.bytes_with(key, record);
        if !self.block.is_empty() && bytes > self.block_target {
            self.close_block();
            bytes = self.block.bytes_with(key, record);
        }
        if self.block.is_empty() {
            self.block_first.0 = key.0;
            self.block_first.1.clear();
            self.block_first.1.extend_from_slice(key.1);
        }
        self.block.add(key, hash, record);
        self.filter.add(self.id.filter_hash(hash));
        self.properties.count(key, record);
        if bytes > self.block_target {
            self.close_block();
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.properties.entries == 0
    }

    fn offset(&self) -> u64 {
        self.gone + self.out.len() as u64
    }

    fn close_block(&mut self) {
        let padding = self.offset().next_multiple_of(ALIGN as u64) - self.offset();
        if padding as usize <= self.block_target / 8 {
            self.out.resize(self.out.len() + padding as usize, 0);
        }
        let offset = self.offset();
        let bytes = self.block.finish(&self.id, offset, &mut self.compressor, &mut self.out);
        let before = self.block_before.as_ref().map(|(keyspace, key)| (*keyspace, key.as_slice()));
        self.index.add(before, (self.block_first.0, &self.block_first.1), offset, bytes);
        let (keyspace, key) = self.properties.greatest();
        self.block_before = Some((keyspace, key.to_vec()));
    }

    /// Bytes of the blocks so far.
    pub fn bytes(&self) -> u64 {
        self.offset()
    }

    /// Bytes made and not yet taken.
    pub fn pending(&self) -> usize {
        self.out.len() - self.head
    }

    /// Takes from the front into `to`, whole pages of 4,096 bytes only; answers how many bytes.
    pub fn take(&mut self, to: &mut [u8]) -> usize {
        let bytes = to.len().min(self.pending()) / ALIGN * ALIGN;
        to[..bytes].copy_from_slice(&self.out[self.head..self.head + bytes]);
        self.head += bytes;
        // Moving the rest is paid for by what was taken.
        if self.head >= self.out.len() / 2 {
            self.out.drain(..self.head);
            self.gone += std::mem::take(&mut self.head) as u64;
        }
        bytes
    }

    /// A slice of the work left after the last record; false when [`TableBuilder::finish`] may be called.
    pub fn step(&mut self) -> bool {
        if !self.block.is_empty() {
            self.close_block();
        }
        // One block: a filter would save the read of that block only, and costs as much memory as the block.
        self.index.blocks() > 1 && self.filter.step()
    }

    /// Ends the table; the rest of its bytes is there to be taken. Answers its footer.
    pub fn finish(&mut self) -> Footer {
        assert!(!self.is_empty(), "a table has at least one entry");
        while self.step() {}
        let blocks_bytes = self.offset();
        let blocks = self.index.blocks() as u32;
        let skip = shared_bytes(self.properties.least(), self.properties.greatest());
        let index = self.section(|builder, out| std::mem::take(&mut builder.index).finish(skip, out));
        let mut pieces = 0;
        let filter = self.section(|builder, out| {
            let filter = std::mem::take(&mut builder.filter);
            pieces = if blocks > 1 { filter.finish(out) } else { 0 };
        });
        let properties = self.section(|builder, out| builder.properties.encode(out));
        let end = (self.offset() + FOOTER_BYTES as u64).next_multiple_of(ALIGN as u64);
        let (id, file_bytes) = (self.id, end);
        // Who knows nothing of expiry can read what does not expire.
        let version = if self.properties.expiring.is_some() { TABLE_VERSION } else { TABLE_VERSION_LASTING };
        let footer = Footer { id, file_bytes, blocks_bytes, index, blocks, filter, pieces, properties, skip, version };
        self.out.resize((end - self.gone) as usize - FOOTER_BYTES, 0);
        self.out.extend_from_slice(&footer.encode());
        assert_eq!(self.offset(), end, "the footer ends the file");
        footer
    }

    fn section(&mut self, append: impl FnOnce(&mut TableBuilder, &mut Vec<u8>)) -> Section {
        let offset = self.offset();
        let mut bytes = Vec::new();
        append(self, &mut bytes);
        let section = Section::of(&self.id, offset, &bytes);
        self.out.append(&mut bytes);
        section
    }
}

#[cfg(test)]
#[path = "builder_tests.rs"]
mod tests;
