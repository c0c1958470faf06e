//! A hex editor for the log: reads batches as FORMAT.md §1 says, lets them be edited, and makes every checksum and chain
//! right again. What it writes, only the group can tell from the truth.

use crate::flaw::Life;
use bytes::Bytes;
use ringkv_shard::host::Host;
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_wire::codec::Reader;
use ringkv_wire::entry::Entry;
use std::collections::BTreeMap;

const SECTOR: usize = 512;
const PAYLOAD: usize = 496;
const PAGE: usize = 4096;
const HEADER: usize = 64;
const OPENS: u32 = 1 << 31;

/// Kinds of records.
pub const ENTRY: u8 = 1;
/// Term and vote.
pub const HARD_STATE: u8 = 2;
/// All of a shard that a segment's head restates.
pub const SHARD_STATE: u8 = 3;
const CUT: u8 = 7;
/// Where a shard's log begins.
pub const FLOOR: u8 = 9;
/// Where the store's log begins.
pub const OLDEST: u8 = 10;

/// A record, or a fragment of one.
#[derive(Clone, PartialEq)]
pub struct Record {
    pub kind: u8,
    /// 3: whole.
    pub flags: u8,
    pub bytes: Vec<u8>,
}

impl Record {
    /// A number in it.
    pub fn u64_at(&self, at: usize) -> u64 {
        u64_at(&self.bytes, at)
    }
    /// A number in it.
    pub fn u32_at(&self, at: usize) -> u32 {
        u32_at(&self.bytes, at)
    }
    /// Writes a number into it.
    pub fn put_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    /// The entry that it is, when it is a whole one.
    pub fn entry(&self) -> Option<Entry> {
        let whole = self.kind == ENTRY && self.flags == 3;
        whole.then(|| Entry::decode(&mut Reader::new(Bytes::from(self.bytes.clone()))).expect("an entry in a log"))
    }
    /// Shard and term of the entry that it begins.
    pub fn begins(&self) -> Option<(u32, u64)> {
        let begins = self.kind == ENTRY && self.flags & 1 != 0 && self.bytes.len() >= 48;
        begins.then(|| (self.u32_at(0), self.u64_at(8)))
    }
    /// Makes it hold this entry.
    pub fn set_entry(&mut self, entry: &Entry) {
        self.bytes.clear();
        entry.encode(&mut self.bytes);
    }
}

/// A whole batch in a segment.
pub struct Batch {
    path: String,
    offset: usize,
    number: u64,
    header: [u8; HEADER],
    was: Vec<Record>,
    /// Its records, to be edited; they may not take more room.
    pub records: Vec<Record>,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn identity(life: &Life) -> u32 {
    let (id, incarnation) = (life.config.id, life.config.incarnation);
    let seed = crc32c::crc32c(&incarnation.0.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &id.node.0.to_le_bytes());
    let seed = crc32c::crc32c_append(seed, &id.store.to_le_bytes());
    crc32c::crc32c_append(seed, &[0; 2])
}

fn is_whole(sector: &[u8], number: u64, index: u32, seed: u32) -> bool {
    u64_at(sector, PAYLOAD) == number
        && u32_at(sector, 504) == index
        && u32_at(sector, 508) == crc32c::crc32c_append(seed, &sector[..508])
}

/// The batch at `offset` of a segment's bytes.
fn open(path: &str, bytes: &[u8], offset: usize, seed: u32) -> Option<Batch> {
    let first = bytes.get(offset..offset + SECTOR)?;
    let number = u64_at(first, PAYLOAD);
    let index = (offset / SECTOR) as u32;
    let segment = path.rsplit_once('-').and_then(|(_, name)| u64::from_str_radix(name.strip_suffix(".log")?, 16).ok());
    let ours = first.starts_with(b"RKLB") && u64_at(first, 8) == number && Some(u64_at(first, 16)) == segment;
    if !ours || !is_whole(first, number, index | OPENS, seed) {
        return None;
    }
    let sectors = u32_at(first, 32) as usize;
    let all = bytes.get(offset..offset + sectors * SECTOR)?;
    let mut rest = all.chunks(SECTOR).zip(index..).skip(1);
    if !rest.all(|(sector, index)| is_whole(sector, number, index, seed)) {
        return None;
    }
    let payload: Vec<u8> = all.chunks(SECTOR).flat_map(|sector| &sector[..PAYLOAD]).copied().collect();
    let mut header = [0; HEADER];
    header.copy_from_slice(&payload[..HEADER]);
    let (mut records, mut at) = (Vec::new(), HEADER);
    for _ in 0..u32_at(&header, 40) {
        let end = at + 8 + u32_at(&payload, at + 4) as usize;
        records.push(Record { kind: payload[at], flags: payload[at + 1], bytes: payload[at + 8..end].to_vec() });
        at = end;
    }
    Some(Batch { path: path.to_owned(), offset, number, header, was: records.clone(), records })
}

impl Batch {
    fn sectors(&self) -> usize {
        u32_at(&self.header, 32) as usize
    }

    /// Whether it belongs to its segment's head.
    pub fn is_head(&self) -> bool {
        self.header[6] & 1 != 0
    }

    /// Closes the batch; `chains` leads from the chains that were to those that are.
    fn close(&mut self, disk: &FaultDisk, seed: u32, chains: &mut BTreeMap<u32, u32>) {
        let (before, was) = (u32_at(&self.header, 44), u32_at(&self.header, 48));
        for cut in self.records.iter_mut().filter(|record| record.kind == CUT) {
            if let Some(now) = chains.get(&cut.u32_at(16)) {
                cut.bytes[16..20].copy_from_slice(&now.to_le_bytes());
            }
        }
        if let Some(now) = chains.get(&before) {
            self.header[44..48].copy_from_slice(&now.to_le_bytes());
        }
        if self.records == self.was && !chains.contains_key(&before) {
            return;
        }
        let mut payload = vec![0; HEADER];
        for record in &self.records {
            payload.extend([record.kind, record.flags, 0, 0]);
            payload.extend((record.bytes.len() as u32).to_le_bytes());
            payload.extend(&record.bytes);
        }
        self.header[36..40].copy_from_slice(&((payload.len() - HEADER) as u32).to_le_bytes());
        self.header[40..44].copy_from_slice(&(self.records.len() as u32).to_le_bytes());
        let chain = crc32c::crc32c_append(crc32c::crc32c(&self.header[..48]), &payload[HEADER..]);
        self.header[48..52].copy_from_slice(&chain.to_le_bytes());
        payload[..HEADER].copy_from_slice(&self.header);
        assert!(payload.len() <= self.sectors() * PAYLOAD, "an edit may not take more room");
        payload.resize(self.sectors() * PAYLOAD, 0);
        chains.insert(was, chain);
        disk.poke(&self.path, self.offset as u64, &self.sealed(&payload, seed));
    }

    fn sealed(&self, payload: &[u8], seed: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.sectors() * SECTOR);
        for (part, index) in payload.chunks(PAYLOAD).zip((self.offset / SECTOR) as u32..) {
            let mut sector = part.to_vec();
            let opens = if index as usize * SECTOR == self.offset { OPENS } else { 0 };
            sector.extend(self.number.to_le_bytes());
            sector.extend((index | opens).to_le_bytes());
            let crc = crc32c::crc32c_append(seed, &sector);
            sector.extend(crc.to_le_bytes());
            out.extend(sector);
        }
        out
    }
}

fn batches(disk: &FaultDisk, dir: &str, seed: u32) -> Vec<Batch> {
    let mut out = Vec::new();
    for path in disk.paths().into_iter().filter(|path| path.starts_with(dir)) {
        let bytes = disk.peek(&path).unwrap_or_default();
        let mut offset = 0;
        while offset < bytes.len() {
            let batch = open(&path, &bytes, offset, seed);
            offset += batch.as_ref().map_or(PAGE, |batch| batch.sectors() * SECTOR);
            out.extend(batch);
        }
    }
    out.sort_by_key(|batch| batch.number);
    out
}

/// Edits all batches of the life's log, oldest first, and makes them right again.
pub fn edit(life: &Life, edit: impl FnOnce(&mut [Batch])) {
    let (disk, seed) = (life.host.disk(), identity(life));
    let mut all = batches(&disk, &format!("{}/log/segment-", life.config.dir), seed);
    edit(&mut all);
    let mut chains = BTreeMap::new();
    all.iter_mut().for_each(|batch| batch.close(&disk, seed, &mut chains));
}
