//! The verdict over a whole history: every key by itself, versions across keys of a shard.

use crate::explain;
use crate::history::{Kind, Op, Outcome};
use crate::search::{ABSENT, Action, Item, Problem, ValueId, Verdict, decide};
use crate::versions;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// Sets that the search of one key looks at before it gives up.
const STEPS: u64 = 5_000_000;

/// Something wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No order of the key's operations explains these answers.
    NotLinearizable {
        /// The register.
        key: String,
        /// The smallest window found that is wrong by itself, by time of call.
        window: Vec<Op>,
    },
    /// Two puts or deletes were applied at one index, and not by one request.
    SharedVersion {
        /// The two.
        ops: Box<[Op; 2]>,
    },
    /// The one put of a value was seen at two indexes: applied twice.
    AppliedTwice {
        /// The put or get that saw the one index, the get that saw the other.
        ops: Box<[Op; 2]>,
    },
    /// One index is said to have written two different things.
    VersionOfAnother {
        /// The two that disagree.
        ops: Box<[Op; 2]>,
    },
    /// The search gave up on this key.
    Undecided {
        /// The register.
        key: String,
        /// Its operations.
        operations: usize,
    },
}

/// What became of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations in it.
    pub operations: usize,
    /// Keys in it.
    pub keys: usize,
    /// What is wrong: empty when the history is linearizable.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether the history is linearizable and tells of exactly-once.
    pub fn is_ok(&self) -> bool {
        self.findings.is_empty()
    }
    /// Whether something is surely wrong (else, when it is not ok, the search gave up).
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|f| !matches!(f, Finding::Undecided { .. }))
    }
}

/// Judges a history. Order of the operations in the slice does not matter.
pub fn check(history: &[Op]) -> Report {
    check_with(history, STEPS)
}

/// As [`check`], looking at no more than `steps` sets per key.
pub fn check_with(history: &[Op], steps: u64) -> Report {
    let mut keys: BTreeMap<&str, Vec<&Op>> = BTreeMap::new();
    for op in history {
        keys.entry(&op.key).or_default().push(op);
    }
    let mut report = Report { operations: history.len(), keys: keys.len(), findings: Vec::new() };
    for (key, ops) in &keys {
        report.findings.extend(versions::of_key(ops));
        let roles: Vec<Role> = ops.iter().map(|op| Role::of(op)).collect();
        let finding = match decide(&problem(ops, &roles, false), steps) {
            Verdict::Linearizable => continue,
            Verdict::Violation => {
                Finding::NotLinearizable { key: (*key).to_owned(), window: explain::window(ops, steps) }
            }
            Verdict::Undecided => Finding::Undecided { key: (*key).to_owned(), operations: ops.len() },
        };
        report.findings.push(finding);
    }
    report.findings.extend(versions::of_shards(history));
    report
}

/// How an operation takes part in a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is in the order.
    Required,
    /// A write that may be in the order, anywhere after its call.
    Optional,
    /// It is not.
    Dropped,
}

impl Role {
    pub(crate) fn of(op: &Op) -> Role {
        match (op.outcome, op.kind) {
            (Outcome::Ok, _) => Role::Required,
            (Outcome::Failed, _) | (Outcome::Unknown, Kind::Get) => Role::Dropped,
            (Outcome::Unknown, _) => Role::Optional,
        }
    }
}

/// The search's problem for operations of one key in these roles.
pub(crate) fn problem(ops: &[&Op], roles: &[Role], any_start: bool) -> Problem {
    let mut ids: HashMap<&str, ValueId> = HashMap::new();
    let mut out = Problem { required: Vec::new(), optional: Vec::new(), values: 0, any_start };
    for (op, role) in ops.iter().zip(roles).filter(|(_, role)| **role != Role::Dropped) {
        let fresh = ids.len() as ValueId + 1;
        let value = op.value.as_deref().map_or(ABSENT, |v| *ids.entry(v).or_insert(fresh));
        if *role == Role::Optional {
            out.optional.push((value, op.call));
            continue;
        }
        let action = if op.kind == Kind::Get { Action::Read(value) } else { Action::Write(value) };
        let ret = op.ret.unwrap_or(u64::MAX);
        out.required.push(Item { call: op.call, ret, action, hint: op.version().unwrap_or(ret) });
    }
    out.values = ids.len() + 1;
    out
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::NotLinearizable { key, window } => {
                writeln!(f, "key {key}: not linearizable: no order explains these {} operations", window.len())?;
                if let Some(phantom) = phantom(window) {
                    writeln!(f, "  nobody wrote {phantom} in this window")?;
                }
                lines(f, window.iter())
            }
            Finding::SharedVersion { ops } => {
                let (key, version) = (&ops[0].key, ops[0].version.unwrap_or(0));
                writeln!(f, "key {key}: two writes were applied at the same index {version}")?;
                lines(f, ops.iter())
            }
            Finding::AppliedTwice { ops } => {
                let (key, value) = (&ops[0].key, show(&ops[0]));
                writeln!(f, "key {key}: {value} was put once and applied twice: two indexes hold it")?;
                lines(f, ops.iter())
            }
            Finding::VersionOfAnother { ops } => {
                let (key, version) = (&ops[0].key, ops[0].version.unwrap_or(0));
                writeln!(f, "key {key}: index {version} is said to hold two different things")?;
                lines(f, ops.iter())
            }
            Finding::Undecided { key, operations } => {
                writeln!(f, "key {key}: undecided: the search gave up on its {operations} operations")
            }
        }
    }
}

fn phantom(window: &[Op]) -> Option<String> {
    let got = window.iter().filter(|op| op.kind == Kind::Get && op.value.is_some());
    let mut unwritten = got.filter(|get| !window.iter().any(|op| op.kind == Kind::Put && op.value == get.value));
    unwritten.next().map(show)
}

fn show(op: &Op) -> String {
    op.value.as_ref().map_or("nothing".to_owned(), |v| format!("{v:?}"))
}

fn lines<'o>(f: &mut fmt::Formatter<'_>, ops: impl Iterator<Item = &'o Op> + Clone) -> fmt::Result {
    let start = ops.clone().map(|op| op.call).min().unwrap_or(0);
    writeln!(f, "  {:>12} {:>12}  client  what (times from {start})", "call", "return")?;
    for op in ops {
        let ret = op.ret.map_or("-".to_owned(), |ret| format!("{}", ret - start.min(ret)));
        let what = match op.kind {
            Kind::Put => format!("put {}", show(op)),
            Kind::Delete => "delete".to_owned(),
            Kind::Get => format!("get -> {}", show(op)),
        };
        let outcome = match op.outcome {
            Outcome::Ok => String::new(),
            Outcome::Failed => ", failed".to_owned(),
            Outcome::Unknown => ", outcome unknown".to_owned(),
        };
        let version = op.version().map_or(String::new(), |v| format!(", index {v}"));
        writeln!(f, "  {:>12} {ret:>12}  {:>6}  {what}{version}{outcome}", op.call - start, op.client)?;
    }
    Ok(())
}
