//! Frames, and messages as sequences of chunks (PROTOCOL.md §3).

use crate::codec::{Put, WireError};
use crate::entry::{check, limit, zeros};
use crate::limits;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"RKVF");
const MORE: u8 = 1;
const CONTINUED: u8 = 2;
/// Messages in pieces that one connection may have open at once.
const PARTIAL_MAX: usize = 64;

/// What a message is (PROTOCOL.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A client's operations for one shard.
    Write = 1,
    /// Their outcomes.
    WriteReply = 2,
    /// Keys to read from one shard.
    Read = 3,
    /// Their values.
    ReadReply = 4,
    /// Asks for the cluster map.
    Map = 5,
    /// The map.
    MapReply = 6,
    /// Asks how the store is.
    Status = 7,
    /// JSON text.
    StatusReply = 8,
    /// A message refused as a whole.
    Refused = 9,
    /// Raft messages between stores.
    Peer = 16,
    /// Snapshot messages between stores.
    Snapshot = 17,
}

impl Kind {
    fn from_u8(v: u8) -> Result<Kind, WireError> {
        Ok(match v {
            1 => Kind::Write,
            2 => Kind::WriteReply,
            3 => Kind::Read,
            4 => Kind::ReadReply,
            5 => Kind::Map,
            6 => Kind::MapReply,
            7 => Kind::Status,
            8 => Kind::StatusReply,
            9 => Kind::Refused,
            16 => Kind::Peer,
            17 => Kind::Snapshot,
            got => return Err(WireError::Value { what: "message kind", got: u64::from(got) }),
        })
    }
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Layout {
    magic: U32,
    version: u8,
    kind: u8,
    flags: u8,
    zero: u8,
    body_bytes: U32,
    message_bytes: U32,
    id: U64,
    body_crc: U32,
    header_crc: U32,
}
const _: () = assert!(size_of::<Layout>() == FRAME_HEADER_BYTES);

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Chosen by the asking side, echoed in the answer.
    pub id: u64,
    /// Its bytes, joined.
    pub body: Bytes,
}

/// The longest body that one frame holds.
const ROOM: usize = limits::FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

/// Appends `body` to `out` as one frame, or as chunks when it is longer than a frame.
///
/// # Panics
/// When `body` is longer than `MESSAGE_BYTES_MAX`: the caller's own messages are bounded.
pub fn encode(kind: Kind, id: u64, body: &[u8], out: &mut Vec<u8>) {
    assert!(body.len() <= limits::MESSAGE_BYTES_MAX, "a message of {} bytes", body.len());
    let mut sent = 0;
    loop {
        let chunk = &body[sent..body.len().min(sent + ROOM)];
        let last = sent + chunk.len() == body.len();
        let flags = if last { 0 } else { MORE } | if sent == 0 { 0 } else { CONTINUED };
        out.put_layout(&layout(kind, id, flags, chunk, body.len()));
        out.put(chunk);
        sent += chunk.len();
        if last {
            return;
        }
    }
}

/// Appends what `write` appends as one message: [`encode`] without the copy, for a body that is written only once.
pub fn encode_with<T>(kind: Kind, id: u64, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let start = out.len();
    out.put(&[0; FRAME_HEADER_BYTES]);
    let value = write(out);
    let body = &out[start + FRAME_HEADER_BYTES..];
    if body.len() > ROOM {
        let body = out.split_off(start + FRAME_HEADER_BYTES);
        out.truncate(start);
        encode(kind, id, &body, out);
        return value;
    }
    let header = layout(kind, id, 0, body, body.len());
    out[start..start + FRAME_HEADER_BYTES].copy_from_slice(header.as_bytes());
    value
}

fn layout(kind: Kind, id: u64, flags: u8, chunk: &[u8], message_bytes: usize) -> Layout {
    let mut layout = Layout {
        magic: U32::new(MAGIC),
        version: limits::VERSION as u8,
        kind: kind as u8,
        flags,
        zero: 0,
        body_bytes: U32::new(chunk.len() as u32),
        message_bytes: U32::new(message_bytes as u32),
        id: U64::new(id),
        body_crc: U32::new(crc32c::crc32c(chunk)),
        header_crc: U32::new(0),
    };
    layout.header_crc = U32::new(crc32c::crc32c(&layout.as_bytes()[..28]));
    layout
}

struct Partial {
    kind: Kind,
    wanted: usize,
    bytes: BytesMut,
}

/// Turns a stream of bytes into messages. One per connection and direction.
///
/// Memory: at most one frame of unread bytes, and at most `budget` bytes of messages in pieces; the budget is charged
/// with a message's whole length when its first chunk arrives, memory is taken as the bytes arrive.
pub struct Decoder {
    /// The beginning of a frame whose rest has not come, or what was fed before `fresh`.
    unread: BytesMut,
    /// What came last: frames that are whole in it share its memory.
    fresh: Bytes,
    partial: BTreeMap<u64, Partial>,
    reserved: usize,
    budget: usize,
}

impl Decoder {
    /// A decoder that holds at most `budget` bytes of incomplete messages.
    pub fn new(budget: usize) -> Decoder {
        Decoder { unread: BytesMut::new(), fresh: Bytes::new(), partial: BTreeMap::new(), reserved: 0, budget }
    }

    /// Takes a copy of what came; then call [`Decoder::next`] until it is `None`.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.take_in(Bytes::copy_from_slice(bytes));
    }

    /// Takes what came; then call [`Decoder::next`] until it is `None`. Messages share its memory.
    pub fn take_in(&mut self, bytes: Bytes) {
        let before = std::mem::replace(&mut self.fresh, bytes);
        self.unread.extend_from_slice(&before);
    }

    /// The next whole message. An error is final: the connection is to be closed.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: it ends and goes on")]
    pub fn next(&mut self) -> Result<Option<Message>, WireError> {
        loop {
            let Some(head) = self.gathered(FRAME_HEADER_BYTES) else { return Ok(None) };
            let header = header(head)?;
            let whole = FRAME_HEADER_BYTES + header.body_bytes.get() as usize;
            if self.gathered(whole).is_none() {
                return Ok(None);
            }
            let mut frame =
                if self.unread.is_empty() { self.fresh.split_to(whole) } else { self.unread.split_to(whole).freeze() };
            let body = frame.split_off(FRAME_HEADER_BYTES);
            check("frame body", header.body_crc.get(), crc32c::crc32c(&body))?;
            if let Some(message) = self.chunk(&header, body)? {
                return Ok(Some(message));
            }
        }
    }

    /// The first `wanted` bytes in one piece, once there are so many. What is too little is kept by itself: the memory it came
    /// in may be large.
    fn gathered(&mut self, wanted: usize) -> Option<&[u8]> {
        if self.unread.is_empty() && self.fresh.len() >= wanted {
            return self.fresh.get(..wanted);
        }
        let missing = wanted.saturating_sub(self.unread.len()).min(self.fresh.len());
        self.unread.extend_from_slice(&self.fresh.split_to(missing));
        if self.fresh.is_empty() {
            self.fresh = Bytes::new();
        }
        self.unread.get(..wanted)
    }

    fn chunk(&mut self, header: &Layout, body: Bytes) -> Result<Option<Message>, WireError> {
        let kind = Kind::from_u8(header.kind)?;
        let (id, wanted) = (header.id.get(), header.message_bytes.get() as usize);
        let wrong = || WireError::Value { what: "chunk flags", got: u64::from(header.flags) };
        let short = WireError::Value { what: "message bytes", got: wanted as u64 };
        match header.flags {
            0 if body.len() == wanted => Ok(Some(Message { kind, id, body })),
            0 => Err(short),
            MORE => {
                if self.partial.contains_key(&id) || body.len() >= wanted || body.is_empty() {
                    return Err(wrong());
                }
                limit("messages in pieces", self.partial.len() + 1, PARTIAL_MAX)?;
                limit("bytes of messages in pieces", self.reserved + wanted, self.budget)?;
                self.reserved += wanted;
                self.partial.insert(id, Partial { kind, wanted, bytes: BytesMut::from(&body[..]) });
                Ok(None)
            }
            CONTINUED | 3 => {
                let partial = self.partial.get_mut(&id).ok_or_else(wrong)?;
                if partial.kind != kind || partial.wanted != wanted || body.is_empty() {
                    return Err(wrong());
                }
                limit("message bytes", partial.bytes.len() + body.len(), wanted)?;
                partial.bytes.extend_from_slice(&body);
                let last = header.flags == CONTINUED;
                if last != (partial.bytes.len() == wanted) {
                    return Err(short);
                }
                if !last {
                    return Ok(None);
                }
                self.reserved -= wanted;
                let bytes = self.partial.remove(&id).ok_or_else(wrong)?.bytes.freeze();
                Ok(Some(Message { kind, id, body: bytes }))
            }
            _ => Err(wrong()),
        }
    }
}

/// A frame's header, from as many bytes.
fn header(bytes: &[u8]) -> Result<Layout, WireError> {
    let short = |_| WireError::Short { wanted: FRAME_HEADER_BYTES, left: bytes.len() };
    let header = Layout::read_from_bytes(bytes).map_err(short)?;
    if header.magic.get() != MAGIC {
        return Err(WireError::Magic { got: header.magic.get() });
    }
    check("frame header", header.header_crc.get(), crc32c::crc32c(&bytes[..28]))?;
    if u16::from(header.version) != limits::VERSION {
        return Err(WireError::Version { got: u16::from(header.version) });
    }
    zeros(&[header.zero])?;
    limit("frame body bytes", header.body_bytes.get() as usize, ROOM)?;
    limit("message bytes", header.message_bytes.get() as usize, limits::MESSAGE_BYTES_MAX)?;
    Ok(header)
}
