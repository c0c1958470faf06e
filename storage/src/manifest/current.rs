//! CURRENT: which manifest counts (FORMAT.md §3.1).

use crate::disk::{ALIGN, DiskBuf};
use crate::error::StorageError;
use crate::manifest::record::MANIFEST_VERSION;
use crate::sst::damaged;

const MAGIC: [u8; 4] = *b"RKCU";
const CRC_AT: usize = ALIGN - 4;

/// A manifest's number and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) id: [u8; 16],
}

impl Current {
    /// The checksum of the manifest's id, where those of its sectors start.
    pub(super) fn seed(&self) -> u32 {
        crc32c::crc32c(&self.id)
    }

    /// The file's bytes.
    pub(super) fn encode(&self) -> DiskBuf {
        let mut buf = DiskBuf::zeroed(ALIGN);
        buf[..4].copy_from_slice(&MAGIC);
        buf[4..6].copy_from_slice(&MANIFEST_VERSION.to_le_bytes());
        buf[8..16].copy_from_slice(&self.number.to_le_bytes());
        buf[16..32].copy_from_slice(&self.id);
        let crc = crc32c::crc32c(&buf[..CRC_AT]);
        buf[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        buf
    }

    /// Reads the file's bytes; `path` is its name in errors.
    pub(super) fn decode(bytes: &[u8], path: &str) -> Result<Current, StorageError> {
        let part = |at: usize, n: usize| bytes.get(at..at + n).unwrap_or_default();
        if bytes.len() != ALIGN {
            return Err(damaged(path, 0, format!("{ALIGN} bytes"), format!("{} bytes", bytes.len())));
        }
        let (expected, got) = (u32_of(part(CRC_AT, 4)), crc32c::crc32c(part(0, CRC_AT)));
        if part(0, 4) != MAGIC || expected != got {
            return Err(damaged(path, 0, format!("magic RKCU and crc {expected:#010x}"), format!("{got:#010x}")));
        }
        let version = u32_of(part(4, 2));
        if version > u32::from(MANIFEST_VERSION) {
            return Err(StorageError::Newer { path: path.to_owned(), got: version, known: MANIFEST_VERSION.into() });
        }
        let mut id = [0; 16];
        id.copy_from_slice(part(16, 16));
        let number = u64::from(u32_of(part(8, 4))) | u64::from(u32_of(part(12, 4))) << 32;
        Ok(Current { number, id })
    }
}

fn u32_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
