//! A frame: one append, whole or not there (FORMAT.md §6.2).

use super::Op;
use crate::sst::NEVER_MS;
use ringkv_wire::ids::KeyspaceId;
use ringkv_wire::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Largest batch that an append takes, as [`batch_bytes`] counts it.
pub(crate) const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Frames start at multiples of this.
pub(super) const FRAME_ALIGN: usize = 8;

const PUT: u8 = 1;
const PUT_EXPIRING: u8 = 2;
const DELETE: u8 = 3;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Layout {
    crc: U32,
    body_crc: U32,
    body_bytes: U32,
    ops: U32,
    first_seq: U64,
    synced: U64,
}
pub(super) const FRAME_HEAD_BYTES: usize = size_of::<Layout>();
const _: () = assert!(FRAME_HEAD_BYTES == 32 && FRAME_HEAD_BYTES.is_multiple_of(FRAME_ALIGN));

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct OpLayout {
    kind: u8,
    zero: u8,
    key_bytes: U16,
    keyspace: U32,
    value_bytes: U32,
}
const OP_HEAD_BYTES: usize = size_of::<OpLayout>();
const _: () = assert!(OP_HEAD_BYTES == 12 && KEY_BYTES_MAX == u16::MAX as usize);
const EXPIRY_BYTES: usize = 8;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub body_crc: u32,
    pub body_bytes: u32,
    pub ops: u32,
    /// Of its first op, from 1; of the op that comes next when it has none.
    pub first_seq: u64,
    /// Every record up to this one was durable when the frame was written.
    pub synced: u64,
}

/// Bytes that a batch takes in the log, at least.
pub(crate) fn batch_bytes(ops: &[Op<'_>]) -> u64 {
    (FRAME_HEAD_BYTES + ops.iter().map(op_bytes).sum::<usize>()).next_multiple_of(FRAME_ALIGN) as u64
}

fn op_bytes(op: &Op<'_>) -> usize {
    let expiry = if expires(op) { EXPIRY_BYTES } else { 0 };
    OP_HEAD_BYTES + expiry + op.key.len() + op.value.map_or(0, <[u8]>::len)
}

fn expires(op: &Op<'_>) -> bool {
    op.value.is_some() && op.expiry_ms != NEVER_MS
}

/// Starts the check of a frame's head: neither another life of the file nor another place in it has the same.
fn seed(salt: u32, offset: usize) -> u32 {
    salt.wrapping_add((offset / FRAME_ALIGN) as u32)
}

/// Writes a frame over all of `slot`, which is [`batch_bytes`] long and begins at `offset` of its segment.
pub(super) fn put(slot: &mut [u8], offset: usize, salt: u32, first_seq: u64, synced: u64, ops: &[Op<'_>]) {
    assert!(synced < first_seq, "a record is durable that was not written");
    let total = slot.len();
    let (head, body) = slot.split_at_mut(FRAME_HEAD_BYTES);
    let mut rest = &mut *body;
    for op in ops {
        rest = put_op(rest, op);
    }
    let padding = rest.len();
    assert!(padding < FRAME_ALIGN, "the slot is larger than the frame");
    rest.fill(0);
    let body_bytes = total - FRAME_HEAD_BYTES - padding;
    let mut layout = Layout {
        crc: U32::ZERO,
        body_crc: U32::new(crc32c::crc32c_append(salt, &body[..body_bytes])),
        body_bytes: U32::new(body_bytes as u32),
        ops: U32::new(ops.len() as u32),
        first_seq: U64::new(first_seq),
        synced: U64::new(synced),
    };
    layout.crc = U32::new(layout.check(salt, offset));
    head.copy_from_slice(layout.as_bytes());
}

/// Writes one op at the start of `slot`; answers what is left of it.
fn put_op<'s>(slot: &'s mut [u8], op: &Op<'_>) -> &'s mut [u8] {
    let value = op.value.unwrap_or_default();
    assert!(op.key.len() <= KEY_BYTES_MAX, "a key too large");
    assert!(value.len() <= VALUE_BYTES_MAX, "a value too large");
    let kind = match op.value {
        Some(_) if op.expiry_ms != NEVER_MS => PUT_EXPIRING,
        Some(_) => PUT,
        None => DELETE,
    };
    let layout = OpLayout {
        kind,
        zero: 0,
        key_bytes: U16::new(op.key.len() as u16),
        keyspace: U32::new(op.keyspace.0),
        value_bytes: U32::new(value.len() as u32),
    };
    let mut rest = put_bytes(slot, layout.as_bytes());
    if kind == PUT_EXPIRING {
        rest = put_bytes(rest, &op.expiry_ms.to_le_bytes());
    }
    put_bytes(put_bytes(rest, op.key), value)
}

fn put_bytes<'s>(slot: &'s mut [u8], bytes: &[u8]) -> &'s mut [u8] {
    let (here, rest) = slot.split_at_mut(bytes.len());
    here.copy_from_slice(bytes);
    rest
}

impl Layout {
    fn check(&self, salt: u32, offset: usize) -> u32 {
        crc32c::crc32c_append(seed(salt, offset), &self.as_bytes()[4..])
    }
}

impl FrameHead {
    /// The head of a frame at `offset` of a segment, when one stands there; then all of the frame lies in the segment.
    pub fn read(segment: &[u8], offset: usize, salt: u32) -> Option<FrameHead> {
        let (layout, rest) = Layout::ref_from_prefix(segment.get(offset..)?).ok()?;
        // Zeros stop here, and most of what else is no frame.
        if layout.first_seq.get() == 0 || layout.body_bytes.get() as usize > rest.len() {
            return None;
        }
        (layout.crc.get() == layout.check(salt, offset)).then(|| FrameHead {
            body_crc: layout.body_crc.get(),
            body_bytes: layout.body_bytes.get(),
            ops: layout.ops.get(),
            first_seq: layout.first_seq.get(),
            synced: layout.synced.get(),
        })
    }

    /// The ops' bytes, when they are whole.
    pub fn body<'s>(&self, segment: &'s [u8], offset: usize, salt: u32) -> Option<&'s [u8]> {
        let body = segment.get(offset + FRAME_HEAD_BYTES..)?.get(..self.body_bytes as usize)?;
        (crc32c::crc32c_append(salt, body) == self.body_crc).then_some(body)
    }

    /// Where the frame at `offset` ends.
    pub fn end(&self, offset: usize) -> usize {
        offset + (FRAME_HEAD_BYTES + self.body_bytes as usize).next_multiple_of(FRAME_ALIGN)
    }

    /// Sequence number that follows its last op; none when the numbers end before.
    pub fn next_seq(&self) -> Option<u64> {
        self.first_seq.checked_add(u64::from(self.ops))
    }
}

/// Takes the first op off a body; none when the bytes are no op.
pub(super) fn take_op<'b>(body: &mut &'b [u8]) -> Option<Op<'b>> {
    let (layout, mut rest) = OpLayout::ref_from_prefix(body).ok()?;
    let expiry_ms = match layout.kind {
        PUT_EXPIRING => u64::from_le_bytes(rest.split_off(..EXPIRY_BYTES)?.try_into().ok()?),
        PUT | DELETE => NEVER_MS,
        _ => return None,
    };
    let key = rest.split_off(..usize::from(layout.key_bytes.get()))?;
    let value = rest.split_off(..layout.value_bytes.get() as usize)?;
    if layout.kind == DELETE && !value.is_empty() {
        return None;
    }
    *body = rest;
    let value = (layout.kind != DELETE).then_some(value);
    Some(Op { keyspace: KeyspaceId(layout.keyspace.get()), key, value, expiry_ms })
}
