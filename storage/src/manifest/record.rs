//! What the manifest says of a tree, and an edit's bytes (FORMAT.md §3.2).

use crate::disk::{ALIGN, DiskBuf};
use crate::manifest::sector::{self, PAYLOAD_BYTES, SECTOR_BYTES};
use crate::sst::TableId;
use crate::sst::reader::TableRef;
use bytes::Bytes;
use ringkv_wire::codec::{Put, Reader, WireError};
use ringkv_wire::ids::ShardId;

/// Newest version of a manifest that this build reads.
pub const MANIFEST_VERSION: u16 = 1;
pub(super) const EDIT_MAGIC: u32 = u32::from_le_bytes(*b"RKME");
/// Bytes of an edit before its records.
pub(super) const EDIT_HEAD_BYTES: usize = 32;
const SECTORS_PER_PAGE: usize = ALIGN / SECTOR_BYTES;
const TABLE_BYTES: usize = 32;

/// What a tree's tables reflect: the state of its shard at a log index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Everything up to this log index is in the tables.
    pub index: u64,
    /// The term of the entry at that index.
    pub term: u64,
    /// Log time at that index, ms.
    pub log_time_ms: u64,
    /// Index of the active configuration.
    pub config_index: u64,
    /// The active configuration, encoded.
    pub config: Bytes,
}

/// The whole state of one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeRecord {
    /// What the tables reflect.
    pub at: Flushed,
    /// The tables, newest first.
    pub tables: Vec<TableRef>,
}

impl TreeRecord {
    fn encode(&self, shard: ShardId, out: &mut Vec<u8>) {
        out.put_u32(shard.0);
        out.put_u32(self.tables.len() as u32);
        for number in [self.at.index, self.at.term, self.at.log_time_ms, self.at.config_index] {
            out.put_u64(number);
        }
        out.put_u32(self.at.config.len() as u32);
        out.put_u32(0);
        out.put(&self.at.config);
        for table in &self.tables {
            out.put(&table.id.0);
            out.put_u64(table.number);
            out.put_u64(table.bytes);
        }
    }

    fn decode(r: &mut Reader) -> Result<(ShardId, TreeRecord), WireError> {
        let (shard, count) = (ShardId(r.u32()?), r.u32()? as usize);
        let (index, term, log_time_ms, config_index) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let config_bytes = r.u32()? as usize;
        r.u32()?;
        // Its own memory: the rest of the manifest is not kept.
        let config = Bytes::copy_from_slice(&r.take(config_bytes)?);
        let room = r.left() / TABLE_BYTES;
        if count > room {
            return Err(WireError::Limit { what: "tables", got: count as u64, limit: room as u64 });
        }
        let mut tables = Vec::with_capacity(count);
        for _ in 0..count {
            tables.push(TableRef { id: TableId(r.layout()?), number: r.u64()?, bytes: r.u64()? });
        }
        Ok((shard, TreeRecord { at: Flushed { index, term, log_time_ms, config_index, config }, tables }))
    }
}

/// The pages of edit `number`, to stand from sector `index` of the manifest on. `seed` is the checksum of the
/// manifest's id.
pub(super) fn encode_edit<'r>(
    seed: u32,
    number: u64,
    index: u32,
    records: impl Iterator<Item = (&'r ShardId, &'r TreeRecord)>,
) -> DiskBuf {
    let (mut body, mut count) = (Vec::new(), 0);
    for (shard, record) in records {
        record.encode(*shard, &mut body);
        count += 1;
    }
    let sectors = (EDIT_HEAD_BYTES + body.len()).div_ceil(PAYLOAD_BYTES).next_multiple_of(SECTORS_PER_PAGE);
    let mut payload = Vec::with_capacity(EDIT_HEAD_BYTES + body.len());
    payload.put_u32(EDIT_MAGIC);
    payload.put_u16(MANIFEST_VERSION);
    payload.put_u16(0);
    payload.put_u64(number);
    payload.put_u32(sectors as u32);
    payload.put_u32(body.len() as u32);
    payload.put_u32(count);
    payload.put_u32(0);
    assert_eq!(payload.len(), EDIT_HEAD_BYTES);
    payload.put(&body);
    let mut buf = DiskBuf::zeroed(sectors * SECTOR_BYTES);
    sector::pack(seed, number, index, &payload, &mut buf);
    buf
}

/// The head of an edit.
#[derive(Clone, Copy, Debug)]
pub(super) struct EditHead {
    pub(super) magic: u32,
    pub(super) version: u16,
    pub(super) number: u64,
    pub(super) sectors: u32,
    pub(super) bytes: u32,
    pub(super) records: u32,
}

impl EditHead {
    pub(super) fn decode(payload: &[u8]) -> Result<EditHead, WireError> {
        let mut r = Reader::new(Bytes::copy_from_slice(payload.get(..EDIT_HEAD_BYTES).unwrap_or_default()));
        let (magic, version, _) = (r.u32()?, r.u16()?, r.u16()?);
        Ok(EditHead { magic, version, number: r.u64()?, sectors: r.u32()?, bytes: r.u32()?, records: r.u32()? })
    }
}

/// The records of an edit's body.
pub(super) fn decode_records(body: Vec<u8>, count: u32) -> Result<Vec<(ShardId, TreeRecord)>, WireError> {
    let mut r = Reader::new(Bytes::from(body));
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(TreeRecord::decode(&mut r)?);
    }
    r.finish()?;
    Ok(records)
}
