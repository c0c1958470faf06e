//! How blocks are made smaller. A block that hardly gets smaller stays as it is.

/// Zstandard's level: the fastest whose ratio is clearly better than LZ4's.
const ZSTD_LEVEL: i32 = 1;
/// Most blocks that are taken as they come after one that did not get smaller.
const SKIP_MAX: u32 = 15;

/// A way to make blocks smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Blocks stay as they are.
    #[default]
    None,
    /// LZ4: the fastest to undo.
    Lz4,
    /// Zstandard: smaller, and several times slower to undo.
    Zstd,
}

impl Compression {
    /// Its number in a block's trailer.
    pub fn kind(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Lz4 => 1,
            Compression::Zstd => 2,
        }
    }

    /// The way with this number.
    pub fn of_kind(kind: u8) -> Option<Compression> {
        [Compression::None, Compression::Lz4, Compression::Zstd].into_iter().find(|way| way.kind() == kind)
    }

    /// No more can come out of so many stored bytes; Zstandard has no such limit.
    pub fn most_bytes(self, stored_bytes: usize) -> usize {
        match self {
            Compression::None => stored_bytes,
            // A length takes a byte for each 255.
            Compression::Lz4 => stored_bytes.saturating_mul(255).saturating_add(255),
            Compression::Zstd => usize::MAX,
        }
    }

    /// The `raw_bytes` bytes that were made into `stored`; none when they do not come out.
    pub fn undo(self, stored: &[u8], raw_bytes: usize) -> Option<Vec<u8>> {
        let mut raw = vec![0; raw_bytes];
        let got = match self {
            Compression::None => return (stored.len() == raw_bytes).then(|| stored.to_vec()),
            Compression::Lz4 => lz4_flex::block::decompress_into(stored, &mut raw).ok()?,
            Compression::Zstd => zstd::bulk::decompress_to_buffer(stored, &mut raw[..]).ok()?,
        };
        (got == raw_bytes).then_some(raw)
    }
}

/// Makes the blocks of one table smaller, one after the other.
#[derive(Default)]
pub struct Compressor {
    way: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    made: Vec<u8>,
    /// Blocks to take as they come, and how many it were last time.
    skip: u32,
    skipped: u32,
}

impl Compressor {
    /// For this way.
    pub fn new(way: Compression) -> Compressor {
        Compressor { way, ..Compressor::default() }
    }

    /// What to store for `raw`, and the number of the way it was made. Content that does not get smaller by an eighth is
    /// stored as it is, and of the blocks behind it only some are tried.
    pub fn make<'c>(&'c mut self, raw: &'c [u8]) -> (u8, &'c [u8]) {
        if self.way == Compression::None || self.skip > 0 {
            self.skip = self.skip.saturating_sub(1);
            return (0, raw);
        }
        let made = self.try_make(raw).unwrap_or(usize::MAX);
        if made > raw.len() - raw.len() / 8 {
            self.skipped = (2 * self.skipped + 1).min(SKIP_MAX);
            self.skip = self.skipped;
            return (0, raw);
        }
        self.skipped = 0;
        (self.way.kind(), &self.made[..made])
    }

    fn try_make(&mut self, raw: &[u8]) -> Option<usize> {
        let most = match self.way {
            Compression::Zstd => zstd::zstd_safe::compress_bound(raw.len()),
            Compression::None | Compression::Lz4 => lz4_flex::block::get_maximum_output_size(raw.len()),
        };
        if self.made.len() < most {
            self.made.resize(most, 0);
        }
        match self.way {
            Compression::None => None,
            Compression::Lz4 => lz4_flex::block::compress_into(raw, &mut self.made).ok(),
            Compression::Zstd => {
                if self.zstd.is_none() {
                    self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
                }
                self.zstd.as_mut()?.compress_to_buffer(raw, &mut self.made[..]).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_comes_back_and_nothing_else_does() {
        let raw: Vec<u8> = (0..4000u32).map(|n| (n / 40) as u8).collect();
        for way in [Compression::Lz4, Compression::Zstd] {
            let mut compressor = Compressor::new(way);
            let (kind, made) = compressor.make(&raw);
            assert_eq!(Compression::of_kind(kind), Some(way));
            assert!(made.len() < raw.len() / 2, "{way:?}: {} bytes", made.len());
            assert_eq!(way.undo(made, raw.len()), Some(raw.clone()));
            assert_eq!(way.undo(made, raw.len() - 1), None, "{way:?}: longer than said");
            assert_eq!(way.undo(made, raw.len() + 1), None, "{way:?}: shorter than said");
            for cut in 0..made.len() {
                assert_ne!(way.undo(&made[..cut], raw.len()), Some(raw.clone()), "{way:?} cut to {cut}");
            }
        }
        assert_eq!(Compression::of_kind(3), None);
    }

    #[test]
    fn what_does_not_get_smaller_stays_and_is_tried_less_and_less() {
        let mut state = 1u64;
        let raw: Vec<u8> = (0..4000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let mut compressor = Compressor::new(Compression::Lz4);
        for _ in 0..40 {
            assert_eq!(compressor.make(&raw), (0, raw.as_slice()));
        }
        let easy = vec![7; 4000];
        let tried = (0..16).position(|_| compressor.make(&easy).0 == 1).expect("one of sixteen is tried");
        assert!((0..20).all(|_| compressor.make(&easy).0 == 1), "after {tried}, all are");
    }
}
