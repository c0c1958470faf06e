//! A hex editor for tables: reads blocks as FORMAT.md §2 says, lets their entries be edited, and makes their checksums right
//! again.

use crate::flaw::Life;
use ringkv_shard::host::Host;
use ringkv_storage::sst::TableId;

const FOOTER: usize = 128;
const TRAILER: usize = 24;

/// An entry of a block, in place.
pub struct Item<'b> {
    /// Its keyspace.
    pub keyspace: u32,
    /// Its key.
    pub key: &'b [u8],
    /// Its value; empty when deleted.
    pub value: &'b mut [u8],
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + N].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

fn is_whole(block: &[u8], id: &TableId, offset: usize) -> bool {
    let end = block.len().saturating_sub(4);
    end >= 4 && id.checksum(offset as u64, &block[..end]) as usize == number::<4>(block, end)
}

/// Takes a number of as many bytes as it needs.
fn varint(bytes: &[u8], at: &mut usize) -> usize {
    let (mut number, mut shift) = (0, 0);
    loop {
        let byte = usize::from(bytes[*at]);
        *at += 1;
        number |= (byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return number;
        }
    }
}

/// Shows every entry of a block; whether one was changed. What merges made smaller is left alone: flushes are not.
fn edit_block(block: &mut [u8], edit: &mut dyn FnMut(Item) -> bool) -> bool {
    let trailer = block.len() - TRAILER;
    if block[trailer + 16] != 0 {
        return false;
    }
    let (count, offsets) = (number::<2>(block, trailer + 12), number::<2>(block, trailer + 14));
    let (entries, prefix) = (offsets + 3 * count, block[..offsets].to_vec());
    let mut changed = false;
    for entry in 0..count {
        let mut at = entries + number::<2>(block, offsets + 2 * entry);
        let head = varint(block, &mut at);
        let value = if head & 3 == 2 { 0 } else { varint(block, &mut at) };
        varint(block, &mut at);
        if head & 3 == 3 {
            varint(block, &mut at);
        }
        let suffix_end = at + (head >> 2);
        let laid = [&prefix, &block[at..suffix_end]].concat();
        let keyspace = u32::from_be_bytes(laid[..4].try_into().expect("four bytes"));
        changed |= edit(Item { keyspace, key: &laid[4..], value: &mut block[suffix_end..suffix_end + value] });
    }
    changed
}

/// Shows every entry of every table of the life's store; `edit` says whether it changed one.
pub fn edit(life: &Life, mut edit: impl FnMut(Item) -> bool) {
    let (disk, dir) = (life.host.disk(), format!("{}/tables/", life.config.dir));
    for path in disk.paths().into_iter().filter(|path| path.starts_with(&dir)) {
        let mut bytes = disk.peek(&path).unwrap_or_default();
        let Some(footer) = bytes.len().checked_sub(FOOTER).map(|at| bytes[at..].to_vec()) else { continue };
        if !footer.starts_with(b"RKST") {
            continue; // A crash came before the end.
        }
        let id = TableId(footer[8..24].try_into().expect("sixteen bytes"));
        let (index, blocks) = (number::<8>(&footer, 40), number::<4>(&footer, 56));
        for at in (index + 8 * blocks..).step_by(24).take(blocks) {
            let (offset, length) = (number::<8>(&bytes, at), number::<4>(&bytes, at + 8));
            let Some(block) = bytes.get_mut(offset..offset + length).filter(|block| is_whole(block, &id, offset))
            else {
                continue; // Torn: an orphan that the manifest does not name.
            };
            if edit_block(block, &mut edit) {
                let crc = id.checksum(offset as u64, &block[..length - 4]);
                block[length - 4..].copy_from_slice(&crc.to_le_bytes());
                disk.poke(&path, offset as u64, block);
            }
        }
    }
}
