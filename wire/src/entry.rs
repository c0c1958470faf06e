//! The entry: the same bytes between stores and in the log (PROTOCOL.md §4).

use crate::codec::{Put, Reader, WireError};
use crate::ids::{ClientId, Generation, KeyspaceId, ShardId};
use crate::limits;
use bytes::Bytes;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// What an entry's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// Nothing: a new leader's first (Raft §8).
    Empty = 1,
    /// A client's operations.
    Operations = 2,
    /// A configuration of the group.
    Configuration = 3,
    /// Log time only.
    Tick = 4,
}

impl EntryKind {
    fn from_u8(v: u8) -> Result<EntryKind, WireError> {
        match v {
            1 => Ok(EntryKind::Empty),
            2 => Ok(EntryKind::Operations),
            3 => Ok(EntryKind::Configuration),
            4 => Ok(EntryKind::Tick),
            _ => Err(WireError::Value { what: "entry kind", got: u64::from(v) }),
        }
    }
}

/// The 48 bytes in front of an entry's body.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryHeader {
    shard: U32,
    generation: U32,
    term: U64,
    index: U64,
    log_time_ms: U64,
    kind: u8,
    zero: [u8; 3],
    body_bytes: U32,
    body_crc: U32,
    header_crc: U32,
}
const _: () = assert!(size_of::<EntryHeader>() == ENTRY_HEADER_BYTES);

/// Bytes of an entry's header.
pub const ENTRY_HEADER_BYTES: usize = 48;

/// One entry of a shard's log. Cheap to clone: the body is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The shard whose log this is in.
    pub shard: ShardId,
    /// The shard's generation when it was proposed.
    pub generation: Generation,
    /// The leader's term.
    pub term: u64,
    /// Its place in the log, from 1.
    pub index: u64,
    /// Log time stamped by the leader, ms.
    pub log_time_ms: u64,
    /// What the body is.
    pub kind: EntryKind,
    /// The body as it came from the client.
    pub body: Bytes,
    /// The body's CRC-32C, computed once.
    pub body_crc: u32,
}

impl Entry {
    /// Bytes on the wire and in the log.
    pub fn encoded_bytes(&self) -> usize {
        ENTRY_HEADER_BYTES + self.body.len()
    }

    /// The header's bytes; the body follows as it is.
    pub fn header(&self) -> [u8; ENTRY_HEADER_BYTES] {
        let mut header = EntryHeader {
            shard: U32::new(self.shard.0),
            generation: U32::new(self.generation.0),
            term: U64::new(self.term),
            index: U64::new(self.index),
            log_time_ms: U64::new(self.log_time_ms),
            kind: self.kind as u8,
            zero: [0; 3],
            body_bytes: U32::new(self.body.len() as u32),
            body_crc: U32::new(self.body_crc),
            header_crc: U32::new(0),
        };
        header.header_crc = U32::new(crc32c::crc32c(&header.as_bytes()[..44]));
        zerocopy::transmute!(header)
    }

    /// Appends header and body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.header());
        out.put(&self.body);
    }

    /// Reads and verifies one entry: header checksum first, then the length is trusted, then the body's.
    pub fn decode(r: &mut Reader) -> Result<Entry, WireError> {
        let bytes = r.take(ENTRY_HEADER_BYTES)?;
        let header = EntryHeader::read_from_bytes(&bytes)
            .map_err(|_| WireError::Short { wanted: ENTRY_HEADER_BYTES, left: bytes.len() })?;
        check("entry header", header.header_crc.get(), crc32c::crc32c(&bytes[..44]))?;
        zero("entry header", u32::from(header.zero.iter().any(|&b| b != 0)))?;
        let body_bytes = header.body_bytes.get() as usize;
        if body_bytes > limits::ENTRY_BODY_BYTES_MAX {
            return Err(WireError::Limit {
                what: "entry body bytes",
                got: body_bytes as u64,
                limit: limits::ENTRY_BODY_BYTES_MAX as u64,
            });
        }
        zeros(&header.zero)?;
        let body = r.take(body_bytes)?;
        check("entry body", header.body_crc.get(), crc32c::crc32c(&body))?;
        Ok(Entry {
            shard: ShardId(header.shard.get()),
            generation: Generation(header.generation.get()),
            term: header.term.get(),
            index: header.index.get(),
            log_time_ms: header.log_time_ms.get(),
            kind: EntryKind::from_u8(header.kind)?,
            body,
            body_crc: header.body_crc.get(),
        })
    }
}

/// Refuses reserved bytes that are not zero.
pub(crate) fn zeros(bytes: &[u8]) -> Result<(), WireError> {
    match bytes.iter().find(|&&b| b != 0) {
        None => Ok(()),
        Some(&got) => Err(WireError::Value { what: "a reserved byte", got: u64::from(got) }),
    }
}

pub(crate) fn check(what: &'static str, expected: u32, got: u32) -> Result<(), WireError> {
    if expected == got { Ok(()) } else { Err(WireError::Checksum { what, expected, got }) }
}

/// What one operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OpKind {
    /// Sets the key's value.
    Put = 1,
    /// Removes the key.
    Delete = 2,
}

/// One operation of a client, inside an entry's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client's own sequence for this shard, from 1.
    pub seq: u64,
    /// Expiry in the shard's log time, ms.
    pub expiry_ms: u64,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// What it does.
    pub kind: OpKind,
    /// The key, 1..=65,535 bytes.
    pub key: Bytes,
    /// The value; empty for a delete.
    pub value: Bytes,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OperationsHeader {
    client: [u8; 16],
    floor: U64,
    count: U32,
    zero: U32,
}
const _: () = assert!(size_of::<OperationsHeader>() == 32);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct OperationHeader {
    seq: U64,
    expiry_ms: U64,
    keyspace: U32,
    kind: u8,
    flags: u8,
    key_bytes: U16,
    value_bytes: U32,
    zero: U32,
}
const _: () = assert!(size_of::<OperationHeader>() == 32);

/// Bytes of an operation's header; key and value follow.
pub const OPERATION_HEADER_BYTES: usize = 32;
/// Bytes of the header in front of all operations.
pub const OPERATIONS_HEADER_BYTES: usize = 32;

/// The body of an entry of kind `Operations`, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// Who asked.
    pub client: ClientId,
    /// The lowest sequence the client has unfinished in this shard.
    pub floor: u64,
    /// 1..=1024 operations, applied in order.
    pub ops: Vec<Operation>,
}

impl Operations {
    /// Appends the body.
    ///
    /// # Panics
    /// When a count or a length is beyond its limit: the caller has checked what it was given.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Operations::encode_each(self.client, self.floor, self.ops.iter(), out);
    }

    /// The same, from operations that live elsewhere.
    pub fn encode_each<'o>(
        client: ClientId,
        floor: u64,
        ops: impl ExactSizeIterator<Item = &'o Operation>,
        out: &mut Vec<u8>,
    ) {
        assert!((1..=limits::OPERATIONS_MAX).contains(&ops.len()), "{} operations", ops.len());
        out.put_layout(&OperationsHeader {
            client: client.0,
            floor: U64::new(floor),
            count: U32::new(ops.len() as u32),
            zero: U32::new(0),
        });
        for op in ops {
            assert!((1..=limits::KEY_BYTES_MAX).contains(&op.key.len()), "a key of {} bytes", op.key.len());
            assert!(op.value.len() <= limits::VALUE_BYTES_MAX, "a value of {} bytes", op.value.len());
            out.put_layout(&OperationHeader {
                seq: U64::new(op.seq),
                expiry_ms: U64::new(op.expiry_ms),
                keyspace: U32::new(op.keyspace.0),
                kind: op.kind as u8,
                flags: 0,
                key_bytes: U16::new(op.key.len() as u16),
                value_bytes: U32::new(op.value.len() as u32),
                zero: U32::new(0),
            });
            out.put(&op.key);
            out.put(&op.value);
        }
    }

    /// Reads and checks a whole body: counts, lengths, kinds, nothing behind the end.
    pub fn decode(body: Bytes) -> Result<Operations, WireError> {
        let mut r = Reader::new(body);
        let header: OperationsHeader = r.layout()?;
        zeros(header.zero.as_bytes())?;
        let count = header.count.get() as usize;
        limit("operations", count, limits::OPERATIONS_MAX)?;
        if count == 0 {
            return Err(WireError::Value { what: "operations", got: 0 });
        }
        zero("operations header", header.zero.get())?;
        let floor = header.floor.get();
        let mut least = floor;
        let mut ops = Vec::with_capacity(count.min(r.left() / OPERATION_HEADER_BYTES + 1));
        for _ in 0..count {
            let op = decode_operation(&mut r)?;
            if op.seq < least || op.seq == 0 {
                return Err(WireError::Value { what: "sequence", got: op.seq });
            }
            least = op.seq.saturating_add(1);
            ops.push(op);
        }
        r.finish()?;
        Ok(Operations { client: ClientId(header.client), floor, ops })
    }
}

fn decode_operation(r: &mut Reader) -> Result<Operation, WireError> {
    let header: OperationHeader = r.layout()?;
    let kind = match header.kind {
        1 => OpKind::Put,
        2 => OpKind::Delete,
        got => return Err(WireError::Value { what: "operation kind", got: u64::from(got) }),
    };
    if header.flags != 0 {
        return Err(WireError::Value { what: "operation flags", got: u64::from(header.flags) });
    }
    zeros(header.zero.as_bytes())?;
    let (key_bytes, value_bytes) = (usize::from(header.key_bytes.get()), header.value_bytes.get() as usize);
    zero("operation header", header.zero.get())?;
    if header.keyspace.get() == 0 {
        return Err(WireError::Value { what: "keyspace", got: 0 });
    }
    limit("value bytes", value_bytes, limits::VALUE_BYTES_MAX)?;
    if key_bytes == 0 {
        return Err(WireError::Value { what: "key bytes", got: 0 });
    }
    if kind == OpKind::Delete && value_bytes != 0 {
        return Err(WireError::Value { what: "value bytes of a delete", got: value_bytes as u64 });
    }
    Ok(Operation {
        seq: header.seq.get(),
        expiry_ms: header.expiry_ms.get(),
        keyspace: KeyspaceId(header.keyspace.get()),
        kind,
        key: r.take(key_bytes)?,
        value: r.take(value_bytes)?,
    })
}

/// Reserved fields are zero: a later meaning is never ignored silently.
fn zero(what: &'static str, got: u32) -> Result<(), WireError> {
    if got == 0 { Ok(()) } else { Err(WireError::Value { what, got: u64::from(got) }) }
}

pub(crate) fn limit(what: &'static str, got: usize, limit: usize) -> Result<(), WireError> {
    if got <= limit { Ok(()) } else { Err(WireError::Limit { what, got: got as u64, limit: limit as u64 }) }
}
