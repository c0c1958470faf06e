//! What clients and stores say to each other (PROTOCOL.md §6.1, §6.2, §6.3).

use crate::codec::{Put, Reader, WireError};
use crate::entry::{Operations, limit, zeros};
use crate::ids::{Generation, KeyspaceId, NodeId, ShardId, StoreId};
use crate::limits;
use crate::status::Status;
use bytes::Bytes;

/// What every request to a shard opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// The shard.
    pub shard: ShardId,
    /// Its generation as the client knows it.
    pub generation: Generation,
    /// The client's map epoch.
    pub epoch: u64,
    /// Time left, ms.
    pub deadline_ms: u32,
    /// Attempt, from 0.
    pub attempt: u16,
}

impl RequestHeader {
    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.shard.0);
        out.put_u32(self.generation.0);
        out.put_u64(self.epoch);
        out.put_u32(self.deadline_ms);
        out.put_u16(self.attempt);
    }
    fn decode(r: &mut Reader) -> Result<RequestHeader, WireError> {
        Ok(RequestHeader {
            shard: ShardId(r.u32()?),
            generation: Generation(r.u32()?),
            epoch: r.u64()?,
            deadline_ms: r.u32()?,
            attempt: r.u16()?,
        })
    }
}

/// A write: header, and the operations as they will stand in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRequest {
    /// Where it goes.
    pub header: RequestHeader,
    /// The entry's body. Not yet checked: [`Operations::decode`] is the check.
    pub body: Bytes,
}

impl WriteRequest {
    /// Appends header and operations.
    pub fn encode(header: &RequestHeader, ops: &Operations, out: &mut Vec<u8>) {
        WriteRequest::encode_header(header, out);
        ops.encode(out);
    }
    /// Appends the header alone; [`Operations::encode_each`] follows.
    pub fn encode_header(header: &RequestHeader, out: &mut Vec<u8>) {
        header.encode(out);
        out.put(&[0; 10]);
    }
    /// Reads the header and keeps the body as it came.
    pub fn decode(body: Bytes) -> Result<WriteRequest, WireError> {
        let mut r = Reader::new(body);
        let header = RequestHeader::decode(&mut r)?;
        r.zeros(10)?;
        let body = r.rest();
        limit("entry body bytes", body.len(), limits::ENTRY_BODY_BYTES_MAX)?;
        Ok(WriteRequest { header, body })
    }
}

/// What a read must reflect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ReadLevel {
    /// Everything acknowledged before the read began; by the leader's lease when it holds one.
    #[default]
    Linearizable = 1,
    /// The same, always by a round to a majority.
    ReadIndex = 2,
}

/// Keys to read from one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Where it goes.
    pub header: RequestHeader,
    /// What it must reflect.
    pub level: ReadLevel,
    /// 1..=1024 keys.
    pub keys: ReadKeys,
}

/// The keys of a read where they stand in its message: checked once, borrowed after that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadKeys {
    bytes: Bytes,
    count: usize,
}

/// What stands before each key.
const KEY_HEADER_BYTES: usize = 6;

/// The first key of `bytes`, and what is behind it.
fn split_key(bytes: &[u8]) -> Result<(KeyspaceId, &[u8], &[u8]), WireError> {
    let short = |wanted| WireError::Short { wanted, left: bytes.len() };
    let (header, rest) = bytes.split_first_chunk::<KEY_HEADER_BYTES>().ok_or_else(|| short(KEY_HEADER_BYTES))?;
    let [a, b, c, d, low, high] = *header;
    let len = usize::from(u16::from_le_bytes([low, high]));
    if len == 0 {
        return Err(WireError::Value { what: "key bytes", got: 0 });
    }
    let (key, rest) = rest.split_at_checked(len).ok_or_else(|| short(KEY_HEADER_BYTES + len))?;
    Ok((KeyspaceId(u32::from_le_bytes([a, b, c, d])), key, rest))
}

impl ReadKeys {
    /// Copies keys.
    pub fn new<'k>(keys: impl ExactSizeIterator<Item = (KeyspaceId, &'k [u8])>) -> ReadKeys {
        let (mut bytes, count) = (Vec::new(), keys.len());
        keys.for_each(|key| put_key(key, &mut bytes));
        ReadKeys { bytes: bytes.into(), count }
    }

    /// Takes `count` keys that fill `bytes`.
    fn checked(bytes: Bytes, count: usize) -> Result<ReadKeys, WireError> {
        limit("keys", count, limits::OPERATIONS_MAX)?;
        if count == 0 {
            return Err(WireError::Value { what: "keys", got: 0 });
        }
        let mut left = &bytes[..];
        for _ in 0..count {
            left = split_key(left)?.2;
        }
        match left.len() {
            0 => Ok(ReadKeys { bytes, count }),
            more => Err(WireError::Value { what: "bytes behind the end", got: more as u64 }),
        }
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Each with its keyspace, in the request's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (KeyspaceId, &[u8])> {
        let mut left = &self.bytes[..];
        (0..self.count).map(move |_| match split_key(left) {
            Ok((keyspace, key, rest)) => {
                left = rest;
                (keyspace, key)
            }
            Err(_) => unreachable!("they were checked"),
        })
    }
}

fn put_key((keyspace, key): (KeyspaceId, &[u8]), out: &mut Vec<u8>) {
    assert!((1..=limits::KEY_BYTES_MAX).contains(&key.len()), "a key of {} bytes", key.len());
    out.put_u32(keyspace.0);
    out.put_u16(key.len() as u16);
    out.put(key);
}

impl ReadRequest {
    /// Appends the request.
    pub fn encode(&self, out: &mut Vec<u8>) {
        ReadRequest::encode_each(&self.header, self.level, self.keys.iter(), out);
    }
    /// The same, from keys that live elsewhere.
    pub fn encode_each<'k>(
        header: &RequestHeader,
        level: ReadLevel,
        keys: impl ExactSizeIterator<Item = (KeyspaceId, &'k [u8])>,
        out: &mut Vec<u8>,
    ) {
        assert!((1..=limits::OPERATIONS_MAX).contains(&keys.len()), "{} keys", keys.len());
        header.encode(out);
        out.put_u8(level as u8);
        out.put_u8(0);
        out.put_u32(keys.len() as u32);
        out.put_u32(0);
        keys.for_each(|key| put_key(key, out));
    }
    /// Reads a whole request.
    pub fn decode(body: Bytes) -> Result<ReadRequest, WireError> {
        let mut r = Reader::new(body);
        let header = RequestHeader::decode(&mut r)?;
        let level = match r.u8()? {
            1 => ReadLevel::Linearizable,
            2 => ReadLevel::ReadIndex,
            got => return Err(WireError::Value { what: "read level", got: u64::from(got) }),
        };
        r.zeros(1)?;
        let count = r.u32()? as usize;
        r.zeros(4)?;
        Ok(ReadRequest { header, level, keys: ReadKeys::checked(r.rest(), count)? })
    }
}

/// What every reply opens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusHeader {
    /// The shard asked for.
    pub shard: ShardId,
    /// Its generation at the store.
    pub generation: Generation,
    /// The request as a whole. Items follow only when it is `Ok`.
    pub status: Status,
    /// 0 none, 1 lease, 2 read index.
    pub level: u8,
    /// Who leads, as far as this store knows.
    pub leader: Option<StoreId>,
    /// The store's map epoch.
    pub epoch: u64,
    /// Log time the leader would stamp now, ms; 0 when not known.
    pub log_time_ms: u64,
    /// The applied index the answer reflects.
    pub index: u64,
    /// How long the store had the request, us, from the turn that took it in to this answer. Not said (0) in refusals.
    pub store_us: u32,
}

/// Bytes of a status header.
pub const STATUS_HEADER_BYTES: usize = 48;

impl StatusHeader {
    /// Appends the header, announcing `items`.
    pub fn encode(&self, items: u32, out: &mut Vec<u8>) {
        let hint = self.leader.unwrap_or(StoreId { node: NodeId(0), store: 0xffff });
        out.put_u32(self.shard.0);
        out.put_u32(self.generation.0);
        out.put_u8(self.status as u8);
        out.put_u8(self.level);
        out.put_u16(hint.store);
        out.put_u32(hint.node.0);
        out.put_u64(self.epoch);
        out.put_u64(self.log_time_ms);
        out.put_u64(self.index);
        out.put_u32(items);
        out.put_u32(self.store_us);
    }
    /// Reads the header and the number of items.
    pub fn decode(r: &mut Reader) -> Result<(StatusHeader, usize), WireError> {
        let (shard, generation) = (ShardId(r.u32()?), Generation(r.u32()?));
        let status = Status::from_u8(r.u8()?).unwrap_or(Status::Unknown);
        let level = r.u8()?;
        let (store, node) = (r.u16()?, NodeId(r.u32()?));
        let leader = (store != 0xffff).then_some(StoreId { node, store });
        let (epoch, log_time_ms, index) = (r.u64()?, r.u64()?, r.u64()?);
        let (items, store_us) = (r.u32()? as usize, r.u32()?);
        Ok((StatusHeader { shard, generation, status, level, leader, epoch, log_time_ms, index, store_us }, items))
    }
}

/// Outcome of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteResult {
    /// What became of it.
    pub status: Status,
    /// The index at which it was applied; 0 when it was not.
    pub version: u64,
}

/// Appends a reply to a write.
pub fn encode_write_reply(header: &StatusHeader, results: &[WriteResult], out: &mut Vec<u8>) {
    header.encode(results.len() as u32, out);
    for result in results {
        out.put_u8(result.status as u8);
        out.put(&[0; 7]);
        out.put_u64(result.version);
    }
}

/// Reads a reply to a write, or a refusal (no items).
pub fn decode_write_reply(body: Bytes) -> Result<(StatusHeader, Vec<WriteResult>), WireError> {
    let mut r = Reader::new(body);
    let (header, items) = StatusHeader::decode(&mut r)?;
    limit("items", items, limits::OPERATIONS_MAX)?;
    let mut results = Vec::with_capacity(items.min(r.left() / 16));
    for _ in 0..items {
        let status = Status::from_u8(r.u8()?).unwrap_or(Status::Unknown);
        r.zeros(7)?;
        results.push(WriteResult { status, version: r.u64()? });
    }
    r.finish()?;
    Ok((header, results))
}

/// What a read found under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadResult {
    /// The value and the index that wrote it.
    Found {
        /// The value, sharing the message's memory.
        value: Bytes,
        /// The index of the write.
        version: u64,
    },
    /// There is none.
    Absent,
    /// The reply would have grown beyond a message: ask for this key again.
    AskAgain,
    /// A block with this key could not be read or failed its checksum.
    Unreadable,
}

/// Appends one item of a reply to a read.
pub fn put_read_result(result: &ReadResult, out: &mut Vec<u8>) {
    match result {
        ReadResult::Found { value, version } => put_found(*version, value, out),
        ReadResult::Absent => put_item(1, 0, &[], out),
        ReadResult::AskAgain => put_item(2, 0, &[], out),
        ReadResult::Unreadable => put_item(3, 0, &[], out),
    }
}

/// [`ReadResult::Found`] of a value that is somebody else's.
pub fn put_found(version: u64, value: &[u8], out: &mut Vec<u8>) {
    put_item(0, version, value, out);
}

fn put_item(status: u8, version: u64, value: &[u8], out: &mut Vec<u8>) {
    let mut head = [0; 16];
    head[0] = status;
    head[4..8].copy_from_slice(&(value.len() as u32).to_le_bytes());
    head[8..].copy_from_slice(&version.to_le_bytes());
    out.reserve(head.len() + value.len());
    out.put(&head);
    out.put(value);
}

/// The results of a read where they stand in its reply: checked once, taken out one by one after that.
#[derive(Clone, Debug)]
pub struct ReadResults {
    bytes: Bytes,
    count: usize,
    ask_again: usize,
}

/// What stands before each value.
const RESULT_HEADER_BYTES: usize = 16;

/// Status, version and length of the value of the first result of `bytes`.
fn result_head(bytes: &[u8]) -> Result<(u8, u64, usize), WireError> {
    let short = |wanted| WireError::Short { wanted, left: bytes.len() };
    let head = bytes.first_chunk::<RESULT_HEADER_BYTES>().ok_or_else(|| short(RESULT_HEADER_BYTES))?;
    let [status, a, b, c, d, e, f, g, version @ ..] = *head;
    zeros(&[a, b, c])?;
    let (value_bytes, version) = (u32::from_le_bytes([d, e, f, g]) as usize, u64::from_le_bytes(version));
    match status {
        0 if bytes.len() - RESULT_HEADER_BYTES < value_bytes => Err(short(RESULT_HEADER_BYTES + value_bytes)),
        1..=3 if (value_bytes, version) != (0, 0) => {
            Err(WireError::Value { what: "value bytes of what was not found", got: value_bytes as u64 })
        }
        0..=3 => Ok((status, version, value_bytes)),
        got => Err(WireError::Value { what: "read status", got: u64::from(got) }),
    }
}

impl ReadResults {
    /// Takes `count` results that fill `bytes`.
    fn checked(bytes: Bytes, count: usize) -> Result<ReadResults, WireError> {
        limit("items", count, limits::OPERATIONS_MAX)?;
        let (mut left, mut ask_again) = (&bytes[..], 0);
        for _ in 0..count {
            let (status, _, value_bytes) = result_head(left)?;
            ask_again += usize::from(status == 2);
            left = &left[RESULT_HEADER_BYTES + value_bytes..];
        }
        match left.len() {
            0 => Ok(ReadResults { bytes, count, ask_again }),
            more => Err(WireError::Value { what: "bytes behind the end", got: more as u64 }),
        }
    }

    /// How many: none in a refusal.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// How many are [`ReadResult::AskAgain`].
    pub fn ask_again(&self) -> usize {
        self.ask_again
    }

    /// Each, in the request's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ReadResult> {
        let mut at = 0;
        (0..self.count).map(move |_| match result_head(&self.bytes[at..]) {
            Ok((status, version, value_bytes)) => {
                let from = at + RESULT_HEADER_BYTES;
                at = from + value_bytes;
                match status {
                    0 => ReadResult::Found { value: self.bytes.slice(from..at), version },
                    1 => ReadResult::Absent,
                    2 => ReadResult::AskAgain,
                    _ => ReadResult::Unreadable,
                }
            }
            Err(_) => unreachable!("they were checked"),
        })
    }
}

/// Reads a reply to a read, or a refusal (no items).
pub fn decode_read_reply(body: Bytes) -> Result<(StatusHeader, ReadResults), WireError> {
    let mut r = Reader::new(body);
    let (header, items) = StatusHeader::decode(&mut r)?;
    Ok((header, ReadResults::checked(r.rest(), items)?))
}
