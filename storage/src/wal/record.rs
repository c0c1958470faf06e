//! What stands in a batch: records and fragments of entries (FORMAT.md §1.3).

use super::{HardState, ReplicaState, ShardState};
use bytes::{Bytes, BytesMut};
use ringkv_wire::codec::{Put, Reader, WireError};
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{Generation, Incarnation, ShardId, StoreId};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes in front of every record.
pub(crate) const RECORD_HEADER_BYTES: usize = 8;
pub(crate) const FIRST_FRAGMENT: u8 = 1;
pub(crate) const LAST_FRAGMENT: u8 = 2;
pub(crate) const KIND_ENTRY: u8 = 1;
/// Longest encoded configuration of a shard: its state must fit into the smallest batch.
pub(crate) const CONFIG_BYTES_MAX: usize = 4096;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct RecordHeader {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) zero: U16,
    pub(crate) bytes: U32,
}
const _: () = assert!(size_of::<RecordHeader>() == RECORD_HEADER_BYTES);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct HardStateLayout {
    shard: U32,
    generation: U32,
    term: U64,
    vote_node: U32,
    vote_store: U16,
    voted: u8,
    zero: u8,
}
const _: () = assert!(size_of::<HardStateLayout>() == 24);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct ShardStateLayout {
    shard: U32,
    generation: U32,
    state: u8,
    zero: [u8; 7],
    term: U64,
    vote_node: U32,
    vote_store: U16,
    voted: u8,
    zero_2: u8,
    floor_index: U64,
    floor_term: U64,
    flushed_index: U64,
    acknowledged_index: U64,
    config_index: U64,
    kept_index: U64,
    config_bytes: U32,
    zero_3: U32,
}
const _: () = assert!(size_of::<ShardStateLayout>() == 88);
const _: () = assert!(std::mem::offset_of!(ShardStateLayout, kept_index) == 72);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct PeerLayout {
    node: U32,
    store: U16,
    zero: U16,
    incarnation: U64,
}
const _: () = assert!(size_of::<PeerLayout>() == 16);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct CutLayout {
    batch: U64,
    segment: U64,
    chain: U32,
    zero: U32,
}
const _: () = assert!(size_of::<CutLayout>() == 24);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct FloorLayout {
    shard: U32,
    zero: U32,
    index: U64,
    term: U64,
}
const _: () = assert!(size_of::<FloorLayout>() == 24);

/// Where the log before a recovery ends: batch number, its segment, its chain. All 0: nothing before is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Number of the last batch that counts.
    pub batch: u64,
    /// Its segment.
    pub segment: u64,
    /// Its chain.
    pub chain: u32,
}

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// An entry; the only kind that may be cut into fragments.
    Entry(Entry),
    /// A shard's term and vote.
    HardState {
        /// The shard.
        shard: ShardId,
        /// Its generation.
        generation: Generation,
        /// Term and vote.
        hard: HardState,
    },
    /// All of a shard's state.
    Shard {
        /// The state.
        state: ShardState,
        /// The shard's entries above this index are gone.
        kept: u64,
    },
    /// The shard is no longer here.
    Gone(ShardId),
    /// The incarnation under which another store is known here.
    Peer {
        /// The other store.
        store: StoreId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// The store's own state.
    Store {
        /// It may vote.
        admitted: bool,
    },
    /// Where the log before this segment ends.
    Cut(Cut),
    /// Ends the head of a segment.
    HeadComplete {
        /// Shard states in this head.
        states: u64,
        /// The oldest segment still needed.
        oldest: u64,
        /// The head's first batch.
        first: u64,
    },
    /// The shard's log begins behind this index.
    Floor {
        /// The shard.
        shard: ShardId,
        /// The index.
        index: u64,
        /// The term of the entry at that index.
        term: u64,
    },
    /// Segments below this one are no longer needed.
    Oldest(u64),
}

fn encode_hard(hard: &HardState) -> (U64, U32, U16, u8) {
    let vote = hard.vote.unwrap_or_default();
    (U64::new(hard.term), U32::new(vote.node.0), U16::new(vote.store), u8::from(hard.vote.is_some()))
}

fn decode_hard(term: U64, node: U32, store: U16, voted: u8) -> Result<HardState, WireError> {
    let vote = match voted {
        0 => None,
        1 => Some(StoreId::new(node.get(), store.get())),
        got => return Err(WireError::Value { what: "voted", got: u64::from(got) }),
    };
    Ok(HardState { term: term.get(), vote })
}

impl Logged {
    fn kind(&self) -> u8 {
        match self {
            Logged::Entry(_) => KIND_ENTRY,
            Logged::HardState { .. } => 2,
            Logged::Shard { .. } => 3,
            Logged::Gone(_) => 4,
            Logged::Peer { .. } => 5,
            Logged::Store { .. } => 6,
            Logged::Cut(_) => 7,
            Logged::HeadComplete { .. } => 8,
            Logged::Floor { .. } => 9,
            Logged::Oldest(_) => 10,
        }
    }

    /// Header and bytes of the whole record.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; RECORD_HEADER_BYTES];
        self.encode_body(&mut out);
        let header = RecordHeader {
            kind: self.kind(),
            flags: FIRST_FRAGMENT | LAST_FRAGMENT,
            zero: U16::ZERO,
            bytes: U32::new((out.len() - RECORD_HEADER_BYTES) as u32),
        };
        out[..RECORD_HEADER_BYTES].copy_from_slice(header.as_bytes());
        out
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Logged::Entry(entry) => entry.encode(out),
            Logged::HardState { shard, generation, hard } => {
                let (term, vote_node, vote_store, voted) = encode_hard(hard);
                let (shard, generation) = (U32::new(shard.0), U32::new(generation.0));
                out.put_layout(&HardStateLayout { shard, generation, term, vote_node, vote_store, voted, zero: 0 });
            }
            Logged::Shard { state, kept } => encode_state(state, *kept, out),
            Logged::Gone(shard) => out.put_u32(shard.0),
            Logged::Peer { store, incarnation } => out.put_layout(&PeerLayout {
                node: U32::new(store.node.0),
                store: U16::new(store.store),
                zero: U16::ZERO,
                incarnation: U64::new(incarnation.0),
            }),
            Logged::Store { admitted } => out.put_u64(u64::from(*admitted)),
            Logged::Cut(Cut { batch, segment, chain }) => out.put_layout(&CutLayout {
                batch: U64::new(*batch),
                segment: U64::new(*segment),
                chain: U32::new(*chain),
                zero: U32::ZERO,
            }),
            Logged::HeadComplete { states, oldest, first } => {
                [states, oldest, first].into_iter().for_each(|v| out.put_u64(*v));
            }
            Logged::Floor { shard, index, term } => out.put_layout(&FloorLayout {
                shard: U32::new(shard.0),
                zero: U32::ZERO,
                index: U64::new(*index),
                term: U64::new(*term),
            }),
            Logged::Oldest(segment) => out.put_u64(*segment),
        }
    }

    /// Reads the bytes of a record of any kind but entry.
    fn decode(kind: u8, bytes: Bytes) -> Result<Logged, WireError> {
        let mut r = Reader::new(bytes);
        let logged = match kind {
            2 => {
                let l: HardStateLayout = r.layout()?;
                let hard = decode_hard(l.term, l.vote_node, l.vote_store, l.voted)?;
                Logged::HardState { shard: ShardId(l.shard.get()), generation: Generation(l.generation.get()), hard }
            }
            3 => decode_state(&mut r)?,
            4 => Logged::Gone(ShardId(r.u32()?)),
            5 => {
                let l: PeerLayout = r.layout()?;
                let store = StoreId::new(l.node.get(), l.store.get());
                Logged::Peer { store, incarnation: Incarnation(l.incarnation.get()) }
            }
            6 => Logged::Store { admitted: r.u64()? & 1 != 0 },
            7 => {
                let l: CutLayout = r.layout()?;
                Logged::Cut(Cut { batch: l.batch.get(), segment: l.segment.get(), chain: l.chain.get() })
            }
            8 => Logged::HeadComplete { states: r.u64()?, oldest: r.u64()?, first: r.u64()? },
            9 => {
                let l: FloorLayout = r.layout()?;
                Logged::Floor { shard: ShardId(l.shard.get()), index: l.index.get(), term: l.term.get() }
            }
            10 => Logged::Oldest(r.u64()?),
            got => return Err(WireError::Value { what: "record kind", got: u64::from(got) }),
        };
        r.finish()?;
        Ok(logged)
    }
}

fn encode_state(state: &ShardState, kept: u64, out: &mut Vec<u8>) {
    assert!(state.config.len() <= CONFIG_BYTES_MAX, "{}: configuration too long", state.shard);
    let (term, vote_node, vote_store, voted) = encode_hard(&state.hard);
    out.put_layout(&ShardStateLayout {
        shard: U32::new(state.shard.0),
        generation: U32::new(state.generation.0),
        state: state.state as u8,
        zero: [0; 7],
        term,
        vote_node,
        vote_store,
        voted,
        zero_2: 0,
        floor_index: U64::new(state.floor_index),
        floor_term: U64::new(state.floor_term),
        flushed_index: U64::new(state.flushed_index),
        acknowledged_index: U64::new(state.acknowledged_index),
        config_index: U64::new(state.config_index),
        kept_index: U64::new(kept),
        config_bytes: U32::new(state.config.len() as u32),
        zero_3: U32::ZERO,
    });
    out.put(&state.config);
}

fn decode_state(r: &mut Reader) -> Result<Logged, WireError> {
    let l: ShardStateLayout = r.layout()?;
    let state = match l.state {
        1 => ReplicaState::Voter,
        2 => ReplicaState::Learner,
        3 => ReplicaState::Removed,
        4 => ReplicaState::Damaged,
        got => return Err(WireError::Value { what: "replica state", got: u64::from(got) }),
    };
    let config = Bytes::copy_from_slice(&r.take(l.config_bytes.get() as usize)?);
    let state = ShardState {
        shard: ShardId(l.shard.get()),
        generation: Generation(l.generation.get()),
        state,
        hard: decode_hard(l.term, l.vote_node, l.vote_store, l.voted)?,
        floor_index: l.floor_index.get(),
        floor_term: l.floor_term.get(),
        flushed_index: l.flushed_index.get(),
        acknowledged_index: l.acknowledged_index.get(),
        config_index: l.config_index.get(),
        config,
    };
    Ok(Logged::Shard { state, kept: l.kept_index.get() })
}

/// A record, or a piece of an entry.
pub(crate) enum Piece {
    Whole(Logged),
    Fragment { first: bool, last: bool, bytes: Bytes },
}

/// Splits a batch's record bytes, verified before, into pieces.
pub(crate) fn pieces(records: Bytes, count: u32) -> Result<Vec<Piece>, WireError> {
    let mut r = Reader::new(records);
    let mut out = Vec::with_capacity((count as usize).min(r.left() / RECORD_HEADER_BYTES));
    for _ in 0..count {
        let header: RecordHeader = r.layout()?;
        let bytes = r.take(header.bytes.get() as usize)?;
        let (first, last) = (header.flags & FIRST_FRAGMENT != 0, header.flags & LAST_FRAGMENT != 0);
        out.push(match header.kind {
            KIND_ENTRY => Piece::Fragment { first, last, bytes },
            kind if first && last => Piece::Whole(Logged::decode(kind, bytes)?),
            kind => return Err(WireError::Value { what: "kind of a fragment", got: u64::from(kind) }),
        });
    }
    r.finish()?;
    Ok(out)
}

/// Puts fragments together. `P` says where an entry began.
pub(crate) struct Assembler<P> {
    pending: Option<(BytesMut, P)>,
}

impl<P> Assembler<P> {
    pub(crate) fn new() -> Assembler<P> {
        Assembler { pending: None }
    }

    /// One fragment, at `here`; the entry and where it began, when this was its last.
    ///
    /// A first fragment drops an entry that never got its last: its commit was cut off. A fragment without a first is
    /// ignored: the entry began in a segment that is no longer needed.
    pub(crate) fn feed(
        &mut self,
        first: bool,
        last: bool,
        bytes: Bytes,
        here: P,
    ) -> Result<Option<(Entry, P)>, WireError> {
        if first {
            self.pending = None;
            if last {
                return Ok(Some((whole_entry(bytes)?, here)));
            }
            self.pending = Some((BytesMut::from(&bytes[..]), here));
            return Ok(None);
        }
        let Some((mut all, began)) = self.pending.take() else { return Ok(None) };
        all.extend_from_slice(&bytes);
        if last {
            return Ok(Some((whole_entry(all.freeze())?, began)));
        }
        self.pending = Some((all, began));
        Ok(None)
    }
}

fn whole_entry(bytes: Bytes) -> Result<Entry, WireError> {
    let mut r = Reader::new(bytes);
    let entry = Entry::decode(&mut r)?;
    r.finish()?;
    Ok(entry)
}
