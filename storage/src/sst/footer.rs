//! The footer: the last 128 bytes of a table say where everything is (FORMAT.md §2.5).

use crate::disk::ALIGN;
use crate::error::StorageError;
use crate::sst::{TableId, damaged};
use std::ops::Range;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of the footer.
pub const FOOTER_BYTES: usize = size_of::<Layout>();
/// Newest version of a table that this build reads: one with entries that expire.
pub const TABLE_VERSION: u16 = 3;
/// The version of a table without.
pub const TABLE_VERSION_LASTING: u16 = 2;
const MAGIC: [u8; 4] = *b"RKST";

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: U16,
    flags: U16,
    id: [u8; 16],
    file_bytes: U64,
    blocks_bytes: U64,
    index_offset: U64,
    index_bytes: U64,
    index_entries: U32,
    index_crc: U32,
    filter_offset: U64,
    filter_bytes: U64,
    filter_pieces: U32,
    filter_crc: U32,
    properties_offset: U64,
    properties_bytes: U32,
    properties_crc: U32,
    skip: U16,
    zero: [u8; 18],
    crc: U32,
}

const _: () = assert!(size_of::<Layout>() == 128);
const _: () = assert!(std::mem::offset_of!(Layout, index_offset) == 40);
const _: () = assert!(std::mem::offset_of!(Layout, filter_offset) == 64);
const _: () = assert!(std::mem::offset_of!(Layout, properties_offset) == 88);
const _: () = assert!(std::mem::offset_of!(Layout, skip) == 104);
const _: () = assert!(std::mem::offset_of!(Layout, crc) == 124);

/// A section behind the blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Its bytes in the file.
    pub range: Range<u64>,
    /// Its checksum, from the seed of its offset.
    pub crc: u32,
}

impl Section {
    /// The section that `bytes` make at `offset` of table `id`.
    pub fn of(id: &TableId, offset: u64, bytes: &[u8]) -> Section {
        Section { range: offset..offset + bytes.len() as u64, crc: id.checksum(offset, bytes) }
    }
}

/// What the footer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The table.
    pub id: TableId,
    /// Length of the file.
    pub file_bytes: u64,
    /// Length of the blocks section, which starts at 0.
    pub blocks_bytes: u64,
    /// The index.
    pub index: Section,
    /// Blocks it lists.
    pub blocks: u32,
    /// The filter; empty when there is none.
    pub filter: Section,
    /// Pieces of the filter.
    pub pieces: u32,
    /// The properties.
    pub properties: Section,
    /// Bytes that all keys share and the index leaves out.
    pub skip: u16,
    /// The format of blocks and index.
    pub version: u16,
}

impl Footer {
    /// The bytes that end the file.
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let bytes_of = |range: &Range<u64>| range.end - range.start;
        let mut layout = Layout {
            magic: MAGIC,
            version: U16::new(self.version),
            flags: U16::new(0),
            id: self.id.0,
            file_bytes: U64::new(self.file_bytes),
            blocks_bytes: U64::new(self.blocks_bytes),
            index_offset: U64::new(self.index.range.start),
            index_bytes: U64::new(bytes_of(&self.index.range)),
            index_entries: U32::new(self.blocks),
            index_crc: U32::new(self.index.crc),
            filter_offset: U64::new(self.filter.range.start),
            filter_bytes: U64::new(bytes_of(&self.filter.range)),
            filter_pieces: U32::new(self.pieces),
            filter_crc: U32::new(self.filter.crc),
            properties_offset: U64::new(self.properties.range.start),
            properties_bytes: U32::new(bytes_of(&self.properties.range) as u32),
            properties_crc: U32::new(self.properties.crc),
            skip: U16::new(self.skip),
            zero: [0; 18],
            crc: U32::new(0),
        };
        let offset = self.file_bytes - FOOTER_BYTES as u64;
        layout.crc = U32::new(self.id.checksum(offset, &layout.as_bytes()[..FOOTER_BYTES - size_of::<U32>()]));
        zerocopy::transmute!(layout)
    }

    /// Reads the footer of a file of `file_bytes`, named `path`, from its last bytes.
    pub fn decode(bytes: &[u8], file_bytes: u64, path: &str) -> Result<Footer, StorageError> {
        let offset = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        let problem = |expected: &str, got: String| damaged(path, offset, expected, got);
        let layout =
            Layout::read_from_bytes(bytes).map_err(|_| problem("a footer", format!("{} bytes", bytes.len())))?;
        if layout.magic != MAGIC {
            return Err(problem("magic RKST", format!("{:02x?}", layout.magic)));
        }
        let id = TableId(layout.id);
        let crc = id.checksum(offset, &bytes[..FOOTER_BYTES - size_of::<U32>()]);
        if crc != layout.crc.get() {
            return Err(problem(&format!("crc {:#010x}", layout.crc.get()), format!("{crc:#010x}")));
        }
        let version = layout.version.get();
        if version > TABLE_VERSION {
            let path = path.to_owned();
            return Err(StorageError::Newer { path, got: version.into(), known: TABLE_VERSION.into() });
        }
        let section = |start: U64, bytes: u64, crc: U32| {
            let end = start.get().saturating_add(bytes);
            Section { range: start.get()..end, crc: crc.get() }
        };
        let footer = Footer {
            id,
            file_bytes: layout.file_bytes.get(),
            blocks_bytes: layout.blocks_bytes.get(),
            index: section(layout.index_offset, layout.index_bytes.get(), layout.index_crc),
            blocks: layout.index_entries.get(),
            filter: section(layout.filter_offset, layout.filter_bytes.get(), layout.filter_crc),
            pieces: layout.filter_pieces.get(),
            properties: section(layout.properties_offset, layout.properties_bytes.get().into(), layout.properties_crc),
            skip: layout.skip.get(),
            version,
        };
        if version == 0 || !footer.in_order(file_bytes) {
            return Err(problem("sections in order", format!("{footer:?}")));
        }
        Ok(footer)
    }

    /// Whether the sections stand in order, one behind the other, in a file of this length.
    fn in_order(&self, file_bytes: u64) -> bool {
        let sections_end = file_bytes.saturating_sub(FOOTER_BYTES as u64);
        self.file_bytes == file_bytes
            && file_bytes.is_multiple_of(ALIGN as u64)
            && self.blocks_bytes <= self.index.range.start
            && self.index.range.end == self.filter.range.start
            && self.filter.range.end == self.properties.range.start
            && self.properties.range.end <= sections_end
            && (self.pieces == 0) == self.filter.range.is_empty()
    }
}
