//! Raft between stores (PROTOCOL.md §6.4). A frame carries any number of them.

use crate::codec::{Put, Reader, WireError};
use crate::entry::{ENTRY_HEADER_BYTES, Entry};
use crate::ids::{Generation, ShardId};
use bytes::Bytes;

/// One message of one group, between two stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The group.
    pub shard: ShardId,
    /// Its generation.
    pub generation: Generation,
    /// The sender's term (for a pre-vote: the term it would campaign in).
    pub term: u64,
    /// What it says.
    pub body: PeerBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerBody {
    /// Would you vote for me? Changes nothing (Raft thesis §9.6).
    PreVote {
        /// The candidate's last index.
        last_index: u64,
        /// Its term.
        last_term: u64,
        /// A leadership transfer: a live leader is no reason to refuse.
        transfer: bool,
    },
    /// Answer to a pre-vote.
    PreVoteReply {
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me (Raft §5.2).
    Vote {
        /// The candidate's last index.
        last_index: u64,
        /// Its term.
        last_term: u64,
        /// A leadership transfer.
        transfer: bool,
    },
    /// Answer to a vote; durable before it leaves.
    VoteReply {
        /// Whether it was given.
        granted: bool,
    },
    /// Entries, or the question whether the logs match (Raft §5.3).
    Append {
        /// The leader's round number; echoed.
        round: u64,
        /// Index before the first entry.
        prev_index: u64,
        /// Its term.
        prev_term: u64,
        /// The leader's commit index.
        commit: u64,
        /// Consecutive entries.
        entries: Vec<Entry>,
    },
    /// Answer to an append; durable before it leaves.
    AppendReply {
        /// The round answered.
        round: u64,
        /// Whether the logs match.
        accepted: bool,
        /// Accepted: the index up to which they match and are durable. Else: where to try next.
        index: u64,
        /// Not accepted: the term at `index`, 0 when there is none.
        term: u64,
        /// The follower's wall clock, ms.
        wall_ms: u64,
    },
    /// I lead (Raft §5.2); also a round of ReadIndex and of the lease.
    Heartbeat {
        /// The leader's round number; echoed.
        round: u64,
        /// Commit index, never above what this follower has acknowledged.
        commit: u64,
    },
    /// Answer to a heartbeat.
    HeartbeatReply {
        /// The round answered.
        round: u64,
        /// Whether this store follows the leader of this term.
        follows: bool,
        /// Wall clock, ms.
        wall_ms: u64,
    },
    /// Stand for election at once (Raft thesis §3.10).
    TimeoutNow,
}

const HEADER_BYTES: usize = 32;

impl PeerMessage {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (kind, flag, round) = self.body.tags();
        out.put_u32(self.shard.0);
        out.put_u32(self.generation.0);
        out.put_u64(self.term);
        out.put_u8(kind);
        out.put_u8(u8::from(flag));
        out.put_u16(0);
        out.put_u32(0);
        out.put_u64(round);
        self.body.encode(out);
        let bytes = (out.len() - start - HEADER_BYTES) as u32;
        out[start + 20..start + 24].copy_from_slice(&bytes.to_le_bytes());
    }

    /// Bytes that [`PeerMessage::encode`] appends, at most.
    pub fn encoded_bytes(&self) -> usize {
        let entries = match &self.body {
            PeerBody::Append { entries, .. } => entries.iter().map(Entry::encoded_bytes).sum(),
            _ => 0,
        };
        HEADER_BYTES + 32 + entries
    }

    /// Reads all messages of a frame.
    pub fn decode_all(body: Bytes) -> Result<Vec<PeerMessage>, WireError> {
        let mut r = Reader::new(body);
        let mut messages = Vec::new();
        while r.left() > 0 {
            messages.push(PeerMessage::decode(&mut r)?);
        }
        Ok(messages)
    }

    fn decode(r: &mut Reader) -> Result<PeerMessage, WireError> {
        let (shard, generation, term) = (ShardId(r.u32()?), Generation(r.u32()?), r.u64()?);
        let (kind, flags) = (r.u8()?, r.u8()?);
        r.zeros(2)?;
        let bytes = r.u32()? as usize;
        let round = r.u64()?;
        if flags > 1 {
            return Err(WireError::Value { what: "peer flags", got: u64::from(flags) });
        }
        let mut body = Reader::new(r.take(bytes)?);
        let message =
            PeerMessage { shard, generation, term, body: PeerBody::decode(kind, flags == 1, round, &mut body)? };
        body.finish()?;
        let (_, flag, kept) = message.body.tags();
        if (flag, kept) != (flags == 1, round) {
            return Err(WireError::Value {
                what: "flag or round of a peer message that has none",
                got: u64::from(kind),
            });
        }
        Ok(message)
    }
}

impl PeerBody {
    fn tags(&self) -> (u8, bool, u64) {
        match *self {
            PeerBody::PreVote { transfer, .. } => (1, transfer, 0),
            PeerBody::PreVoteReply { granted } => (2, granted, 0),
            PeerBody::Vote { transfer, .. } => (3, transfer, 0),
            PeerBody::VoteReply { granted } => (4, granted, 0),
            PeerBody::Append { round, .. } => (5, false, round),
            PeerBody::AppendReply { round, accepted, .. } => (6, accepted, round),
            PeerBody::Heartbeat { round, .. } => (7, false, round),
            PeerBody::HeartbeatReply { round, follows, .. } => (8, follows, round),
            PeerBody::TimeoutNow => (9, false, 0),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            PeerBody::PreVote { last_index, last_term, .. } | PeerBody::Vote { last_index, last_term, .. } => {
                out.put_u64(*last_index);
                out.put_u64(*last_term);
            }
            PeerBody::Append { prev_index, prev_term, commit, entries, .. } => {
                out.put_u64(*prev_index);
                out.put_u64(*prev_term);
                out.put_u64(*commit);
                out.put_u32(entries.len() as u32);
                out.put_u32(0);
                entries.iter().for_each(|e| e.encode(out));
            }
            PeerBody::AppendReply { index, term, wall_ms, .. } => {
                out.put_u64(*index);
                out.put_u64(*term);
                out.put_u64(*wall_ms);
            }
            PeerBody::Heartbeat { commit, .. } => out.put_u64(*commit),
            PeerBody::HeartbeatReply { wall_ms, .. } => out.put_u64(*wall_ms),
            PeerBody::PreVoteReply { .. } | PeerBody::VoteReply { .. } | PeerBody::TimeoutNow => {}
        }
    }

    fn decode(kind: u8, flag: bool, round: u64, r: &mut Reader) -> Result<PeerBody, WireError> {
        Ok(match kind {
            1 => PeerBody::PreVote { last_index: r.u64()?, last_term: r.u64()?, transfer: flag },
            2 => PeerBody::PreVoteReply { granted: flag },
            3 => PeerBody::Vote { last_index: r.u64()?, last_term: r.u64()?, transfer: flag },
            4 => PeerBody::VoteReply { granted: flag },
            5 => {
                let (prev_index, prev_term, commit) = (r.u64()?, r.u64()?, r.u64()?);
                let count = r.u32()? as usize;
                r.zeros(4)?;
                if count > r.left() / ENTRY_HEADER_BYTES {
                    return Err(WireError::Value { what: "entries", got: count as u64 });
                }
                let entries = (0..count).map(|_| Entry::decode(r)).collect::<Result<_, _>>()?;
                PeerBody::Append { round, prev_index, prev_term, commit, entries }
            }
            6 => PeerBody::AppendReply { round, accepted: flag, index: r.u64()?, term: r.u64()?, wall_ms: r.u64()? },
            7 => PeerBody::Heartbeat { round, commit: r.u64()? },
            8 => PeerBody::HeartbeatReply { round, follows: flag, wall_ms: r.u64()? },
            9 => PeerBody::TimeoutNow,
            got => return Err(WireError::Value { what: "peer message", got: u64::from(got) }),
        })
    }
}
