//! The head of a segment: its first sector (FORMAT.md §6.1).

use crate::error::StorageError;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Where frames begin: one sector, so that a torn write leaves the head whole, old or new.
pub(super) const HEAD_BYTES: usize = 512;
/// Version that this build writes, and the newest it reads.
pub(super) const VERSION: u16 = 2;
const MAGIC: [u8; 4] = *b"RKDL";
const PREPARED: u16 = 1;
const BORN: u16 = 2;

/// The bytes of a head; the rest of its sector is zero.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    magic: [u8; 4],
    version: U16,
    state: U16,
    number: U64,
    salt: U32,
    zero: U32,
    first_seq: U64,
    synced: U64,
    zeros: [u8; 20],
    crc: U32,
}
const LAYOUT_BYTES: usize = size_of::<Layout>();
const _: () = assert!(LAYOUT_BYTES == 64 && LAYOUT_BYTES <= HEAD_BYTES);

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of the file that it was made for, from 1.
    pub number: u64,
    /// Seeds the checks of this life of the file.
    pub salt: u32,
    /// None: prepared, not in use yet; what stands behind the head is void.
    pub born: Option<Born>,
}

/// What was known when the writer took a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Born {
    /// Of its first record, from 1; every older segment ends before it.
    pub first_seq: u64,
    /// Every record up to this one was durable.
    pub synced: u64,
}

impl Head {
    /// The first sector of a segment.
    pub fn encode(&self) -> [u8; HEAD_BYTES] {
        let born = self.born.unwrap_or(Born { first_seq: 0, synced: 0 });
        let mut layout = Layout {
            magic: MAGIC,
            version: U16::new(VERSION),
            state: U16::new(if self.born.is_some() { BORN } else { PREPARED }),
            number: U64::new(self.number),
            salt: U32::new(self.salt),
            zero: U32::ZERO,
            first_seq: U64::new(born.first_seq),
            synced: U64::new(born.synced),
            zeros: [0; 20],
            crc: U32::ZERO,
        };
        layout.crc = U32::new(layout.check());
        let mut sector = [0; HEAD_BYTES];
        sector[..LAYOUT_BYTES].copy_from_slice(layout.as_bytes());
        sector
    }

    /// Reads the head of the segment `path`, which is numbered `number`, from the bytes the file begins with. No power cut
    /// makes one that fails: heads are written and synced before a file gets its name, and replaced a sector at a time.
    pub fn decode(bytes: &[u8], path: &str, number: u64) -> Result<Head, StorageError> {
        let damaged = |offset, expected: String, got: String| {
            Err(StorageError::Damaged { path: path.to_owned(), offset, expected, got })
        };
        let Ok((layout, _)) = Layout::read_from_prefix(bytes) else {
            return damaged(0, "a segment's head".to_owned(), format!("{} bytes", bytes.len()));
        };
        if layout.magic != MAGIC {
            return damaged(0, format!("magic {MAGIC:?}"), format!("{:?}", layout.magic));
        }
        if layout.crc.get() != layout.check() {
            return damaged(60, format!("crc {:08x}", layout.check()), format!("{:08x}", layout.crc.get()));
        }
        if layout.version.get() > VERSION {
            let got = u32::from(layout.version.get());
            return Err(StorageError::Newer { path: path.to_owned(), got, known: u32::from(VERSION) });
        }
        let born = Born { first_seq: layout.first_seq.get(), synced: layout.synced.get() };
        let born = match layout.state.get() {
            PREPARED => None,
            BORN if born.synced < born.first_seq => Some(born),
            state => return damaged(6, "a state that fits its numbers".to_owned(), format!("state {state}, {born:?}")),
        };
        let head = Head { number: layout.number.get(), salt: layout.salt.get(), born };
        // A prepared head may stand under the file's old name: it is written before the file is renamed.
        if born.is_some() && head.number != number {
            return damaged(8, format!("number {number}"), head.number.to_string());
        }
        Ok(head)
    }
}

impl Layout {
    fn check(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..LAYOUT_BYTES - 4])
    }
}
