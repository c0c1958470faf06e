//! Reading a manifest back, telling a torn tail from rot (FORMAT.md §3.4).

use crate::disk::ALIGN;
use crate::error::StorageError;
use crate::manifest::record::{self, EDIT_HEAD_BYTES, EDIT_MAGIC, EditHead, MANIFEST_VERSION, TreeRecord};
use crate::manifest::sector::{self, SECTOR_BYTES, Sector};
use crate::sst::damaged;
use ringkv_wire::ids::ShardId;
use std::collections::BTreeMap;

/// What a manifest says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    /// All trees.
    pub(super) trees: BTreeMap<ShardId, TreeRecord>,
    /// The last edit taken.
    pub(super) last: u64,
    /// Where it stands.
    pub(super) last_range: std::ops::Range<usize>,
}

/// Reads all of a manifest.
pub(super) fn recover(bytes: &[u8], seed: u32, path: &str) -> Result<Recovered, StorageError> {
    let mut recovered = Recovered::default();
    let mut at = 0;
    while let Some((end, records)) = edit(bytes, at, seed, recovered.last + 1, path)? {
        recovered.trees.extend(records);
        recovered.last += 1;
        recovered.last_range = at..end;
        at = end;
    }
    tail(bytes, at, seed, recovered.last + 1, path)?;
    if recovered.last == 0 {
        return Err(damaged(path, 0, "edit 1", "no whole edit"));
    }
    Ok(recovered)
}

type Records = Vec<(ShardId, TreeRecord)>;

/// The edit of this number at `at`, and where it ends; none when it is not whole there.
fn edit(bytes: &[u8], at: usize, seed: u32, number: u64, path: &str) -> Result<Option<(usize, Records)>, StorageError> {
    let Some(first) = payload(bytes, at, seed, number) else { return Ok(None) };
    let problem = |what: &dyn std::fmt::Display| damaged(path, at as u64, format!("edit {number}"), what);
    let head = EditHead::decode(first).map_err(|e| problem(&e))?;
    if head.magic == EDIT_MAGIC && head.version > MANIFEST_VERSION {
        let (got, known) = (head.version.into(), MANIFEST_VERSION.into());
        return Err(StorageError::Newer { path: path.to_owned(), got, known });
    }
    let sectors = head.sectors as usize;
    let room = sectors * sector::PAYLOAD_BYTES;
    let fits =
        sectors > 0 && sectors.is_multiple_of(ALIGN / SECTOR_BYTES) && EDIT_HEAD_BYTES + head.bytes as usize <= room;
    if head.magic != EDIT_MAGIC || head.number != number || !fits {
        return Err(problem(&format!("{head:?}")));
    }
    let mut body = Vec::new();
    for sector in 0..sectors {
        match payload(bytes, at + sector * SECTOR_BYTES, seed, number) {
            Some(part) => body.extend_from_slice(part),
            None => return Ok(None),
        }
    }
    body.drain(..EDIT_HEAD_BYTES);
    body.truncate(head.bytes as usize);
    let records = record::decode_records(body, head.records, head.version).map_err(|e| problem(&e))?;
    Ok(Some((at + sectors * SECTOR_BYTES, records)))
}

fn payload(bytes: &[u8], at: usize, seed: u32, number: u64) -> Option<&[u8]> {
    match sector::classify(seed, (at / SECTOR_BYTES) as u32, bytes.get(at..at + SECTOR_BYTES)?) {
        Sector::Whole { number: got, payload } if got == number => Some(payload),
        _ => None,
    }
}

/// Whether what stands from `at` on can be the work of a crash while edit `number` was written.
fn tail(bytes: &[u8], at: usize, seed: u32, number: u64, path: &str) -> Result<(), StorageError> {
    let rest = bytes.get(at..).unwrap_or_default();
    for (sector, part) in (at / SECTOR_BYTES..).zip(rest.chunks(SECTOR_BYTES)) {
        let offset = (sector * SECTOR_BYTES) as u64;
        match sector::classify(seed, sector as u32, part) {
            Sector::Zero => {}
            Sector::Whole { number: got, .. } if got == number => {}
            Sector::Whole { number: got, .. } => {
                return Err(damaged(
                    path,
                    offset,
                    format!("edit {number}, synced before the next"),
                    format!("edit {got}"),
                ));
            }
            Sector::Rotten { expected, got } => {
                return Err(damaged(path, offset, format!("crc {expected:#010x}"), format!("{got:#010x}")));
            }
        }
    }
    Ok(())
}
