//! A batch: what one aligned write and one sync make durable (FORMAT.md §1.2).

use super::sector::{self, PAYLOAD_BYTES, SECTOR_BYTES, Seed, Seen};
use crate::disk::DiskBuf;
use crate::wal::record::{FIRST_FRAGMENT, KIND_ENTRY, LAST_FRAGMENT, Logged, RECORD_HEADER_BYTES, RecordHeader};
use bytes::Bytes;
use ringkv_wire::entry::{ENTRY_HEADER_BYTES, Entry};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest batch, sectors included.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;
/// Batches start and end on multiples of this.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Format version this build writes, and the newest it reads.
pub(crate) const VERSION: u16 = 1;
/// The batch belongs to its segment's head.
pub(crate) const HEAD: u16 = 1;
/// The batch is the first of its segment.
pub(crate) const FIRST: u16 = 2;
const MAGIC: [u8; 4] = *b"RKLB";
const HEADER_BYTES: usize = 64;
const CHAINED_BYTES: usize = 48;
/// An entry is not cut for the sake of fewer bytes than this.
const FRAGMENT_BYTES_MIN: usize = 2048;
const SECTORS_PER_PAGE: usize = PAGE_BYTES / SECTOR_BYTES;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct BatchHeader {
    magic: [u8; 4],
    version: U16,
    flags: U16,
    number: U64,
    segment: U64,
    synced: U64,
    sectors: U32,
    record_bytes: U32,
    records: U32,
    before: U32,
    chain: U32,
    zero: [u8; 12],
}
const _: () = assert!(size_of::<BatchHeader>() == HEADER_BYTES);
const _: () = assert!(std::mem::offset_of!(BatchHeader, chain) == CHAINED_BYTES);

/// What became of putting an entry into a batch.
pub(crate) enum Put {
    /// Its last byte is in.
    Done,
    /// This many bytes of it are in; the batch is full.
    Part(usize),
    /// Nothing was put: go on in the next batch.
    Full,
}

/// A batch being filled: header's place, then records.
pub(crate) struct Filling {
    payload: Vec<u8>,
    records: u32,
    capacity: usize,
}

fn capacity_of(bytes: usize) -> usize {
    bytes / PAGE_BYTES * SECTORS_PER_PAGE * PAYLOAD_BYTES
}

impl Filling {
    /// An empty batch that will take at most `bytes` on disk.
    pub(crate) fn new(bytes: usize) -> Filling {
        Filling { payload: vec![0; HEADER_BYTES], records: 0, capacity: capacity_of(bytes) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    fn left(&self) -> usize {
        self.capacity.saturating_sub(self.payload.len())
    }

    /// Puts a record that is not an entry; `false` when it does not fit.
    pub(crate) fn put(&mut self, logged: &Logged) -> bool {
        let bytes = logged.encode();
        if bytes.len() > self.left() {
            return false;
        }
        self.payload.extend_from_slice(&bytes);
        self.records += 1;
        true
    }

    /// Puts an entry, of which `done` bytes are in batches before. It is cut only when it is larger than a whole batch of
    /// `batch_bytes`.
    pub(crate) fn put_entry(&mut self, entry: &Entry, done: usize, batch_bytes: usize) -> Put {
        let rest = entry.encoded_bytes() - done;
        let fits_one = RECORD_HEADER_BYTES + rest <= capacity_of(batch_bytes) - HEADER_BYTES;
        let wanted = if fits_one { rest } else { FRAGMENT_BYTES_MIN.min(rest) };
        if RECORD_HEADER_BYTES + wanted > self.left() {
            return Put::Full;
        }
        let n = rest.min(self.left() - RECORD_HEADER_BYTES);
        let first = if done == 0 { FIRST_FRAGMENT } else { 0 };
        let last = if n == rest { LAST_FRAGMENT } else { 0 };
        let header = RecordHeader { kind: KIND_ENTRY, flags: first | last, zero: U16::ZERO, bytes: U32::new(n as u32) };
        self.payload.extend_from_slice(header.as_bytes());
        let (from, to) = (done, done + n);
        if from < ENTRY_HEADER_BYTES {
            self.payload.extend_from_slice(&entry.header()[from..to.min(ENTRY_HEADER_BYTES)]);
        }
        if to > ENTRY_HEADER_BYTES {
            let body = &entry.body[from.saturating_sub(ENTRY_HEADER_BYTES)..to - ENTRY_HEADER_BYTES];
            self.payload.extend_from_slice(body);
        }
        self.records += 1;
        if n == rest { Put::Done } else { Put::Part(to) }
    }
}

/// The stream of batches: what the next one continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// Number of the next batch.
    pub(crate) next: u64,
    /// Chain of the batch before it.
    pub(crate) chain: u32,
    pub(crate) seed: Seed,
}

impl Stream {
    /// Closes a batch for `offset` of `segment`: the bytes to write. `synced`: the highest number known durable.
    pub(crate) fn seal(&mut self, fill: Filling, segment: u64, offset: u64, synced: u64, flags: u16) -> DiskBuf {
        let Filling { mut payload, records, capacity } = fill;
        assert!(records > 0 && payload.len() <= capacity);
        assert!(synced < self.next && offset.is_multiple_of(PAGE_BYTES as u64));
        let sectors = payload.len().div_ceil(PAYLOAD_BYTES).next_multiple_of(SECTORS_PER_PAGE);
        let mut header = BatchHeader {
            magic: MAGIC,
            version: U16::new(VERSION),
            flags: U16::new(flags),
            number: U64::new(self.next),
            segment: U64::new(segment),
            synced: U64::new(synced),
            sectors: U32::new(sectors as u32),
            record_bytes: U32::new((payload.len() - HEADER_BYTES) as u32),
            records: U32::new(records),
            before: U32::new(self.chain),
            chain: U32::ZERO,
            zero: [0; 12],
        };
        let chain =
            crc32c::crc32c_append(crc32c::crc32c(&header.as_bytes()[..CHAINED_BYTES]), &payload[HEADER_BYTES..]);
        header.chain = U32::new(chain);
        payload[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        let mut buf = DiskBuf::zeroed(sectors * SECTOR_BYTES);
        let first = (offset / SECTOR_BYTES as u64) as u32;
        let mut parts = payload.chunks(PAYLOAD_BYTES);
        let (all, _) = buf.as_chunks_mut::<SECTOR_BYTES>();
        for (at, sector) in all.iter_mut().enumerate() {
            let part = parts.next().unwrap_or_default();
            sector[..part.len()].copy_from_slice(part);
            sector::seal(sector, self.next, first + at as u32, at == 0, self.seed);
        }
        self.next += 1;
        self.chain = chain;
        buf
    }
}

/// A batch read back and verified by itself: sectors, header, chain. Whether it continues the log is for the reader to say.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    pub(crate) synced: u64,
    pub(crate) flags: u16,
    pub(crate) before: u32,
    pub(crate) chain: u32,
    /// Bytes on disk.
    pub(crate) bytes: u64,
    pub(crate) records: Bytes,
    pub(crate) count: u32,
}

/// What stands at a place where a batch may begin.
pub(crate) enum Opened {
    Batch(Batch),
    /// Nothing, something older, or only a part.
    Nothing,
    /// The batch goes on behind the bytes given.
    More,
    /// A newer format version.
    Newer(u16),
    /// All its sectors are whole and it still does not add up: no tear does that.
    Broken {
        expected: u32,
        got: u32,
    },
}

/// The header in a whole sector that opens a batch of `segment`, checked against its place.
struct Opening {
    header: BatchHeader,
    bytes: usize,
}

fn opening(sector: &[u8; SECTOR_BYTES], index: u32, segment: u64, seed: Seed) -> Result<Option<Opening>, u16> {
    let Seen::Whole { number, opens: true } = sector::look(sector, index, seed) else { return Ok(None) };
    let Ok((header, _)) = BatchHeader::read_from_prefix(sector) else { return Ok(None) };
    if header.magic != MAGIC || header.number.get() != number {
        return Ok(None);
    }
    if header.version.get() > VERSION {
        return Err(header.version.get());
    }
    let sectors = header.sectors.get() as usize;
    let bytes = sectors.saturating_mul(SECTOR_BYTES);
    let sane = sectors.is_multiple_of(SECTORS_PER_PAGE) && (PAGE_BYTES..=BATCH_BYTES_MAX).contains(&bytes);
    let holds = HEADER_BYTES + header.record_bytes.get() as usize <= sectors.saturating_mul(PAYLOAD_BYTES);
    let here = header.segment.get() == segment && header.version.get() == VERSION && header.synced.get() < number;
    Ok((sane && holds && here).then_some(Opening { header, bytes }))
}

/// Opens the batch at the start of `image`, which was read from `offset` of `segment`.
pub(crate) fn open(image: &[u8], offset: u64, segment: u64, seed: Seed) -> Opened {
    let (sectors, _) = image.as_chunks::<SECTOR_BYTES>();
    let first = (offset / SECTOR_BYTES as u64) as u32;
    let Some(sector) = sectors.first() else { return Opened::Nothing };
    let Opening { header, bytes } = match opening(sector, first, segment, seed) {
        Ok(Some(opening)) => opening,
        Ok(None) => return Opened::Nothing,
        Err(version) => return Opened::Newer(version),
    };
    let number = header.number.get();
    let Some(sectors) = sectors.get(..bytes / SECTOR_BYTES) else { return Opened::More };
    let ours = |(at, sector)| sector::look(sector, first + at as u32, seed) == Seen::Whole { number, opens: at == 0 };
    if !sectors.iter().enumerate().all(ours) {
        return Opened::Nothing;
    }
    let mut payload: Vec<u8> = Vec::with_capacity(sectors.len() * PAYLOAD_BYTES);
    sectors.iter().for_each(|sector| payload.extend_from_slice(&sector[..PAYLOAD_BYTES]));
    payload.truncate(HEADER_BYTES + header.record_bytes.get() as usize);
    let got = crc32c::crc32c_append(crc32c::crc32c(&payload[..CHAINED_BYTES]), &payload[HEADER_BYTES..]);
    let expected = header.chain.get();
    if expected != got {
        return Opened::Broken { expected, got };
    }
    Opened::Batch(Batch {
        number,
        synced: header.synced.get(),
        flags: header.flags.get(),
        before: header.before.get(),
        chain: expected,
        bytes: bytes as u64,
        records: Bytes::from(payload).slice(HEADER_BYTES..),
        count: header.records.get(),
    })
}

/// What the first sector of a batch that was not taken says.
pub(crate) enum Claim {
    /// Nothing that makes sense.
    None,
    /// It opens a batch that says everything up to this number was synced.
    Synced(u64),
    /// It opens a batch of another segment.
    Segment(u64),
}

/// Reads the claim of a whole sector that opens a batch.
pub(crate) fn claim(sector: &[u8; SECTOR_BYTES], segment: u64) -> Claim {
    let Ok((header, _)) = BatchHeader::read_from_prefix(sector) else { return Claim::None };
    if header.magic != MAGIC || header.number.get() != sector::number_of(sector) {
        return Claim::None;
    }
    if header.segment.get() != segment {
        return Claim::Segment(header.segment.get());
    }
    Claim::Synced(header.synced.get())
}
