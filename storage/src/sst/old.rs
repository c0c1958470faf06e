//! Version 1 tables: their indexes are made into those of today when they are opened, their blocks when they are read
//! (FORMAT.md §2.7).

use crate::error::StorageError;
use crate::sst::block::{BLOCK_TARGET_MAX, Block, BlockBuilder};
use crate::sst::compress::Compressor;
use crate::sst::{Record, TableId, damaged};
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::limits::VALUE_BYTES_MAX;
use ringkv_wire::ring::hash::key_hash;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned, big_endian};

const KIND_VALUE: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Trailer {
    count: U16,
    kind: u8,
    zero: u8,
    crc: U32,
}

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct EntryHead {
    keyspace: U32,
    value_bytes: U32,
    version: U64,
    key_bytes: U16,
    kind: u8,
    zero: u8,
}

const _: () = assert!(size_of::<Trailer>() == 8);
const _: () = assert!(size_of::<EntryHead>() == 20);

/// An entry of the index.
#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct IndexEntry {
    before: [u8; 16],
    prefix: big_endian::U64,
    behind: [u8; 8],
}

const _: () = assert!(size_of::<IndexEntry>() == 32);

/// The index of so many blocks as it is laid today; none when the section cannot hold them.
pub(super) fn index(section: &[u8], blocks: usize) -> Option<Vec<u8>> {
    let (entries, keys) = section.split_at_checked(blocks.checked_mul(size_of::<IndexEntry>())?)?;
    let entries = <[IndexEntry]>::ref_from_bytes(entries).ok()?;
    let mut made = Vec::with_capacity(section.len());
    entries.iter().for_each(|entry| made.extend_from_slice(&entry.prefix.get().to_le_bytes()));
    entries.iter().for_each(|entry| made.extend_from_slice(&[&entry.before[..], &entry.behind].concat()));
    made.extend_from_slice(keys);
    Some(made)
}

/// Verifies the block at `offset` of table `id`, stored in `path`.
pub(super) fn verify(bytes: &[u8], id: &TableId, offset: u64, path: &str) -> Result<Block, StorageError> {
    let problem = |expected: &str, got: String| damaged(path, offset, expected, got);
    let body_end = bytes.len().saturating_sub(size_of::<Trailer>());
    let trailer = Trailer::read_from_bytes(&bytes[body_end..]).map_err(|_| problem("a trailer", "none".into()))?;
    let crc = id.checksum(offset, &bytes[..bytes.len() - size_of::<U32>()]);
    if crc != trailer.crc.get() {
        return Err(problem(&format!("crc {:#010x}", trailer.crc.get()), format!("{crc:#010x}")));
    }
    let count = usize::from(trailer.count.get());
    // Only an entry of its own made a block longer than the largest target.
    let plausible = trailer.kind == 0 && (count == 1 || (count > 1 && body_end <= BLOCK_TARGET_MAX));
    let entries_end = body_end.checked_sub(count * size_of::<U16>()).filter(|_| plausible);
    let entries = entries_end.map(|end| bytes.split_at(end));
    let Some((mut entries, offsets)) = entries else {
        return Err(problem("entries", format!("{count} in {} bytes", bytes.len())));
    };
    let (mut block, mut at) = (BlockBuilder::default(), 0);
    for number in 0..count {
        let expected = offsets.get(2 * number..).and_then(|offset| U16::read_from_prefix(offset).ok());
        let taken =
            expected.filter(|(offset, _)| usize::from(offset.get()) == at).and_then(|_| add(entries, &mut block));
        let Some(taken) = taken else {
            return Err(problem("entries without gaps", format!("entry {number} out of place")));
        };
        (entries, at) = (&entries[taken..], at + taken);
    }
    if !entries.is_empty() {
        return Err(problem("entries without gaps", format!("{} bytes behind them", entries.len())));
    }
    let mut made = Vec::new();
    block.finish(id, offset, &mut Compressor::default(), &mut made);
    Block::verify(Bytes::from(made), id, offset, path)
}

/// Adds the first entry; answers its bytes.
fn add(entries: &[u8], block: &mut BlockBuilder) -> Option<usize> {
    let (head, rest) = EntryHead::read_from_prefix(entries).ok()?;
    let (key, rest) = rest.split_at_checked(usize::from(head.key_bytes.get()))?;
    let value = rest.get(..head.value_bytes.get() as usize).filter(|value| value.len() <= VALUE_BYTES_MAX)?;
    let kept = match head.kind {
        KIND_VALUE => Some(value),
        KIND_TOMBSTONE if value.is_empty() => None,
        _ => return None,
    };
    let keyspace = KeyspaceId(head.keyspace.get());
    block.add((keyspace, key), key_hash(keyspace, key), &Record::new(head.version.get(), kept));
    Some(size_of::<EntryHead>() + key.len() + value.len())
}
