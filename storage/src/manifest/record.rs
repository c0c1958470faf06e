//! What the manifest says of a tree, and an edit's bytes (FORMAT.md §3.2).

use crate::compaction::choose::LAST_LEVEL;
use crate::disk::{ALIGN, DiskBuf};
use crate::manifest::sector::{self, PAYLOAD_BYTES, SECTOR_BYTES};
use crate::sst::properties::Properties;
use crate::sst::reader::TableRef;
use crate::sst::{TableId, TreeKey};
use crate::tree::snapshot::TABLE_BYTES_MAX;
use bytes::Bytes;
use ringkv_wire::codec::{Put, Reader, WireError};
use ringkv_wire::ids::{KeyspaceId, ShardId};

/// Newest version of a manifest that this build reads.
pub const MANIFEST_VERSION: u16 = 2;
pub(super) const EDIT_MAGIC: u32 = u32::from_le_bytes(*b"RKME");
/// Bytes of an edit before its records.
pub(super) const EDIT_HEAD_BYTES: usize = 32;
const SECTORS_PER_PAGE: usize = ALIGN / SECTOR_BYTES;
/// Bytes of a table before its keys; of version 1, where this was all.
const TABLE_BYTES: usize = 56;
const TABLE_BYTES_1: usize = 32;
/// A bound is kept up to this length.
const BOUND_BYTES_MAX: usize = 1024;
const GREATEST_CUT: u8 = 1;
/// Runs and files are counted up from 1.
const NUMBER_MAX: u64 = u64::MAX >> 1;

/// What is read, by name, and the most that is ever written.
type Limits<const N: usize> = [(&'static str, u64, u64); N];

fn limits_of(place: &TableRef) -> Limits<2> {
    [("file number", place.number, NUMBER_MAX), ("file bytes", place.bytes, TABLE_BYTES_MAX)]
}

fn within<const N: usize>(limits: &Limits<N>) -> Result<(), WireError> {
    match limits.iter().find(|(_, got, limit)| got > limit) {
        Some(&(what, got, limit)) => Err(WireError::Limit { what, got, limit }),
        None => Ok(()),
    }
}

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

/// Between which keys a table's lie. Long ones are cut, so that it may look wider than it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    least: (KeyspaceId, Bytes),
    greatest: (KeyspaceId, Bytes),
    /// All keys that begin like the greatest belong to it.
    greatest_cut: bool,
}

impl Bounds {
    /// From `least` to `greatest`, both included.
    pub fn of(least: TreeKey<'_>, greatest: TreeKey<'_>) -> Bounds {
        let kept = |key: TreeKey<'_>| (key.0, Bytes::copy_from_slice(key.1));
        Bounds { least: kept(least), greatest: kept(greatest), greatest_cut: false }
    }

    /// All keys.
    pub fn all() -> Bounds {
        let empty = |keyspace| (KeyspaceId(keyspace), Bytes::new());
        Bounds { least: empty(0), greatest: empty(u32::MAX), greatest_cut: true }
    }

    /// No key is less.
    #[inline]
    pub fn least(&self) -> TreeKey<'_> {
        (self.least.0, &self.least.1)
    }

    /// No key is greater, but those that begin like it when it was cut.
    #[inline]
    pub fn greatest(&self) -> TreeKey<'_> {
        (self.greatest.0, &self.greatest.1)
    }

    /// Whether only the beginning of the greatest key is known.
    pub fn greatest_is_cut(&self) -> bool {
        self.greatest_cut
    }

    /// Whether a key lies between them.
    #[inline]
    pub fn cover(&self, key: TreeKey<'_>) -> bool {
        let cut = || self.greatest_cut && key.0 == self.greatest.0 && key.1.starts_with(&self.greatest.1);
        self.least() <= key && (key <= self.greatest() || cut())
    }

    fn cut(&self) -> Bounds {
        let cut = |key: &(KeyspaceId, Bytes)| (key.0, key.1.slice(..key.1.len().min(BOUND_BYTES_MAX)));
        let greatest_cut = self.greatest_cut || self.greatest.1.len() > BOUND_BYTES_MAX;
        Bounds { least: cut(&self.least), greatest: cut(&self.greatest), greatest_cut }
    }
}

/// What the manifest says of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableEntry {
    /// Id, file, length.
    pub place: TableRef,
    /// 0: made by a flush, or from such tables only; else the level.
    pub level: u8,
    /// Tables of one level and one run do not overlap; of two runs of a level the higher number is newer.
    pub run: u64,
    /// Its keys.
    pub bounds: Bounds,
}

impl TableEntry {
    /// The same with the bounds that the open table tells.
    pub(crate) fn known_by(self, properties: &Properties) -> TableEntry {
        TableEntry { bounds: Bounds::of(properties.least(), properties.greatest()), ..self }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let bounds = self.bounds.cut();
        out.put(&self.place.id.0);
        for number in [self.place.number, self.place.bytes, self.run] {
            out.put_u64(number);
        }
        out.put(&[self.level, if bounds.greatest_cut { GREATEST_CUT } else { 0 }]);
        out.put_u16(bounds.least.1.len() as u16);
        out.put_u16(bounds.greatest.1.len() as u16);
        out.put_u16(0);
        out.put_u32(bounds.least.0.0);
        out.put_u32(bounds.greatest.0.0);
        out.put(&bounds.least.1);
        out.put(&bounds.greatest.1);
    }

    fn decode(r: &mut Reader) -> Result<TableEntry, WireError> {
        let place = TableRef { id: TableId(r.layout()?), number: r.u64()?, bytes: r.u64()? };
        let (run, level, flags) = (r.u64()?, r.u8()?, r.u8()?);
        within(&[("level", level.into(), LAST_LEVEL.into()), ("run", run, NUMBER_MAX)])?;
        within(&limits_of(&place))?;
        let (least_bytes, greatest_bytes, _) = (r.u16()?, r.u16()?, r.u16()?);
        let (least, greatest) = (KeyspaceId(r.u32()?), KeyspaceId(r.u32()?));
        let least = (least, Bytes::copy_from_slice(&r.take(usize::from(least_bytes))?));
        let greatest = (greatest, Bytes::copy_from_slice(&r.take(usize::from(greatest_bytes))?));
        let bounds = Bounds { least, greatest, greatest_cut: flags & GREATEST_CUT != 0 };
        Ok(TableEntry { place, level, run, bounds })
    }

    /// Table number `at` from the newest of `count`: version 1 knew neither levels nor bounds.
    fn decode_1(r: &mut Reader, at: usize, count: usize) -> Result<TableEntry, WireError> {
        let place = TableRef { id: TableId(r.layout()?), number: r.u64()?, bytes: r.u64()? };
        within(&limits_of(&place))?;
        Ok(TableEntry { place, level: 0, run: (count - at) as u64, bounds: Bounds::all() })
    }
}

/// The whole state of one tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeRecord {
    /// What the tables reflect.
    pub at: Flushed,
    /// The tables: those of one run side by side, newest run first.
    pub tables: Vec<TableEntry>,
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
        self.tables.iter().for_each(|table| table.encode(out));
    }

    fn decode(r: &mut Reader, version: u16) -> Result<(ShardId, TreeRecord), WireError> {
        let (shard, count) = (ShardId(r.u32()?), r.u32()? as usize);
        let (index, term, log_time_ms, config_index) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
        let config_bytes = r.u32()? as usize;
        r.u32()?;
        // Its own memory: the rest of the manifest is not kept.
        let config = Bytes::copy_from_slice(&r.take(config_bytes)?);
        let room = r.left() / if version == 1 { TABLE_BYTES_1 } else { TABLE_BYTES };
        if count > room {
            return Err(WireError::Limit { what: "tables", got: count as u64, limit: room as u64 });
        }
        let mut tables = Vec::with_capacity(count);
        for at in 0..count {
            let table = if version == 1 { TableEntry::decode_1(r, at, count)? } else { TableEntry::decode(r)? };
            tables.push(table);
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
pub(super) fn decode_records(body: Vec<u8>, count: u32, version: u16) -> Result<Vec<(ShardId, TreeRecord)>, WireError> {
    let mut r = Reader::new(Bytes::from(body));
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(TreeRecord::decode(&mut r, version)?);
    }
    r.finish()?;
    Ok(records)
}
