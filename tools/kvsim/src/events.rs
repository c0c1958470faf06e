//! The last things that happened to each node, kept cheaply and told only when something is wrong; told at once when a run
//! is followed.

use crate::exec::Executor;
use crate::plan::FaultKind;
use ringkv_core::raft::Role;
use ringkv_wire::ids::{ShardId, StoreId};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// Events kept of each node, and of the cluster as a whole.
const KEPT: usize = 30;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A fault was caused.
    Fault(u32, FaultKind),
    /// A node's process starts.
    Starts,
    /// It was killed; with its machine's power or not.
    Killed(bool),
    /// It was stopped, or goes on.
    Paused(bool),
    /// A store has opened.
    Opened(StoreId),
    /// A store's log has failed.
    Failed(StoreId),
    /// A store has ended by itself, well or not.
    Ended(StoreId, bool),
    /// A replica has another role or term.
    Role(StoreId, ShardId, Role, u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Fault(ordinal, kind) => write!(f, "fault {ordinal}: {}", kind.name()),
            Event::Starts => write!(f, "starts"),
            Event::Killed(true) => write!(f, "killed by power loss"),
            Event::Killed(false) => write!(f, "killed"),
            Event::Paused(true) => write!(f, "stopped (SIGSTOP)"),
            Event::Paused(false) => write!(f, "goes on (SIGCONT)"),
            Event::Opened(store) => write!(f, "{store} has opened"),
            Event::Failed(store) => write!(f, "{store} has a failed log"),
            Event::Ended(store, well) => {
                write!(f, "{store} has ended {}", if *well { "as asked" } else { "by an error" })
            }
            Event::Role(store, shard, role, term) => write!(f, "{store} {shard} is {role:?} of term {term}"),
        }
    }
}

/// The last events of one node, oldest first, each with its virtual time in ns.
type Ring = VecDeque<(u64, Event)>;

/// The last events of each node, and those of nobody.
pub struct Events {
    exec: Executor,
    /// By node; `None`: of the cluster as a whole.
    rings: RefCell<BTreeMap<Option<usize>, Ring>>,
    /// Stores whose logs have failed in their present lives.
    failed: RefCell<BTreeSet<StoreId>>,
    followed: Cell<bool>,
}

impl Events {
    /// None yet.
    pub fn new(exec: Executor) -> Events {
        let (rings, failed) = Default::default();
        Events { exec, rings, failed, followed: Cell::new(false) }
    }

    /// Whether each event is told at once from now on, through `tracing`.
    pub fn follow(&self, followed: bool) {
        self.followed.set(followed);
    }

    /// Something happened to a node, or to the cluster.
    pub fn note(&self, node: Option<usize>, event: Event) {
        let mut rings = self.rings.borrow_mut();
        let ring = rings.entry(node).or_default();
        if ring.len() == KEPT {
            ring.pop_front();
        }
        ring.push_back((self.exec.now_ns(), event));
        if self.followed.get() {
            tracing::info!(target: "kvsim", "{}{event}", name(node));
        }
    }

    /// A store has opened.
    pub fn opened(&self, store: StoreId) {
        self.failed.borrow_mut().remove(&store);
        self.note(Some(node_of(store)), Event::Opened(store));
    }

    /// A store has ended by itself.
    pub fn ended(&self, store: StoreId, well: bool) {
        self.note(Some(node_of(store)), Event::Ended(store, well));
    }

    /// A replica has another role or term.
    pub fn turned(&self, store: StoreId, shard: ShardId, role: Role, term: u64) {
        self.note(Some(node_of(store)), Event::Role(store, shard, role, term));
    }

    /// How a store is now: noted when its log has failed.
    pub fn looked(&self, view: &ringkv_shard::config::StoreView) {
        if view.failed && self.failed.borrow_mut().insert(view.id) {
            self.note(Some(node_of(view.id)), Event::Failed(view.id));
        }
    }

    /// The last events of these nodes and of the cluster, in order, a line each.
    pub fn last(&self, nodes: &BTreeSet<usize>) -> Vec<String> {
        let rings = self.rings.borrow();
        let wanted = rings.iter().filter(|(node, _)| node.is_none_or(|node| nodes.contains(&node)));
        let mut all: Vec<_> = wanted.flat_map(|(node, ring)| ring.iter().map(move |e| (e.0, *node, e.1))).collect();
        all.sort_by_key(|(at_ns, node, _)| (*at_ns, *node));
        all.into_iter().map(|(at_ns, node, event)| format!("{} {}{event}", seconds(at_ns), name(node))).collect()
    }
}

fn node_of(store: StoreId) -> usize {
    store.node.0 as usize - 1
}

fn name(node: Option<usize>) -> String {
    node.map_or_else(String::new, |node| format!("n{}: ", node + 1))
}

/// A virtual time for people: seconds with six places.
pub fn seconds(ns: u64) -> String {
    format!("{:>10.6}s", ns as f64 / 1e9)
}

/// The nodes (from 0) that a message speaks of: `n2/0` and `n2` is node 1.
pub fn nodes_in(text: &str) -> BTreeSet<usize> {
    let number = |word: &str| word.strip_prefix('n')?.split('/').next()?.parse::<usize>().ok()?.checked_sub(1);
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '/').filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_are_kept_of_each_node_and_told_in_order() {
        let exec = Executor::new(0);
        let events = Events::new(exec.clone());
        for n in 0..100 {
            exec.advance(n * 1_000_000);
            events.note(Some((n % 2) as usize), Event::Paused(n % 4 < 2));
            events.note(None, Event::Fault(n as u32, FaultKind::Reset));
        }
        let told = events.last(&BTreeSet::from([1]));
        assert_eq!(told.len(), 2 * KEPT);
        assert!(told.is_sorted(), "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("  0.099000s n2: goes on (SIGCONT)"));
        assert!(told.iter().all(|line| !line.contains("n1:")));
    }

    #[test]
    fn nodes_are_found_in_a_message() {
        assert_eq!(nodes_in("s1.0: two leaders of term 3: n1/0 and n3/1"), BTreeSet::from([0, 2]));
        assert_eq!(nodes_in("n12: no; not nine, n0, k3 or s1.2"), BTreeSet::from([11]));
    }
}
