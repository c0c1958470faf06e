//! Records one behind the other, in chunks; a place names one for as long as the memtable lives.

use crate::memory::{PagePool, Pages, prefetch};
use crate::sst::{NEVER_MS, TreeKey};
use ringkv_wire::ids::KeyspaceId;
use std::rc::Rc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// log2 of a chunk's words: 2 MiB, one huge page.
const CHUNK_BITS: u32 = 18;
/// The first chunk begins with so many words, and doubles: most trees are small.
const FIRST_WORDS: usize = 64;

/// Cache lines of a record that are fetched ahead of its reading.
const PREFETCH_LINES: usize = 3;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Value,
    /// The value is a block of its own; the record holds its number.
    Large,
    Deleted,
    /// A newer record of the key stands elsewhere.
    Void,
}

/// In front of key and value.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Head {
    pub version: U64,
    pub keyspace: U32,
    /// Bytes of the value, or the number of the block it is.
    pub value: U32,
    /// Bytes there is room for.
    pub room: U32,
    pub key_bytes: U16,
    /// 0: here nothing was written yet.
    kind: u8,
    /// Whether an expiry stands in front of the value.
    expires: u8,
}
/// Bytes of an expiry.
const EXPIRY_BYTES: usize = size_of::<u64>();
const HEAD_BYTES: usize = size_of::<Head>();
const _: () = assert!(HEAD_BYTES == 24);

impl Head {
    pub fn kind(&self) -> Kind {
        match self.kind {
            1 => Kind::Value,
            2 => Kind::Large,
            3 => Kind::Deleted,
            _ => Kind::Void,
        }
    }

    fn set_kind(&mut self, kind: Kind) {
        self.kind = match kind {
            Kind::Value => 1,
            Kind::Large => 2,
            Kind::Deleted => 3,
            Kind::Void => 4,
        };
    }

    fn expiry_bytes(&self) -> usize {
        if self.expires == 0 { 0 } else { EXPIRY_BYTES }
    }

    fn words(&self) -> usize {
        words_of(usize::from(self.key_bytes.get()), self.room.get() as usize)
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'w> {
    pub version: u64,
    /// The bytes that stand in the record.
    pub value: &'w [u8],
    pub expiry_ms: u64,
}

impl Written<'_> {
    fn expires(&self) -> bool {
        self.expiry_ms != NEVER_MS
    }

    /// Bytes behind the key.
    pub fn room(&self) -> usize {
        self.value.len() + if self.expires() { EXPIRY_BYTES } else { 0 }
    }

    fn lay(&self, mut to: &mut [u8]) {
        if self.expires() {
            let (expiry, rest) = to.split_at_mut(EXPIRY_BYTES);
            expiry.copy_from_slice(&self.expiry_ms.to_le_bytes());
            to = rest;
        }
        to[..self.value.len()].copy_from_slice(self.value);
    }
}

/// A record where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'m> {
    pub head: &'m Head,
    /// Key, value, and what room is left.
    rest: &'m [u8],
}

impl<'m> Stored<'m> {
    pub fn key(&self) -> TreeKey<'m> {
        (KeyspaceId(self.head.keyspace.get()), &self.rest[..usize::from(self.head.key_bytes.get())])
    }

    /// The value's bytes, of a record that holds them.
    pub fn value(&self) -> &'m [u8] {
        let from = usize::from(self.head.key_bytes.get()) + self.head.expiry_bytes();
        &self.rest[from..from + self.head.value.get() as usize]
    }

    /// When it expires, log time, ms.
    #[inline]
    pub fn expiry_ms(&self) -> u64 {
        if self.head.expires == 0 {
            return NEVER_MS;
        }
        let from = usize::from(self.head.key_bytes.get());
        U64::read_from_prefix(&self.rest[from..]).map_or(NEVER_MS, |(expiry_ms, _)| expiry_ms.get())
    }
}

/// The records of one memtable.
#[derive(Clone, Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Pages>,
    /// Words of the last chunk that are taken.
    used: usize,
    /// What the first chunk lacks of a whole one, words.
    short_words: usize,
    /// Where chunks come from.
    pool: Rc<PagePool>,
}

fn words_of(key_bytes: usize, room: usize) -> usize {
    (HEAD_BYTES + key_bytes + room).div_ceil(8)
}

/// What a record takes, bytes.
pub(super) fn record_bytes(key_bytes: usize, room: usize) -> usize {
    words_of(key_bytes, room) * 8
}

impl Arena {
    /// Empty. The system clears a huge page at its first touch, which takes up to milliseconds, and the trees of a store grow
    /// side by side: so that they do not come to a fresh chunk in the same turn, each begins with a chunk of another length.
    pub fn new(number: u32, pool: Rc<PagePool>) -> Arena {
        let part = number.wrapping_mul(0x9e37_79b9) >> (33 - CHUNK_BITS);
        Arena { short_words: part as usize, pool, ..Arena::default() }
    }

    /// Writes a record; its place is never 0. `what.value` are its bytes, `number` stands for them when they are a block of its own.
    pub fn push(&mut self, kind: Kind, key: TreeKey<'_>, what: &Written<'_>, number: Option<u32>) -> u32 {
        let Written { version, value, .. } = *what;
        let room = what.room();
        let words = words_of(key.1.len(), room);
        let place = self.take(words);
        let mut head = Head {
            version: U64::new(version),
            keyspace: U32::new(key.0.0),
            value: U32::new(number.unwrap_or(value.len() as u32)),
            room: U32::new(room as u32),
            key_bytes: U16::new(u16::try_from(key.1.len()).expect("a key is no longer than KEY_BYTES_MAX")),
            kind: 0,
            expires: u8::from(what.expires()),
        };
        head.set_kind(kind);
        let bytes = &mut self.tail_mut(place)[..words * 8];
        let (front, rest) = bytes.split_at_mut(HEAD_BYTES);
        front.copy_from_slice(head.as_bytes());
        rest[..key.1.len()].copy_from_slice(key.1);
        what.lay(&mut rest[key.1.len()..]);
        place
    }

    /// Writes another version into a record that has the room.
    pub fn overwrite(&mut self, place: u32, kind: Kind, what: &Written<'_>) {
        let (head, rest) = Head::mut_from_prefix(self.tail_mut(place)).expect("a place is a record's");
        assert!(what.room() <= head.room.get() as usize, "{} bytes into {}", what.room(), head.room);
        head.version = U64::new(what.version);
        head.value = U32::new(what.value.len() as u32);
        head.expires = u8::from(what.expires());
        head.set_kind(kind);
        what.lay(&mut rest[usize::from(head.key_bytes.get())..]);
    }

    /// A newer record stands elsewhere.
    pub fn void(&mut self, place: u32) {
        Head::mut_from_prefix(self.tail_mut(place)).expect("a place is a record's").0.set_kind(Kind::Void);
    }

    /// The record at a place that [`Arena::push`] gave.
    pub fn at(&self, place: u32) -> Stored<'_> {
        let (chunk, word) = split(place);
        let (head, rest) =
            Head::ref_from_prefix(&self.chunks[chunk].bytes()[word * 8..]).expect("a place is a record's");
        Stored { head, rest }
    }

    /// Fetches a record's first lines: all of one with a small value.
    pub fn prefetch(&self, place: u32) {
        let (chunk, word) = split(place);
        let words = self.chunks.get(chunk).map_or(&[][..], Pages::words);
        for line in 0..PREFETCH_LINES {
            prefetch(words.get(word + 8 * line));
        }
    }

    /// The place behind `place`, or the first; none at the end. Void records too.
    pub fn next(&self, place: Option<u32>) -> Option<u32> {
        let (mut chunk, mut word) = place.map_or((0, 1), |place| {
            let (chunk, word) = split(place);
            (chunk, word + self.at(place).head.words())
        });
        loop {
            let words = self.chunks.get(chunk)?.words().len();
            let taken = if chunk + 1 == self.chunks.len() { self.used } else { words };
            let place = join(chunk, word);
            // What a chunk's end was too small for is zeros.
            if word + words_of(0, 0) <= taken && self.at(place).head.kind != 0 {
                return Some(place);
            }
            (chunk, word) = (chunk + 1, 0);
        }
    }

    /// Gives the chunks away, to be freed one by one, and the pool they came from.
    pub fn into_chunks(self) -> (Vec<Pages>, Rc<PagePool>) {
        (self.chunks, self.pool)
    }

    fn tail_mut(&mut self, place: u32) -> &mut [u8] {
        let (chunk, word) = split(place);
        &mut self.chunks[chunk].bytes_mut()[word * 8..]
    }

    /// Takes words in the last chunk, or in another one.
    fn take(&mut self, words: usize) -> u32 {
        assert!(words < 1 << CHUNK_BITS, "a record of {words} words");
        if self.chunks.is_empty() {
            self.chunks.push(Pages::zeroed(FIRST_WORDS.max((words + 1).next_power_of_two())));
            // Place 0 is nobody's.
            self.used = 1;
        }
        let last = self.chunks.len() - 1;
        let size = self.chunks[last].words().len();
        if self.used + words > size {
            let wanted = (self.used + words).next_power_of_two().max(2 * size);
            let first_words = (1 << CHUNK_BITS) - self.short_words;
            if last == 0 && size < first_words && self.used + words <= first_words {
                let wanted = wanted.min(first_words);
                let mut grown = self.pool.take(wanted);
                grown.words_mut()[..self.used].copy_from_slice(&self.chunks[0].words()[..self.used]);
                self.chunks[0] = grown;
            } else {
                assert!(last + 1 < 1 << (32 - CHUNK_BITS), "a memtable of {last} chunks");
                self.chunks.push(self.pool.take(1 << CHUNK_BITS));
                self.used = 0;
            }
        }
        let place = join(self.chunks.len() - 1, self.used);
        self.used += words;
        place
    }
}

fn split(place: u32) -> (usize, usize) {
    ((place >> CHUNK_BITS) as usize, (place & ((1 << CHUNK_BITS) - 1)) as usize)
}

fn join(chunk: usize, word: usize) -> u32 {
    (chunk as u32) << CHUNK_BITS | word as u32
}
