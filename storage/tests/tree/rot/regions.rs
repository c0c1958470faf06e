//! Where what stands in a file, part by part, as FORMAT.md has it.

use crate::levels::footer_of;
use ringkv_storage::sst::footer::FOOTER_BYTES;
use ringkv_storage::sst::index::Index;
use std::ops::Range;

/// Parts of a file by name, in no order; one name stands for all parts of its kind.
#[derive(Default)]
pub struct Regions {
    pub list: Vec<(&'static str, Range<usize>)>,
    at: usize,
}

impl Regions {
    fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Parts that stand side by side.
    fn fields(&mut self, fields: &[(&'static str, usize)]) {
        for (name, bytes) in fields {
            self.list.push((name, self.at..self.at + bytes));
            self.at += bytes;
        }
    }
}

fn number(bytes: &[u8], at: usize, count: usize) -> usize {
    bytes[at..at + count].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// FORMAT.md §2.1
const TRAILER: [(&str, usize); 7] = [
    ("block: base", 8),
    ("block: bytes before compression", 4),
    ("block: count", 2),
    ("block: p", 2),
    ("block: stored as", 1),
    ("block: zero", 3),
    ("block: crc", 4),
];

/// FORMAT.md §2.2
const INDEX_ENTRY: [(&str, usize); 6] = [
    ("index: block offset", 8),
    ("index: block bytes", 4),
    ("index: keyspace", 4),
    ("index: separator start", 4),
    ("index: separator bytes", 2),
    ("index: zero", 2),
];

/// FORMAT.md §2.3
const PIECE: [(&str, usize); 3] = [("filter: descriptor", 20), ("filter: bytes", 4), ("filter: start", 8)];

/// FORMAT.md §2.4
const PROPERTIES: [(&str, usize); 11] = [
    ("properties: entries", 8),
    ("properties: tombstones", 8),
    ("properties: lowest version", 8),
    ("properties: highest version", 8),
    ("properties: key bytes", 8),
    ("properties: value bytes", 8),
    ("properties: keyspace of the least", 4),
    ("properties: keyspace of the greatest", 4),
    ("properties: bytes of the least", 2),
    ("properties: bytes of the greatest", 2),
    ("properties: zero", 4),
];

/// FORMAT.md §2.5
const FOOTER: [(&str, usize); 20] = [
    ("footer: magic", 4),
    ("footer: version", 2),
    ("footer: flags", 2),
    ("footer: table id", 16),
    ("footer: file bytes", 8),
    ("footer: bytes of the blocks", 8),
    ("footer: index offset", 8),
    ("footer: index bytes", 8),
    ("footer: index entries", 4),
    ("footer: crc of the index", 4),
    ("footer: filter offset", 8),
    ("footer: filter bytes", 8),
    ("footer: filter pieces", 4),
    ("footer: crc of the filter", 4),
    ("footer: properties offset", 8),
    ("footer: properties bytes", 4),
    ("footer: crc of the properties", 4),
    ("footer: skip", 2),
    ("footer: zero", 18),
    ("footer: crc", 4),
];

/// A version 2 table; what is in none of the parts is zeros that mean nothing.
pub fn of_table(bytes: &[u8]) -> Regions {
    let (footer, mut regions) = (footer_of(bytes), Regions::default());
    let section = |range: &Range<u64>| range.start as usize..range.end as usize;
    let index_range = section(&footer.index.range);
    let index = Index::new(&bytes[index_range.clone()], footer.blocks as usize, footer.skip).expect("an index");
    for place in (0..index.blocks()).map(|number| index.place(number).expect("a block")) {
        block(bytes, place.offset as usize..place.end() as usize, &mut regions);
    }
    regions.go_to(index_range.start);
    regions.fields(&[("index: prefixes", 8 * index.blocks())]);
    (0..index.blocks()).for_each(|_| regions.fields(&INDEX_ENTRY));
    regions.fields(&[("index: key area", index_range.end - regions.at)]);
    let filter = section(&footer.filter.range);
    regions.go_to(filter.start);
    (0..footer.pieces).for_each(|_| regions.fields(&PIECE));
    regions.fields(&[("filter: fingerprints", filter.end - regions.at)]);
    let properties = section(&footer.properties.range);
    regions.go_to(properties.start);
    regions.fields(&PROPERTIES);
    regions.fields(&[("properties: keys", properties.end - regions.at)]);
    regions.go_to(bytes.len() - FOOTER_BYTES);
    regions.fields(&FOOTER);
    assert_eq!(regions.at, bytes.len(), "the footer ends the file");
    regions
}

fn block(bytes: &[u8], range: Range<usize>, regions: &mut Regions) {
    let trailer = range.end - TRAILER.iter().map(|(_, bytes)| bytes).sum::<usize>();
    regions.go_to(range.start);
    match bytes[trailer + 16] {
        0 => {
            let (count, prefix) = (number(bytes, trailer + 12, 2), number(bytes, trailer + 14, 2));
            let parts = [("block: prefix", prefix), ("block: offsets", 2 * count), ("block: tags", count)];
            regions.fields(&parts);
            regions.fields(&[("block: entries", trailer - regions.at)]);
        }
        1 => regions.fields(&[("block: by LZ4", trailer - range.start)]),
        2 => regions.fields(&[("block: by Zstandard", trailer - range.start)]),
        other => panic!("stored as {other}"),
    }
    regions.fields(&TRAILER);
}

/// FORMAT.md §3.1
pub fn of_current() -> Regions {
    let mut regions = Regions::default();
    regions.fields(&[
        ("CURRENT: magic", 4),
        ("CURRENT: version", 2),
        ("CURRENT: zero", 2),
        ("CURRENT: number", 8),
        ("CURRENT: id", 16),
        ("CURRENT: zeros", 4060),
        ("CURRENT: crc", 4),
    ]);
    assert_eq!(regions.at, 4096);
    regions
}

/// FORMAT.md §3.2
const EDIT: [(&str, usize); 8] = [
    ("edit: magic", 4),
    ("edit: version", 2),
    ("edit: zero", 2),
    ("edit: number", 8),
    ("edit: sectors", 4),
    ("edit: record bytes", 4),
    ("edit: records", 4),
    ("edit: zero behind", 4),
];
const TREE: [(&str, usize); 8] = [
    ("tree: shard", 4),
    ("tree: tables", 4),
    ("tree: flushed index", 8),
    ("tree: term", 8),
    ("tree: log time", 8),
    ("tree: config index", 8),
    ("tree: config bytes", 4),
    ("tree: zero", 4),
];
const TABLE: [(&str, usize); 11] = [
    ("table: id", 16),
    ("table: file number", 8),
    ("table: file bytes", 8),
    ("table: run", 8),
    ("table: level", 1),
    ("table: flags", 1),
    ("table: bytes of the least", 2),
    ("table: bytes of the greatest", 2),
    ("table: zero", 2),
    ("table: keyspace of the least", 4),
    ("table: keyspace of the greatest", 4),
];
const SECTOR: usize = 512;
const PAYLOAD: usize = 496;

/// The edit of one record that begins at `at` of a manifest; answers where it ends as well.
pub fn of_edit(bytes: &[u8], at: usize) -> (Regions, usize) {
    let sectors = number(bytes, at + 16, 4);
    let parts = bytes[at..at + sectors * SECTOR].chunks(SECTOR).map(|sector| &sector[..PAYLOAD]);
    let payload = parts.collect::<Vec<_>>().concat();
    let mut inside = Regions::default();
    inside.fields(&EDIT);
    for _ in 0..number(&payload, 24, 4) {
        let start = inside.at;
        inside.fields(&TREE);
        inside.fields(&[("tree: config", number(&payload, start + 40, 4))]);
        for _ in 0..number(&payload, start + 4, 4) {
            let start = inside.at;
            inside.fields(&TABLE);
            let keys = number(&payload, start + 42, 2) + number(&payload, start + 44, 2);
            inside.fields(&[("table: keys", keys)]);
        }
    }
    assert_eq!(inside.at, 32 + number(&payload, 20, 4), "the records end where the head says");
    inside.fields(&[("edit: zeros", payload.len() - inside.at)]);
    let mut regions = Regions::default();
    for (name, range) in inside.list {
        // Cut at the ends of sectors.
        let in_file = |at: usize| at / PAYLOAD * SECTOR + at % PAYLOAD;
        range.for_each(|byte| regions.list.push((name, at + in_file(byte)..at + in_file(byte) + 1)));
    }
    for sector in 0..sectors {
        regions.go_to(at + sector * SECTOR + PAYLOAD);
        regions.fields(&[("sector: number", 8), ("sector: index", 4), ("sector: crc", 4)]);
    }
    (regions, at + sectors * SECTOR)
}
