//! From a key to its place on the ring (PROTOCOL.md §1). Permanent once data exists.

use crate::ids::{KeyspaceId, Position};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Which part of a key decides its place. Fixed when the keyspace is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routing {
    /// The whole key.
    #[default]
    Whole,
    /// Up to and without the first such byte; the whole key when there is none.
    Prefix(u8),
    /// Between the first `{` and the next `}` when something stands there; else the whole key.
    HashTag,
}

impl Routing {
    /// The part of `key` that is hashed.
    pub fn part<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        let until = |from: &'k [u8], byte: u8| from.iter().position(|&b| b == byte).map(|at| &from[..at]);
        match *self {
            Routing::Whole => key,
            Routing::Prefix(delimiter) => until(key, delimiter).unwrap_or(key),
            Routing::HashTag => {
                let tag = key.iter().position(|&b| b == b'{').and_then(|open| until(&key[open + 1..], b'}'));
                tag.filter(|t| !t.is_empty()).unwrap_or(key)
            }
        }
    }
}

/// The 64-bit hash of a key's routed part in its keyspace.
pub fn key_hash(keyspace: KeyspaceId, part: &[u8]) -> u64 {
    // One piece is hashed several times faster than two.
    let mut piece = [0; 128];
    if let Some(room) = piece.get_mut(4..4 + part.len()) {
        room.copy_from_slice(part);
        piece[..4].copy_from_slice(&keyspace.0.to_le_bytes());
        return xxh3_64(&piece[..4 + part.len()]);
    }
    let mut hasher = Xxh3::new();
    hasher.update(&keyspace.0.to_le_bytes());
    hasher.update(part);
    hasher.digest()
}

/// The place of a hash on the ring.
pub fn position(hash: u64) -> Position {
    Position((hash >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_vectors_of_protocol_md() {
        let page = include_str!("../../PROTOCOL.md");
        for (keyspace, key) in [(1, ""), (1, "a"), (1, "key=10"), (2, "key=10"), (1, "0123456789abcdef")] {
            let hash = key_hash(KeyspaceId(keyspace), key.as_bytes());
            let row = format!("| {keyspace} | `{key}` | {hash:#018x} | {:#010x} |", position(hash).0);
            assert!(page.contains(&row), "PROTOCOL.md lacks: {row}");
        }
    }

    #[test]
    fn short_and_long_parts_are_hashed_alike() {
        for len in [0, 1, 16, 123, 124, 125, 300] {
            let part: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let whole = [7u32.to_le_bytes().as_slice(), &part].concat();
            assert_eq!(key_hash(KeyspaceId(7), &part), xxh3_64(&whole), "{len} bytes");
        }
    }

    #[test]
    fn routed_parts() {
        assert_eq!(Routing::Whole.part(b"a/b"), b"a/b");
        assert_eq!(Routing::Prefix(b'/').part(b"a/b/c"), b"a");
        assert_eq!(Routing::Prefix(b'/').part(b"abc"), b"abc");
        assert_eq!(Routing::HashTag.part(b"x{tag}y"), b"tag");
        assert_eq!(Routing::HashTag.part(b"x{}y"), b"x{}y");
        assert_eq!(Routing::HashTag.part(b"x{open"), b"x{open");
    }
}
