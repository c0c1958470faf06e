//! The parts of a table by themselves, as a table behind right checksums would bring them.

use bytes::Bytes;
use ringkv_storage::sst::TableId;
use ringkv_storage::sst::block::{Block, TRAILER_BYTES};
use ringkv_storage::sst::compress::{Compression, Compressor};
use ringkv_storage::sst::filter::Filter;
use ringkv_storage::sst::footer::{FOOTER_BYTES, Footer};
use ringkv_storage::sst::index::Index;
use ringkv_storage::sst::properties::Properties;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::ring::hash::key_hash;

const KEYSPACE: KeyspaceId = KeyspaceId(1);

/// The sections of a table by themselves, as a table that lies behind right checksums would bring them. First byte: how many
/// blocks or pieces the footer claims; the block's trailer is corrected.
pub fn sections(input: &[u8]) {
    let Some((claimed, section)) = input.split_first() else { return };
    let claimed = usize::from(*claimed);
    if let Some(index) = Index::new(section, claimed, claimed as u16).filter(|index| index.verify(1 << 20)) {
        for number in 0..index.blocks() {
            assert!(index.place(number).is_some_and(|place| place.end() <= 1 << 20));
            assert!(index.separator(number).is_some());
        }
        let _none_is_fine = index.find((KEYSPACE, section));
    }
    if let Some(filter) = Filter::new(section, claimed as u32).filter(|filter| filter.verify()) {
        for hash in 0..64u64 {
            let _either = filter.may_contain(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
    }
    if let Some(properties) = Properties::decode(section) {
        let mut again = Vec::new();
        properties.encode(&mut again);
        assert_eq!(Properties::decode(&again), Some(properties));
    }
    footer(section);
    block(section);
}

/// The last bytes as a footer whose checksum is right: what it says, said again, is the same.
fn footer(section: &[u8]) {
    let _either = Footer::decode(section, section.len() as u64, "fuzz");
    let Some(last) = section.len().checked_sub(FOOTER_BYTES).map(|start| &section[start..]) else { return };
    let mut sealed = last.to_vec();
    // As long as it says, else nothing else is looked at.
    let file_bytes = last[24..32].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut id = TableId([0; 16]);
    id.0.copy_from_slice(&last[8..24]);
    let offset = file_bytes.saturating_sub(FOOTER_BYTES as u64);
    let crc = id.checksum(offset, &last[..FOOTER_BYTES - 4]);
    sealed[FOOTER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    if let Ok(footer) = Footer::decode(&sealed, file_bytes, "fuzz") {
        let again = Footer::decode(&footer.encode(), file_bytes, "fuzz");
        assert_eq!(again.ok(), Some(footer), "a footer does not survive being written");
    }
}

/// Blocks made smaller. First byte: how; three more: how long it was. What comes out is as long as was asked for, and made smaller
/// again it comes back.
pub fn compressed(input: &[u8]) {
    let Some(([way, a, b, c], stored)) = input.split_first_chunk() else { return };
    let Some(way) = Compression::of_kind(*way % 3) else { return };
    let wanted = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
    let Some(raw) = way.undo(stored, wanted.min(way.most_bytes(stored.len()))) else { return };
    assert!(raw.len() <= wanted);
    let mut compressor = Compressor::new(way);
    let (kind, made) = compressor.make(&raw);
    let back = Compression::of_kind(kind).and_then(|way| way.undo(made, raw.len()));
    assert!(back == Some(raw), "it does not come back");
}

fn block(section: &[u8]) {
    let id = TableId([3; 16]);
    let mut sealed = section.to_vec();
    if let Some(at) = sealed.len().checked_sub(4).filter(|_| sealed.len() >= TRAILER_BYTES) {
        let crc = id.checksum(0, &sealed[..at]).to_le_bytes();
        sealed[at..].copy_from_slice(&crc);
    }
    let Ok(block) = Block::verify(Bytes::from(sealed), &id, 0, "fuzz") else { return };
    let block = block.view().expect("a verified block has entries");
    for at in 0..block.count() {
        let entry = block.entry(at).expect("a verified block has all its entries");
        let (keyspace, key) = block.key(&entry).expect("a verified entry has a key");
        let _one_of_equal_keys = block.find((keyspace, &key), key_hash(keyspace, &key));
    }
}
