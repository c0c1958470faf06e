use super::*;
use crate::sst::block::Block;
use crate::sst::index::Index;
use bytes::Bytes;

const ID: TableId = TableId([3; 16]);

fn table(entries: &[(&[u8], Option<&[u8]>)], target: usize) -> (Vec<u8>, Footer) {
    let mut builder = TableBuilder::new(ID, target, Compression::None);
    for (key, value) in entries {
        builder.add((KeyspaceId(1), key), &Record::new(5, *value));
    }
    let footer = builder.finish();
    let mut bytes = vec![0; builder.pending()];
    assert_eq!(builder.take(&mut bytes), bytes.len());
    assert_eq!(builder.pending(), 0);
    (bytes, footer)
}

#[test]
fn sections_stand_where_the_footer_says() {
    let keys: Vec<[u8; 4]> = (0..500u32).map(u32::to_be_bytes).collect();
    let value = [9; 50];
    let entries: Vec<_> = keys.iter().map(|key| (key.as_slice(), Some(value.as_slice()))).collect();
    let (bytes, footer) = table(&entries, 4096);
    assert_eq!(bytes.len() as u64, footer.file_bytes);
    let read = Footer::decode(&bytes[bytes.len() - FOOTER_BYTES..], footer.file_bytes, "t").unwrap();
    assert_eq!(read, footer);
    let part = |range: &std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
    let index = Index::new(part(&footer.index.range), footer.blocks as usize, footer.skip).unwrap();
    assert!(index.verify(footer.blocks_bytes));
    let mut seen = 0;
    for number in 0..index.blocks() {
        let place = index.place(number).unwrap();
        assert_eq!(place.offset % 4096, 0, "small entries: every block is one page");
        let block = Bytes::copy_from_slice(part(&(place.offset..place.end())));
        seen += Block::verify(block, &ID, place.offset, "t").unwrap().count();
    }
    assert_eq!(seen, 500);
    let properties = Properties::decode(part(&footer.properties.range)).unwrap();
    assert_eq!((properties.entries, properties.value_bytes, properties.version_max), (500, 25_000, 5));
    assert_eq!(properties.least(), (KeyspaceId(1), keys[0].as_slice()));
    assert_eq!(properties.greatest(), (KeyspaceId(1), keys[499].as_slice()));
}

#[test]
fn large_entries_have_blocks_of_their_own() {
    let big = vec![1; 100_000];
    let (bytes, footer) = table(&[(b"a", Some(b"x")), (b"b", Some(&big)), (b"c", Some(b"")), (b"d", None)], 4096);
    let index = Index::new(&bytes[footer.index.range.start as usize..], 3, footer.skip).unwrap();
    let counts: Vec<_> = (0..3)
        .map(|number| {
            let place = index.place(number).unwrap();
            let part = Bytes::copy_from_slice(&bytes[place.offset as usize..place.end() as usize]);
            Block::verify(part, &ID, place.offset, "t").unwrap().count()
        })
        .collect();
    assert_eq!((footer.blocks, counts), (3, vec![1, 1, 2]));
}

#[test]
fn one_block_has_no_filter() {
    let (_, footer) = table(&[(b"a", None)], 4096);
    assert_eq!((footer.blocks, footer.pieces), (1, 0));
    assert!(footer.filter.range.is_empty());
}

#[test]
fn taken_in_pieces_it_is_the_same() {
    let big = vec![7; 300_000];
    let entries: Vec<(Vec<u8>, Vec<u8>)> =
        (0..2000u32).map(|n| (n.to_be_bytes().to_vec(), big[..(n as usize * 37) % 900].to_vec())).collect();
    let slices: Vec<_> = entries.iter().map(|(key, value)| (key.as_slice(), Some(value.as_slice()))).collect();
    let (whole, _) = table(&slices, 4096);
    let (mut builder, mut pieces, mut page) = (TableBuilder::new(ID, 4096, Compression::None), Vec::new(), [0; 8192]);
    for (key, value) in slices {
        builder.add((KeyspaceId(1), key), &Record::new(5, value));
        while builder.pending() >= page.len() {
            let taken = builder.take(&mut page);
            pieces.extend_from_slice(&page[..taken]);
        }
    }
    builder.finish();
    while builder.pending() > 0 {
        let taken = builder.take(&mut page);
        pieces.extend_from_slice(&page[..taken]);
    }
    assert_eq!(pieces, whole);
}

#[test]
fn every_flipped_bit_of_the_footer_is_damage_and_a_newer_one_is_said_to_be_newer() {
    use crate::error::StorageError;
    let (bytes, footer) = table(&[(b"a", None)], 4096);
    let last = &bytes[bytes.len() - FOOTER_BYTES..];
    for bit in 0..FOOTER_BYTES * 8 {
        let mut rotten = last.to_vec();
        rotten[bit / 8] ^= 1 << (bit % 8);
        let got = Footer::decode(&rotten, footer.file_bytes, "t");
        assert!(matches!(got, Err(StorageError::Damaged { .. })), "bit {bit}: {got:?}");
    }
    let mut newer = last.to_vec();
    newer[4] = TABLE_VERSION as u8 + 1;
    let crc = ID.checksum(footer.file_bytes - FOOTER_BYTES as u64, &newer[..124]);
    newer[124..].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(
        Footer::decode(&newer, footer.file_bytes, "t"),
        Err(StorageError::Newer { got: 4, known: 3, .. })
    ));
}
