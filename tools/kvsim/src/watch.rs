//! What must hold at every step, checked from outside: by what each step did to a replica, by what each disk durably holds,
//! by what each store says to others. The names are those of Raft's paper, figure 3.
//!
//! A check costs what changed: a step that changed nothing costs a comparison.

mod applied;
mod bounds;
mod glance;
mod group;
mod look;
mod platter;
mod states;
mod step;
mod wire;

#[cfg(test)]
mod tests;

use crate::events::Events;
use crate::exec::Executor;
use applied::Applied;
use bytes::Bytes;
use group::Group;
use look::Look;
use platter::{Platter, Platters};
use ringkv_core::raft::{Raft, Role};
use ringkv_session::Held;
use ringkv_shard::config::{Budgets, StoreConfig, StoreView};
use ringkv_shard::digest::Digest;
use ringkv_shard::witness::Witness;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::{ShardId, StoreId};
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::msg::peer::PeerMessage;
use states::States;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// One life of a store.
pub type Life = (StoreId, u32);

#[derive(Default)]
struct State {
    groups: BTreeMap<ShardId, Group>,
    applied: BTreeMap<ShardId, Applied>,
    /// The last index that each replica applied in its present life.
    reached: BTreeMap<(StoreId, ShardId), u64>,
    platters: Platters,
    states: States,
    wrong: Vec<String>,
}

/// Sees every step, every write that becomes durable and every promise that leaves a store.
pub struct Watch {
    exec: Executor,
    events: Rc<Events>,
    state: RefCell<State>,
    elected: RefCell<Option<Elected>>,
}

/// Hears who was elected to lead what.
pub type Elected = Rc<dyn Fn(StoreId, ShardId)>;

impl Watch {
    /// Has seen nothing. `events` hears of every new role.
    pub fn new(exec: Executor, events: Rc<Events>) -> Watch {
        Watch { exec, events, state: RefCell::default(), elected: RefCell::default() }
    }

    /// From now on `elected` hears of every new leader.
    pub fn when_elected(&self, elected: Elected) {
        *self.elected.borrow_mut() = Some(elected);
    }

    /// Something is wrong.
    pub fn wrong(&self, what: String) {
        let ms = self.exec.now_ns() / 1_000_000;
        self.state.borrow_mut().wrong.push(format!("at {ms} ms: {what}"));
    }

    fn all_wrong(&self, found: Vec<String>) {
        found.into_iter().for_each(|what| self.wrong(what));
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
        self.state.borrow().groups.values().map(|group| group.leaders.len()).sum()
    }

    /// Index of the last entry that anybody applied.
    pub fn last_applied(&self, shard: ShardId) -> u64 {
        self.state.borrow().applied.get(&shard).map_or(0, Applied::last)
    }

    /// A store begins a life, on the disk that it had; `config` as it is given to it. Gives the eyes of this life.
    pub fn begins(self: &Rc<Watch>, life: Life, config: &StoreConfig) -> Rc<dyn Witness> {
        let mut state = self.state.borrow_mut();
        state.platters.entry(life.0).or_insert_with(|| Platter::new(config.log_identity())).begins();
        state.reached.retain(|(store, _), _| *store != life.0);
        Rc::new(Eyes { watch: self.clone(), life })
    }

    /// A write to a file of a store's log is durable, as the disk tells.
    pub fn durable(&self, store: StoreId, file: &str, offset: u64, bytes: &[u8]) {
        if let Some(platter) = self.state.borrow_mut().platters.get_mut(&store) {
            platter.wrote(file, offset, bytes);
        }
    }

    /// A store's disk was damaged in silence, or wiped: from now on it is held to no promise about what is durable. Wrong
    /// data is wrong all the same.
    pub fn damaged(&self, store: StoreId) {
        if let Some(platter) = self.state.borrow_mut().platters.get_mut(&store) {
            platter.damaged = true;
        }
    }

    /// A store hands whole frames to the network, for another store.
    pub fn says(&self, from: StoreId, to: StoreId, frames: &Bytes) {
        let promises = wire::promises(frames);
        if promises.is_empty() {
            return;
        }
        let state = self.state.borrow();
        let judge = |message: &PeerMessage| {
            let (platter, group) = (state.platters.get(&from)?, state.groups.get(&message.shard)?);
            wire::judge(from, to, message, platter, group)
        };
        let found: Vec<String> = promises.iter().filter_map(judge).collect();
        drop(state);
        self.all_wrong(found);
    }

    /// Whether a store's disk was damaged in silence, or wiped.
    pub fn is_damaged(&self, store: StoreId) -> bool {
        self.state.borrow().platters.get(&store).is_some_and(|platter| platter.damaged)
    }

    /// A replica's whole state came to this.
    pub fn digested(&self, store: StoreId, shard: ShardId, digest: Digest) {
        let found = self.state.borrow_mut().states.came_to(store, shard, digest);
        found.into_iter().for_each(|what| self.wrong(what));
    }

    /// A client's session between two turns, of whose calls `asked` are waited for, in a cluster of so many stores.
    pub fn session_glanced(&self, held: &Held, asked: usize, stores: usize) {
        self.all_wrong(bounds::session_beyond(held, asked, stores));
    }

    /// What is wrong with a log that takes so many bytes of its disk at rest.
    pub fn log_at_rest(&self, store: StoreId, bytes: u64, budgets: &Budgets) -> Option<String> {
        let found = bounds::log_beyond(bytes, budgets).filter(|_| !self.is_damaged(store));
        found.map(|what| format!("{store}: {what}"))
    }

    /// A store between two turns; now and then is enough.
    pub fn glanced(&self, life: Life, view: &StoreView, budgets: &Budgets) {
        let mut found = self.state.borrow_mut().glanced(life, view);
        found.extend(bounds::beyond(view, budgets));
        self.all_wrong(found);
    }
}

impl State {
    fn group(&mut self, shard: ShardId) -> (&mut Group, &mut Platters) {
        (self.groups.entry(shard).or_insert_with(|| Group::new(shard)), &mut self.platters)
    }

    fn opened(&mut self, life: Life, shard: ShardId, look: &dyn Look) -> Vec<String> {
        let (group, platters) = self.group(shard);
        let mut wrong = Vec::new();
        if let Some(platter) = platters.get_mut(&life.0) {
            let found = platter.opened(shard, look, |index| group.committed(index));
            wrong.extend(found.into_iter().map(|what| format!("Promises survive: {} {shard}: {what}", life.0)));
        }
        wrong.extend(group.opened(life, look, platters));
        let applied = look.seen().commit;
        self.reached.insert((life.0, shard), applied);
        wrong
    }

    fn applied(&mut self, store: StoreId, entry: &Entry, results: &[WriteResult]) -> Vec<String> {
        let (shard, index) = (entry.shard, entry.index);
        let reached = self.reached.entry((store, shard)).or_default();
        let again =
            (index <= *reached).then(|| format!("{store} applied {shard} index {index} again, after {reached}"));
        *reached = index;
        let mut wrong = self.applied.entry(shard).or_default().applied(entry, results);
        wrong.extend(again);
        wrong
    }
}

/// Looks on one life of a store.
struct Eyes {
    watch: Rc<Watch>,
    life: Life,
}

impl Witness for Eyes {
    fn opened(&self, raft: &Raft) {
        let found = self.watch.state.borrow_mut().opened(self.life, raft.shard(), raft);
        self.watch.all_wrong(found);
    }

    fn stepped(&self, raft: &Raft) {
        let (found, turned) = {
            let mut state = self.watch.state.borrow_mut();
            let (group, platters) = state.group(raft.shard());
            (group.stepped(self.life, raft, platters), group.turned.take())
        };
        if let Some((role, term)) = turned {
            self.watch.events.turned(self.life.0, raft.shard(), role, term);
            if let (Role::Leader, Some(elected)) = (role, &*self.watch.elected.borrow()) {
                elected(self.life.0, raft.shard());
            }
        }
        self.watch.all_wrong(found);
    }

    fn applied(&self, entry: &Entry, results: &[WriteResult]) {
        self.watch.exec.note(entry.index << 32 | u64::from(entry.body_crc));
        let found = self.watch.state.borrow_mut().applied(self.life.0, entry, results);
        self.watch.all_wrong(found);
    }

    fn flushed(&self, shard: ShardId, index: u64) {
        if let Some(platter) = self.watch.state.borrow_mut().platters.get_mut(&self.life.0) {
            platter.flushed(shard, index);
        }
    }
}
