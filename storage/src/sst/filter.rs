//! The filter: binary fuse with 8-bit fingerprints, in pieces, used where it is mapped (FORMAT.md §2.3; Graf, Lemire 2022).

use xorf::{BinaryFuse8, BinaryFuse8Ref, DmaSerializable, Filter as _, FilterRef as _};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Keys of a piece. A small piece takes more bits a key (10.4 at 4,096 keys, 9.8 at this many), a large one longer to make.
pub const PIECE_KEYS: u64 = 32_768;
/// Hashes sent to their pieces at once.
const SORTED_AT_ONCE: usize = 16_384;
/// Bytes of a piece's descriptor.
pub const PIECE_BYTES: usize = size_of::<Piece>();

#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Piece {
    seed: U64,
    segment_bytes: U32,
    segment_mask: U32,
    segments_bytes: U32,
    bytes: U32,
    start: U64,
}

const _: () = assert!(size_of::<Piece>() == 32);
const _: () = assert!(BinaryFuse8::DESCRIPTOR_LEN == std::mem::offset_of!(Piece, bytes));

/// The piece a hash belongs to. Low bits: the high ones are the same all over a shard, which is an arc of the ring.
fn piece_of(hash: u64, pieces: u32) -> usize {
    (((hash & 0xffff_ffff) * u64::from(pieces)) >> 32) as usize
}

/// Collects hashes, then makes the filter slice by slice.
#[derive(Debug, Default)]
pub struct FilterBuilder {
    /// As they came; from the front those that went to their pieces are gone.
    hashes: Vec<u64>,
    sorted: usize,
    pieces: Vec<Vec<u64>>,
    made: Vec<Piece>,
    fingerprints: Vec<u8>,
    failed: bool,
}

impl FilterBuilder {
    /// Adds the hash of a key.
    pub fn add(&mut self, hash: u64) {
        self.hashes.push(hash);
    }

    /// A slice of the work: sends hashes to their pieces, then makes the next piece; false when all are made. A failure makes the
    /// whole filter fail.
    pub fn step(&mut self) -> bool {
        if self.pieces.is_empty() {
            let pieces = (self.hashes.len() as u64).div_ceil(PIECE_KEYS).clamp(1, 1 << 20) as usize;
            let room = self.hashes.len() / pieces;
            self.pieces.resize_with(pieces, || Vec::with_capacity(room + room / 32));
        }
        if self.sorted == self.hashes.len() {
            return self.make_piece();
        }
        let end = self.hashes.len().min(self.sorted + SORTED_AT_ONCE);
        let count = self.pieces.len() as u32;
        for &hash in &self.hashes[self.sorted..end] {
            self.pieces[piece_of(hash, count)].push(hash);
        }
        self.sorted = end;
        true
    }

    fn make_piece(&mut self) -> bool {
        if self.failed || self.made.len() == self.pieces.len() {
            return false;
        }
        let mut hashes = std::mem::take(&mut self.pieces[self.made.len()]);
        hashes.sort_unstable();
        hashes.dedup();
        let mut piece = Piece { start: U64::new(self.fingerprints.len() as u64), ..Piece::default() };
        if !hashes.is_empty() {
            let made = BinaryFuse8::try_from(&hashes).ok();
            // A filter that denies one of its keys would make that key vanish.
            let Some(made) = made.filter(|made| hashes.iter().all(|hash| made.contains(hash))) else {
                self.failed = true;
                return false;
            };
            let mut descriptor = [0; BinaryFuse8::DESCRIPTOR_LEN];
            made.dma_copy_descriptor_to(&mut descriptor);
            piece.as_mut_bytes()[..descriptor.len()].copy_from_slice(&descriptor);
            piece.bytes = U32::new(made.fingerprints.len() as u32);
            self.fingerprints.extend_from_slice(&made.fingerprints);
        }
        self.made.push(piece);
        true
    }

    /// Appends the section; answers the number of pieces, 0 when there is no filter. All steps must be done.
    pub fn finish(self, out: &mut Vec<u8>) -> u32 {
        if self.failed {
            return 0;
        }
        assert_eq!(self.made.len(), self.pieces.len(), "every piece is made before the section is written");
        let directory = (self.made.len() * PIECE_BYTES) as u64;
        for mut piece in self.made.iter().copied() {
            piece.start = U64::new(piece.start.get() + directory);
            out.extend_from_slice(piece.as_bytes());
        }
        out.extend_from_slice(&self.fingerprints);
        self.made.len() as u32
    }
}

/// A filter in place. Cheap to make over a section that [`Filter::verify`] accepted.
#[derive(Clone, Copy, Debug)]
pub struct Filter<'m> {
    pieces: &'m [Piece],
    section: &'m [u8],
}

impl<'m> Filter<'m> {
    /// The filter of `pieces` pieces in `section`; none when it cannot hold them.
    pub fn new(section: &'m [u8], pieces: u32) -> Option<Filter<'m>> {
        let directory = section.get(..(pieces as usize).checked_mul(PIECE_BYTES)?)?;
        let pieces = <[Piece]>::ref_from_bytes(directory).ok()?;
        (!pieces.is_empty()).then_some(Filter { pieces, section })
    }

    fn fingerprints(&self, piece: &Piece) -> Option<&'m [u8]> {
        let start = usize::try_from(piece.start.get()).ok()?;
        self.section.get(start..start.checked_add(piece.bytes.get() as usize)?)
    }

    /// Whether every piece's numbers keep every possible lookup inside its fingerprints: xorf does not look itself.
    pub fn verify(&self) -> bool {
        self.pieces.iter().all(|piece| {
            let Some(fingerprints) = self.fingerprints(piece) else { return false };
            let segment = u64::from(piece.segment_bytes.get());
            let segments = u64::from(piece.segments_bytes.get());
            fingerprints.is_empty()
                || (segment.is_power_of_two()
                    && u64::from(piece.segment_mask.get()) == segment - 1
                    && segments >= segment
                    && segments % segment == 0
                    && segments + 2 * segment <= fingerprints.len() as u64)
        })
    }

    /// Whether the table may hold a key of this hash. False is sure; true is wrong for about one absent key in 256.
    pub fn may_contain(&self, hash: u64) -> bool {
        let Some(piece) = self.pieces.get(piece_of(hash, self.pieces.len() as u32)) else { return true };
        match self.fingerprints(piece) {
            Some([]) => false,
            Some(fingerprints) => {
                let descriptor = &piece.as_bytes()[..BinaryFuse8::DESCRIPTOR_LEN];
                BinaryFuse8Ref::from_dma(descriptor, fingerprints).contains(&hash)
            }
            None => true,
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
