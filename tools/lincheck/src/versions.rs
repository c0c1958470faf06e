//! What versions tell of exactly-once.
//!
//! A version is the log index that applied a write. One request may carry several operations of one client, and all of
//! them are applied at one index: so two writes share an index only when one client had both under way at once.

use crate::check::Finding;
use crate::history::{Kind, Op, Outcome};
use std::collections::BTreeMap;

fn answered(op: &Op) -> bool {
    op.outcome == Outcome::Ok && op.version().is_some()
}

/// Findings among the operations of one key.
pub(crate) fn of_key(ops: &[&Op]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let writes = ops.iter().copied().filter(|op| answered(op) && op.kind != Kind::Get);
    let gets = ops.iter().copied().filter(|op| answered(op) && op.kind == Kind::Get && op.value.is_some());
    shared(writes.clone(), &mut findings);

    let mut at: BTreeMap<u64, Vec<&Op>> = BTreeMap::new();
    for write in writes {
        at.entry(write.version().unwrap_or(0)).or_default().push(write);
    }
    let mut seen: BTreeMap<u64, &Op> = BTreeMap::new();
    for get in gets.clone() {
        let version = get.version().unwrap_or(0);
        let other = match at.get(&version) {
            Some(writes) if writes.iter().any(|w| w.value == get.value) => None,
            Some(writes) => writes.iter().copied().find(|w| !together(ops, w, get)),
            None => Some(*seen.entry(version).or_insert(get)).filter(|first| first.value != get.value),
        };
        findings.extend(other.map(|other| Finding::VersionOfAnother { ops: pair(other, get) }));
    }
    twice(ops, gets, &mut findings);
    findings.dedup();
    findings
}

/// Whether what `get` saw may have travelled in the request of `write`: put by the same client at the same time, its answer
/// lost.
fn together(ops: &[&Op], write: &Op, get: &Op) -> bool {
    let lost = |op: &&&Op| op.kind == Kind::Put && op.outcome == Outcome::Unknown && op.value == get.value;
    ops.iter().filter(lost).any(|put| put.client == write.client && put.overlaps(write))
}

fn twice<'o>(ops: &[&'o Op], gets: impl Iterator<Item = &'o Op>, findings: &mut Vec<Finding>) {
    let mut puts: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for put in ops.iter().filter(|op| op.kind == Kind::Put && op.outcome != Outcome::Failed) {
        puts.entry(put.value.as_deref().unwrap_or_default()).or_default().push(put);
    }
    let mut first: BTreeMap<&str, &Op> = BTreeMap::new();
    for (value, put) in &puts {
        if let [put] = put[..]
            && answered(put)
        {
            first.insert(value, put);
        }
    }
    for get in gets {
        let value = get.value.as_deref().unwrap_or_default();
        if puts.get(value).is_none_or(|puts| puts.len() != 1) {
            continue;
        }
        let known = first.entry(value).or_insert(get);
        if known.version != get.version {
            findings.push(Finding::AppliedTwice { ops: pair(known, get) });
        }
    }
}

/// Findings across the keys of each shard, where shards are recorded.
pub(crate) fn of_shards(history: &[Op]) -> Vec<Finding> {
    let mut shards: BTreeMap<u64, Vec<&Op>> = BTreeMap::new();
    for op in history.iter().filter(|op| answered(op) && op.kind != Kind::Get) {
        if let Some(shard) = op.shard {
            shards.entry(shard).or_default().push(op);
        }
    }
    let mut findings = Vec::new();
    for ops in shards.into_values() {
        let mut here = Vec::new();
        shared(ops.into_iter(), &mut here);
        // Those of one key were already found.
        here.retain(|f| !matches!(f, Finding::SharedVersion { ops } if ops[0].key == ops[1].key));
        findings.append(&mut here);
    }
    findings
}

fn shared<'o>(writes: impl Iterator<Item = &'o Op>, findings: &mut Vec<Finding>) {
    let mut at: BTreeMap<u64, &Op> = BTreeMap::new();
    for write in writes {
        let first = *at.entry(write.version().unwrap_or(0)).or_insert(write);
        let one_request = first.client == write.client && first.overlaps(write);
        if !std::ptr::eq(first, write) && !one_request {
            findings.push(Finding::SharedVersion { ops: pair(first, write) });
        }
    }
}

fn pair(a: &Op, b: &Op) -> Box<[Op; 2]> {
    Box::new([a.clone(), b.clone()])
}
