//! A record of the log as a line: columns for people, an object for machines.

use ringkv_storage::wal::inspect::{Cut, Logged, Standing};
use ringkv_storage::wal::{ReplicaState, ShardState};
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::ids::{ShardId, StoreId};
use serde_json::{Map, Value, json};

use crate::store::plain;

/// Keys are cut behind so many bytes where people read them.
const KEY_SHOWN: usize = 32;

/// One record.
pub struct Row {
    segment: u64,
    batch: u64,
    /// The batch in which an entry in fragments ends.
    ends: u64,
    offset: u64,
    kind: &'static str,
    shard: Option<ShardId>,
    term: Option<u64>,
    index: Option<u64>,
    more: Map<String, Value>,
}

impl Row {
    /// The columns' names.
    pub fn header() -> String {
        format!("{:>8} {:>10} {:<13} {:<8} {:>6} {:>12}  more", "segment", "batch", "kind", "shard", "term", "index")
    }

    /// The row of a record.
    pub fn of(standing: Standing<'_>) -> Row {
        let Standing { at, ends, record } = standing;
        let (term, index) = match record {
            Logged::Entry(entry) => (Some(entry.term), Some(entry.index)),
            Logged::HardState { hard, .. } => (Some(hard.term), None),
            Logged::Shard { state, .. } => (Some(state.hard.term), None),
            Logged::Floor { index, term, .. } => (Some(*term), Some(*index)),
            _ => (None, None),
        };
        let more = more(record).as_object().cloned().unwrap_or_default();
        let (segment, batch, offset) = (at.segment, at.number, at.offset);
        Row { segment, batch, ends, offset, kind: kind(record), shard: shard_of(record), term, index, more }
    }

    /// The object.
    pub fn json(&self) -> Value {
        let mut all = self.more.clone();
        all.extend([
            ("segment".to_owned(), json!(self.segment)),
            ("offset".to_owned(), json!(self.offset)),
            ("batch".to_owned(), json!(self.batch)),
            ("ends_in_batch".to_owned(), json!(self.ends)),
            ("kind".to_owned(), json!(self.kind)),
        ]);
        let known = [
            ("shard", self.shard.map(|shard| json!(shard.to_string()))),
            ("term", self.term.map(Value::from)),
            ("index", self.index.map(Value::from)),
        ];
        all.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        Value::Object(all)
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |n: Option<u64>| n.map_or_else(String::new, |n| n.to_string());
        let shard = self.shard.map_or_else(String::new, |shard| shard.to_string());
        let (segment, batch, kind) = (self.segment, self.batch, self.kind);
        let (term, index) = (number(self.term), number(self.index));
        write!(f, "{segment:>8} {batch:>10} {kind:<13} {shard:<8} {term:>6} {index:>12} ")?;
        if self.ends != self.batch {
            write!(f, " ends_in_batch={}", self.ends)?;
        }
        self.more.iter().try_for_each(|(name, value)| match plain(value) {
            nothing if nothing.is_empty() => Ok(()),
            key if name.ends_with("_key") => write!(f, " {name}={}", short(&key)),
            other => write!(f, " {name}={other}"),
        })
    }
}

/// Whether a record is of the shard asked for, and no entry below `from`.
pub fn is_wanted(record: &Logged, shard: Option<ShardId>, from: u64) -> bool {
    let below = matches!(record, Logged::Entry(entry) if entry.index < from);
    !below && shard.is_none_or(|shard| shard_of(record) == Some(shard))
}

/// What a replica is, in a word.
pub fn state(state: ReplicaState) -> &'static str {
    match state {
        ReplicaState::Voter => "voter",
        ReplicaState::Learner => "learner",
        ReplicaState::Removed => "removed",
        ReplicaState::Damaged => "damaged",
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(KEY_SHOWN) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

fn kind(record: &Logged) -> &'static str {
    match record {
        Logged::Entry(_) => "entry",
        Logged::HardState { .. } => "hard state",
        Logged::Shard { .. } => "shard state",
        Logged::Gone(_) => "shard gone",
        Logged::Peer { .. } => "peer",
        Logged::Store { .. } => "store state",
        Logged::Cut(_) => "cut",
        Logged::HeadComplete { .. } => "head complete",
        Logged::Floor { .. } => "floor",
        Logged::Oldest(_) => "oldest",
    }
}

fn shard_of(record: &Logged) -> Option<ShardId> {
    match record {
        Logged::Entry(entry) => Some(entry.shard),
        Logged::HardState { shard, .. } | Logged::Floor { shard, .. } | Logged::Gone(shard) => Some(*shard),
        Logged::Shard { state, .. } => Some(state.shard),
        _ => None,
    }
}

fn vote(vote: Option<StoreId>) -> Value {
    vote.map_or(json!("none"), |store| json!(store.to_string()))
}

/// What is told of a record besides its columns.
fn more(record: &Logged) -> Value {
    match record {
        Logged::Entry(entry) => entry_more(entry),
        Logged::HardState { hard, generation, .. } => json!({ "vote": vote(hard.vote), "generation": generation.0 }),
        Logged::Shard { state, kept } => state_more(state, *kept),
        Logged::Peer { store, incarnation } => {
            json!({ "store": store.to_string(), "incarnation": format!("{:016x}", incarnation.0) })
        }
        Logged::Store { admitted } => json!({ "admitted": admitted }),
        Logged::Cut(Cut { batch, segment, chain }) => {
            json!({ "behind_batch": batch, "of_segment": segment, "chain": format!("{chain:08x}") })
        }
        Logged::HeadComplete { states, oldest, first } => {
            json!({ "states": states, "oldest_segment": oldest, "first_batch": first })
        }
        Logged::Oldest(segment) => json!({ "oldest_segment": segment }),
        Logged::Gone(_) | Logged::Floor { .. } => json!({}),
    }
}

fn state_more(shard: &ShardState, kept: u64) -> Value {
    json!({
        "state": state(shard.state), "vote": vote(shard.hard.vote), "generation": shard.generation.0,
        "floor": shard.floor_index, "floor_term": shard.floor_term, "flushed": shard.flushed_index,
        "acknowledged": (shard.state == ReplicaState::Damaged).then_some(shard.acknowledged_index),
        "config_index": shard.config_index, "kept": if kept == u64::MAX { json!("all") } else { json!(kept) },
    })
}

fn entry_more(entry: &Entry) -> Value {
    let bytes = entry.body.len();
    match entry.kind {
        EntryKind::Empty => json!({ "entry": "empty" }),
        EntryKind::Tick => json!({ "entry": "tick", "log_time_ms": entry.log_time_ms }),
        EntryKind::Configuration => json!({ "entry": "configuration", "bytes": bytes }),
        EntryKind::Operations => match Operations::decode(entry.body.clone()) {
            Ok(operations) => {
                let of = |kind| operations.ops.iter().filter(|op| op.kind == kind).count();
                let key = |op: &Operation| (op.keyspace, op.key.clone());
                let shown = |op: &Operation| format!("{}:{}", op.keyspace.0, op.key.escape_ascii());
                let [least, greatest] =
                    [operations.ops.iter().min_by_key(|op| key(op)), operations.ops.iter().max_by_key(|op| key(op))];
                json!({
                    "entry": "operations", "bytes": bytes, "puts": of(OpKind::Put), "deletes": of(OpKind::Delete),
                    "least_key": least.map(shown), "greatest_key": greatest.map(shown),
                })
            }
            Err(error) => json!({ "entry": "operations", "bytes": bytes, "error": error.to_string() }),
        },
    }
}
