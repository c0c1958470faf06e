//! What must hold at every step: at most one leader per shard and term, one history of applied entries per shard.

use crate::exec::Executor;
use ringkv_core::raft::Role;
use ringkv_shard::config::{AppliedEntry, StoreView};
use ringkv_wire::ids::{ShardId, StoreId};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// One life of a store.
pub type Life = (StoreId, u32);

#[derive(Clone, Copy, Default)]
struct Replica {
    term: u64,
    commit: u64,
    applied: u64,
}

#[derive(Default)]
struct State {
    leaders: BTreeMap<(ShardId, u64), Life>,
    /// Applied entries by shard, at their index - 1: the first replica that applies one decides what it is.
    applied: BTreeMap<ShardId, Vec<Option<AppliedEntry>>>,
    replicas: BTreeMap<(Life, ShardId), Replica>,
    wrong: Vec<String>,
}

/// Sees every applied entry and every store after each of its turns.
pub struct Watch {
    exec: Executor,
    state: RefCell<State>,
}

impl Watch {
    /// Has seen nothing.
    pub fn new(exec: Executor) -> Watch {
        Watch { exec, state: RefCell::default() }
    }

    /// Something is wrong.
    pub fn wrong(&self, what: String) {
        let ms = self.exec.now_ns() / 1_000_000;
        self.state.borrow_mut().wrong.push(format!("at {ms} ms: {what}"));
    }

    /// Whether something is wrong.
    pub fn is_wrong(&self) -> bool {
        !self.state.borrow().wrong.is_empty()
    }

    /// All that is wrong.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.state.borrow_mut().wrong)
    }

    /// Elections that somebody won.
    pub fn elections(&self) -> usize {
        self.state.borrow().leaders.len()
    }

    /// Index of the last entry that anybody applied.
    pub fn last_applied(&self, shard: ShardId) -> u64 {
        self.state.borrow().applied.get(&shard).map_or(0, |entries| entries.len() as u64)
    }

    /// A store applied an entry. State Machine Safety (Raft §5.4.3).
    pub fn applied(&self, life: Life, entry: AppliedEntry) {
        self.exec.note(entry.index << 32 | u64::from(entry.body_crc));
        let found = self.state.borrow_mut().applied(life, entry);
        found.into_iter().for_each(|what| self.wrong(what));
    }

    /// A store after its turn. Election Safety (Raft §5.2).
    pub fn looked(&self, life: Life, view: &StoreView) {
        let found = self.state.borrow_mut().looked(life, view);
        found.into_iter().for_each(|what| self.wrong(what));
    }
}

impl State {
    fn applied(&mut self, life: Life, entry: AppliedEntry) -> Vec<String> {
        let mut wrong = Vec::new();
        let (shard, index) = (entry.shard, entry.index);
        let replica = self.replicas.entry((life, shard)).or_default();
        if index <= replica.applied {
            wrong.push(format!("{} applied {shard} index {index} again, after {}", life.0, replica.applied));
        }
        replica.applied = index;
        let entries = self.applied.entry(shard).or_default();
        let at = index.saturating_sub(1) as usize;
        if entries.len() <= at {
            entries.resize(at + 1, None);
        }
        let what = |e: &AppliedEntry| (e.term, e.log_time_ms, e.body_crc);
        match &entries[at] {
            Some(first) if what(first) != what(&entry) => {
                wrong.push(format!("{shard} index {index} is {first:?} and {entry:?}: logs do not match"));
            }
            Some(_) => {}
            None => entries[at] = Some(entry),
        }
        let before = at.checked_sub(1).and_then(|at| entries[at]);
        if let Some(before) = before.filter(|b| b.term > entry.term || b.log_time_ms > entry.log_time_ms) {
            wrong.push(format!("{shard}: term or log time go back from {before:?} to {entry:?}"));
        }
        wrong
    }

    fn looked(&mut self, life: Life, view: &StoreView) -> Vec<String> {
        let mut wrong = Vec::new();
        for shard in &view.shards {
            if shard.role == Role::Leader {
                let first = *self.leaders.entry((shard.shard, shard.term)).or_insert(life);
                if first != life {
                    let (a, b, term) = (first.0, life.0, shard.term);
                    wrong.push(format!("{}: two leaders of term {term}: {a} and {b}", shard.shard));
                }
            }
            let replica = self.replicas.entry((life, shard.shard)).or_default();
            let (name, was) = (format_args!("{} {}", life.0, shard.shard), *replica);
            if shard.term < was.term {
                wrong.push(format!("{name}: term went back from {} to {}", was.term, shard.term));
            }
            if shard.commit < was.commit {
                wrong.push(format!("{name}: commit went back from {} to {}", was.commit, shard.commit));
            }
            if shard.applied > shard.commit || shard.commit > shard.last_index {
                let (applied, commit, last) = (shard.applied, shard.commit, shard.last_index);
                wrong.push(format!("{name}: applied {applied} <= commit {commit} <= last {last} does not hold"));
            }
            *replica = Replica { term: shard.term, commit: shard.commit, applied: was.applied.max(shard.applied) };
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shard::config::ShardView;
    use ringkv_wire::ids::Generation;

    const SHARD: ShardId = ShardId::new(1, 0);

    fn entry(store: u32, index: u64, term: u64, body_crc: u32) -> (Life, AppliedEntry) {
        let store = StoreId::new(store, 0);
        ((store, 0), AppliedEntry { store, shard: SHARD, index, term, log_time_ms: 7, body_crc })
    }

    fn view(store: u32, role: Role, term: u64, commit: u64) -> (Life, StoreView) {
        let id = StoreId::new(store, 0);
        let shard = ShardView {
            shard: SHARD,
            generation: Generation(1),
            role,
            term,
            leader: None,
            commit,
            applied: commit,
            last_index: commit,
            log_time_ms: 0,
            session_bytes: 0,
            raft_bytes: 0,
        };
        ((id, 0), StoreView { id, admitted: true, failed: false, memtable_bytes: 0, shards: vec![shard] })
    }

    fn judged(applied: &[(Life, AppliedEntry)], views: &[(Life, StoreView)]) -> Vec<String> {
        let watch = Watch::new(Executor::new(0));
        applied.iter().for_each(|(life, entry)| watch.applied(*life, *entry));
        views.iter().for_each(|(life, view)| watch.looked(*life, view));
        watch.take_wrong()
    }

    #[test]
    fn what_is_right_passes() {
        let applied = [entry(1, 1, 1, 5), entry(2, 1, 1, 5), entry(1, 2, 2, 6), entry(2, 2, 2, 6)];
        let views = [view(1, Role::Leader, 1, 1), view(2, Role::Leader, 2, 2), view(1, Role::Follower, 2, 2)];
        assert_eq!(judged(&applied, &views), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_named() {
        type Case<'a> = (&'a str, &'a [(Life, AppliedEntry)], &'a [(Life, StoreView)]);
        let cases: [Case; 6] = [
            ("logs do not match", &[entry(1, 1, 1, 5), entry(2, 1, 1, 6)], &[]),
            ("logs do not match", &[entry(1, 1, 1, 5), entry(2, 1, 2, 5)], &[]),
            ("again", &[entry(1, 1, 1, 5), entry(1, 1, 1, 5)], &[]),
            ("go back", &[entry(1, 1, 3, 5), entry(1, 2, 2, 5)], &[]),
            ("two leaders", &[], &[view(1, Role::Leader, 3, 0), view(2, Role::Leader, 3, 0)]),
            ("commit went back", &[], &[view(1, Role::Follower, 3, 5), view(1, Role::Follower, 3, 4)]),
        ];
        for (word, applied, views) in cases {
            let wrong = judged(applied, views);
            assert!(wrong.iter().any(|w| w.contains(word)), "{word}: {wrong:?}");
        }
    }
}
