//! What leaves a store: a vote, a candidacy or an acknowledgement is a promise, and its disk must hold it already.
//!
//! The bytes are read as they go to the network and compared with what the disk has made durable; what the store believes
//! of itself does not come into it.

use super::group::Group;
use super::platter::Platter;
use bytes::Bytes;
use ringkv_core::raft::Role;
use ringkv_storage::wal::HardState;
use ringkv_storage::wal::shadow::Held;
use ringkv_wire::frame::{FRAME_HEADER_BYTES, Kind};
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};

/// Where a frame's header says its kind and the length of its body (PROTOCOL.md §3).
const KIND_AT: usize = 5;
const BODY_BYTES_AT: usize = 8;
/// Bytes before a peer message's body, where they say its kind, and its body's length (PROTOCOL.md §6.4).
const MESSAGE_HEADER_BYTES: usize = 32;
const MESSAGE_KIND_AT: usize = 16;
const MESSAGE_BYTES_AT: usize = 20;
/// A candidacy, a vote, an answer to an append: the kinds of peer messages that promise something.
const PROMISES: [u8; 3] = [3, 4, 6];

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// The promises in whole frames. Everything else is stepped over by its length, unread.
pub fn promises(bytes: &Bytes) -> Vec<PeerMessage> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let (Some(&kind), Some(body_bytes)) = (bytes.get(at + KIND_AT), u32_at(bytes, at + BODY_BYTES_AT)) {
        let body = at + FRAME_HEADER_BYTES;
        let end = (body + body_bytes).min(bytes.len());
        if kind == Kind::Peer as u8 {
            in_frame(&bytes.slice(body.min(end)..end), &mut found);
        }
        at = body + body_bytes;
    }
    found
}

fn in_frame(frame: &Bytes, found: &mut Vec<PeerMessage>) {
    let mut at = 0;
    while let (Some(kind), Some(body)) = (frame.get(at + MESSAGE_KIND_AT), u32_at(frame, at + MESSAGE_BYTES_AT)) {
        let end = (at + MESSAGE_HEADER_BYTES + body).min(frame.len());
        if PROMISES.contains(kind) {
            found.extend(PeerMessage::decode_all(frame.slice(at..end)).unwrap_or_default());
        }
        at = end;
    }
}

/// Whether a promise by `me` to `to` is durable; what is wrong when it is not.
pub fn judge(me: StoreId, to: StoreId, message: &PeerMessage, platter: &Platter, group: &Group) -> Option<String> {
    if platter.damaged {
        return None;
    }
    let nothing = Held::default();
    let held = platter.held(message.shard).unwrap_or(&nothing);
    let term = message.term;
    let HardState { term: durable, vote } = held.hard;
    let what = match &message.body {
        PeerBody::VoteReply { granted: true } if durable < term || (durable == term && vote != Some(to)) => {
            format!("gave {to} its vote of term {term}")
        }
        PeerBody::Vote { .. } if durable < term || (durable == term && vote != Some(me)) => {
            format!("stands for election in term {term}")
        }
        // What the winner of that very election has replaced was there when the question was made.
        PeerBody::Vote { last_index, last_term, .. }
            if durable == term && !has(held, *last_index, Some(*last_term)) && !lost(me, term, held, group) =>
        {
            format!("stands for election with entry {last_index} of term {last_term}")
        }
        PeerBody::AppendReply { accepted: true, .. } if durable < term => format!("acknowledged in term {term}"),
        // What a later leader has replaced was there when the answer was made.
        PeerBody::AppendReply { accepted: true, index, .. } if durable == term => {
            let wanted = leaders(group, term, *index);
            if has(held, *index, wanted) {
                return None;
            }
            format!("acknowledged up to {index}, where the leader has term {wanted:?},")
        }
        _ => return None,
    };
    let (last, last_term) = (held.last(), held.last_term());
    Some(format!(
        "Durable before answered: {me} {}: {what} to {to} while its disk holds term {durable}, vote {vote:?}, a log to {last} of term {last_term}",
        message.shard
    ))
}

fn has(held: &Held, index: u64, term: Option<u64>) -> bool {
    held.floor.0 >= index || held.term_at(index).is_some_and(|found| term.is_none_or(|term| term == found))
}

/// Whether another leads `term`, and its entries stand in the log: the election that `me` still asks for is over.
fn lost(me: StoreId, term: u64, held: &Held, group: &Group) -> bool {
    held.last_term() == term && group.leaders.get(&term).is_some_and(|leader| leader.0 != me)
}

/// The term of an entry in the log of the leader of `term`, while it still leads.
fn leaders(group: &Group, term: u64, index: u64) -> Option<u64> {
    let leader = group.replicas.get(&group.leaders.get(&term)?.0)?;
    let leads = leader.seen.role == Role::Leader && leader.seen.hard.0 == term;
    leader.log.term_at(index).filter(|_| leads && leader.log.floor.0 < index)
}
