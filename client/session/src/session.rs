//! The session itself: calls in, turns, actions out.

mod map;
mod replies;
mod requests;

use crate::call::{Ask, Call, CallId, Completion};
use crate::calls::{Calls, Shape, Slot, Times};
use crate::config::SessionConfig;
use crate::conns::{ConnKey, Conns};
use crate::error::{Cause, Error};
use crate::retry::{Budget, Chance, backoff_ns};
use crate::slab::Slab;
use crate::stats::SessionStats;
use bytes::Bytes;
use map::MapState;
use requests::{Item, Request, Shard};
use ringkv_wire::entry::OpKind;
use ringkv_wire::hello::{Answer, Hello};
use ringkv_wire::ids::{KeyspaceId, Now, ShardId, StoreId};
use ringkv_wire::limits;
use ringkv_wire::msg::client::ReadLevel;
use ringkv_wire::ring::topology::{ClusterMap, Finder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Queues are swept of keys that nobody waits for no more often than this, ns.
const SWEEP_NS: u64 = 100_000_000;
/// What a key costs beside its bytes, about.
const KEY_OVERHEAD_BYTES: usize = 128;

/// What a turn wants done, in this order. The driver empties the lists.
#[derive(Debug, Default)]
pub struct Actions {
    /// Connect there, send this hello, wait for the answer: then [`Session::opened`], or [`Session::closed`].
    pub connect: Vec<(ConnKey, SocketAddr, Hello)>,
    /// Send these bytes, in order, on an open connection.
    pub send: Vec<(ConnKey, Bytes)>,
    /// Close or stop connecting. The session has forgotten it: nothing more need be reported.
    pub close: Vec<ConnKey>,
    /// These calls are done.
    pub done: Vec<(CallId, Completion)>,
}

/// One client's session with a cluster. See the crate's documentation for how to drive it.
pub struct Session {
    config: SessionConfig,
    calls: Calls,
    map: MapState,
    conns: Conns,
    requests: Slab<Request>,
    /// (when an attempt times out, its request), ns.
    timeouts: BTreeSet<(u64, u64)>,
    shards: Vec<Shard>,
    shard_of_id: BTreeMap<ShardId, usize>,
    /// Place in the map's shard list -> place in `shards`.
    route: Vec<usize>,
    finder: Finder,
    /// Shards with something queued.
    busy: Vec<usize>,
    /// What waits for the first map.
    unrouted: Vec<Item>,
    /// Status calls not yet sent.
    asks: Vec<(StoreId, CallId)>,
    /// Map calls that wait for the first map.
    map_calls: Vec<CallId>,
    /// Calls ended whose keys may still be queued.
    dead: bool,
    sweep_ns: u64,
    budget: Budget,
    chance: Chance,
    stats: SessionStats,
    out: Actions,
    scratch: Vec<u8>,
}

impl Session {
    /// A session that knows nothing yet: its first turn connects to seeds. `random` decides with which to begin.
    pub fn new(config: SessionConfig, now: Now, random: u64) -> Session {
        Session {
            calls: Calls::new(),
            map: MapState::new(now, random),
            conns: Conns::new(),
            requests: Slab::new(),
            timeouts: BTreeSet::new(),
            shards: Vec::new(),
            shard_of_id: BTreeMap::new(),
            route: Vec::new(),
            finder: Finder::default(),
            busy: Vec::new(),
            unrouted: Vec::new(),
            asks: Vec::new(),
            map_calls: Vec::new(),
            dead: false,
            sweep_ns: 0,
            budget: Budget::new(config.retries_per_s),
            chance: Chance::new(random),
            stats: SessionStats::default(),
            out: Actions::default(),
            scratch: Vec::new(),
            config,
        }
    }

    /// The cluster map, once a seed has given one.
    pub fn map(&self) -> Option<&Arc<ClusterMap>> {
        self.map.current.as_ref()
    }

    /// What was counted.
    pub fn stats(&self) -> SessionStats {
        SessionStats { unknown: self.calls.unknown(), ..self.stats }
    }

    /// Calls that are not done, and their keys without a result.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.calls.waiting()
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.calls.held_bytes()
    }

    pub(crate) fn queued_keys(&self) -> usize {
        let lanes = self.shards.iter().map(|shard| shard.reads.queue.len() + shard.writes.queue.len());
        self.unrouted.len() + lanes.sum::<usize>()
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &crate::conns::Conn> {
        self.conns.table.values()
    }

    /// Takes a call. What breaks a limit is refused at once, key by key; the completion comes with the next turn in any
    /// case.
    pub fn submit(&mut self, now: Now, call: Call) -> CallId {
        let timeout_ms = call.timeout_ms.unwrap_or(self.config.call_timeout_ms);
        let deadline_ns = now.boot_ns.saturating_add(timeout_ms.saturating_mul(1_000_000));
        let times = Times { since_ns: now.boot_ns, deadline_ns };
        let level = call.level.unwrap_or(self.config.read_level);
        match call.ask {
            Ask::Get { keyspace, key } => {
                let bytes = key.len() + KEY_OVERHEAD_BYTES;
                self.take_reads(Shape::Get, keyspace, [key].into_iter(), bytes, level, times)
            }
            Ask::GetMany { keyspace, keys } => {
                let bytes = keys.iter().map(|key| key.len() + KEY_OVERHEAD_BYTES).sum();
                self.take_reads(Shape::GetMany, keyspace, keys.into_iter(), bytes, level, times)
            }
            Ask::Put { keyspace, key, value } => {
                self.take_writes(Shape::Write, keyspace, OpKind::Put, vec![(key, value)], times)
            }
            Ask::PutMany { keyspace, pairs } => self.take_writes(Shape::WriteMany, keyspace, OpKind::Put, pairs, times),
            Ask::Delete { keyspace, key } => {
                let pairs = vec![(key, Bytes::new())];
                self.take_writes(Shape::Write, keyspace, OpKind::Delete, pairs, times)
            }
            Ask::Map => {
                let id = self.calls.open(Shape::Map, 1, 0, times, self.cause());
                self.map_calls.push(id);
                self.answer_map_calls();
                id
            }
            Ask::Stats => {
                let id = self.calls.open(Shape::Stats, 1, 0, times, self.cause());
                self.calls.settle(id, 0, Slot::Stats(Box::new(self.stats())));
                id
            }
            Ask::Status { store } => {
                let id = self.calls.open(Shape::Status, 1, 0, times, self.cause());
                self.asks.push((store, id));
                id
            }
        }
    }

    fn cause(&self) -> Cause {
        if self.map.current.is_some() { Cause::NotSent } else { Cause::NoMap }
    }

    fn take_reads(
        &mut self,
        shape: Shape,
        keyspace: KeyspaceId,
        keys: impl ExactSizeIterator<Item = Bytes>,
        bytes: usize,
        level: ReadLevel,
        times: Times,
    ) -> CallId {
        let call = self.calls.open(shape, keys.len(), bytes, times, self.cause());
        let room = self.room();
        for (at, key) in keys.enumerate() {
            let at = at as u32;
            match check_key(&key).and(room.clone()) {
                Ok(()) => self.route(Item::read(call, at, keyspace, key, level)),
                Err(error) => self.calls.settle(call, at, Slot::Failed(error)),
            }
        }
        call
    }

    fn take_writes(
        &mut self,
        shape: Shape,
        keyspace: KeyspaceId,
        kind: OpKind,
        pairs: Vec<(Bytes, Bytes)>,
        times: Times,
    ) -> CallId {
        let bytes = pairs.iter().map(|(key, value)| key.len() + value.len() + KEY_OVERHEAD_BYTES).sum();
        let call = self.calls.open(shape, pairs.len(), bytes, times, self.cause());
        let room = self.room();
        for (at, (key, value)) in pairs.into_iter().enumerate() {
            let at = at as u32;
            match check_key(&key).and(check_value(&value)).and(room.clone()) {
                Ok(()) => self.route(Item::write(call, at, keyspace, kind, key, value)),
                Err(error) => self.calls.settle(call, at, Slot::Failed(error)),
            }
        }
        call
    }

    /// Whether what is held, the newest call included, is within the limit.
    fn room(&self) -> Result<(), Error> {
        let (held, limit) = (self.calls.held_bytes(), self.config.held_bytes_max);
        if held <= limit { Ok(()) } else { Err(Error::Overloaded { held, limit }) }
    }

    /// Nobody waits for this call any more: it is dropped without a completion. What of it was sent may still be applied.
    pub fn cancel(&mut self, call: CallId) {
        self.calls.forget(call);
        self.dead = true;
    }

    /// Ends every call: unknown for writes that were sent, not applied for the rest.
    pub fn shut(&mut self) {
        for call in self.calls.all() {
            self.calls.end(call, |failure| Error::Closed { outcome: failure.outcome });
        }
    }

    /// The other side has answered our hello. A verdict other than welcome closes the connection here.
    pub fn opened(&mut self, now: Now, key: ConnKey, hello: &Hello) {
        let Some(conn) = self.conns.table.get_mut(&key) else { return };
        if hello.answer != Answer::Welcome || !hello.speaks() {
            self.map.want(hello.answer == Answer::WrongCluster || hello.answer == Answer::WrongStore);
            self.drop_conn(now, key, Cause::Disconnected);
            return;
        }
        (conn.open, conn.heard_ns) = (true, now.boot_ns);
        if conn.seed.is_some() && hello.from.node.0 != 0 {
            conn.store = Some(hello.from);
        }
        if let Some(reach) = conn.store.and_then(|store| self.conns.stores.get_mut(&store)) {
            (reach.failures, reach.retry_ns) = (0, 0);
        }
        if conn.seed.is_some() && self.map.current.is_some() {
            self.keep_or_close_seed(key);
        }
        self.map_soon(now);
    }

    /// The connection is gone, or could not be made.
    pub fn closed(&mut self, now: Now, key: ConnKey) {
        self.lose_conn(now, key, Cause::Disconnected);
    }

    /// Bytes came. A peer that breaks the protocol costs its connection.
    pub fn received(&mut self, now: Now, key: ConnKey, bytes: Bytes) {
        let Some(conn) = self.conns.table.get_mut(&key) else { return };
        conn.heard_ns = now.boot_ns;
        conn.decoder.take_in(bytes);
        while let Some(conn) = self.conns.table.get_mut(&key) {
            let message = conn.decoder.next();
            let taken = match message {
                Ok(None) => return,
                Ok(Some(message)) => self.reply(now, key, message),
                Err(error) => Err(error),
            };
            if taken.is_err() {
                self.drop_conn(now, key, Cause::Disconnected);
            }
        }
    }

    /// Does what is due and gives back what to do. `random` are fresh bits.
    pub fn turn(&mut self, now: Now, random: u64, out: &mut Actions) {
        self.chance.stir(random);
        self.dead |= self.calls.expire(now.boot_ns);
        if self.dead && now.boot_ns >= self.sweep_ns {
            self.sweep();
            (self.dead, self.sweep_ns) = (false, now.boot_ns + SWEEP_NS);
        }
        self.expire_attempts(now);
        self.expire_connects(now);
        self.seek_map(now);
        self.send_asks(now);
        self.send_queued(now);
        for (&key, conn) in self.conns.table.iter_mut().filter(|(_, c)| !c.out.is_empty()) {
            self.out.send.push((key, Bytes::from(std::mem::take(&mut conn.out))));
        }
        out.connect.append(&mut self.out.connect);
        out.send.append(&mut self.out.send);
        out.close.append(&mut self.out.close);
        self.calls.take_done(&mut out.done);
    }

    /// When [`Session::turn`] is to be called at the latest, though nothing comes in: boot time, ns.
    pub fn next_deadline_ns(&self) -> u64 {
        let attempts = self.timeouts.first().map_or(u64::MAX, |t| t.0);
        let queued = self.busy.iter().filter_map(|&s| self.shards.get(s)).map(|s| s.due_ns()).min();
        let reaches = self.asks.iter().filter_map(|(store, _)| self.conns.stores.get(store));
        let asks = reaches.filter(|r| r.conn.is_none()).map(|r| r.retry_ns).min();
        [
            attempts,
            self.calls.next_deadline_ns(),
            self.conns.next_connect_due_ns(),
            self.map.due_ns(),
            queued.unwrap_or(u64::MAX),
            asks.unwrap_or(u64::MAX),
        ]
        .into_iter()
        .min()
        .unwrap_or(u64::MAX)
    }

    fn expire_connects(&mut self, now: Now) {
        let late = |c: &crate::conns::Conn| !c.open && c.connect_due_ns <= now.boot_ns;
        let late: Vec<ConnKey> = self.conns.table.iter().filter(|(_, c)| late(c)).map(|(&key, _)| key).collect();
        late.into_iter().for_each(|key| self.drop_conn(now, key, Cause::TimedOut));
    }

    /// Closes a connection from this side.
    fn drop_conn(&mut self, now: Now, key: ConnKey, cause: Cause) {
        if self.conns.table.contains_key(&key) {
            self.out.close.push(key);
            self.lose_conn(now, key, cause);
        }
    }

    /// Forgets a connection; what was on its way has no answer, and its store is left alone for a moment.
    fn lose_conn(&mut self, now: Now, key: ConnKey, cause: Cause) {
        let Some(conn) = self.conns.remove(key) else { return };
        if let Some(reach) = conn.store.and_then(|store| self.conns.stores.get_mut(&store)) {
            reach.failures += 1;
            reach.retry_ns = now.boot_ns + backoff_ns(reach.failures + 2, self.chance.next());
            self.map.unreachable(now);
        }
        if conn.seed.is_some() {
            self.map.seed_lost(now, self.chance.next());
        }
        let lost: Vec<u64> = self.requests.iter().filter(|(_, r)| r.conn == key).map(|(id, _)| id).collect();
        lost.into_iter().for_each(|id| self.fail(now, id, cause));
    }

    /// The way to a store, connecting when there is none.
    fn reach(&mut self, now: Now, store: StoreId) -> crate::conns::Way {
        use crate::conns::Way;
        if let Some(way) = self.conns.way(store, now.boot_ns) {
            return way;
        }
        let Some(map) = &self.map.current else { return Way::Down(now.boot_ns + 100_000_000) };
        let Some(address) = map.address(store) else {
            self.map.want(true);
            return Way::Down(now.boot_ns + 100_000_000);
        };
        let hello = Hello { cluster: map.cluster, epoch: map.epoch, ..Hello::client(self.config.client, store) };
        let key = self.conns.add(Some(store), None, now.boot_ns + self.config.attempt_timeout_ms * 1_000_000);
        self.out.connect.push((key, address, hello));
        Way::Coming
    }
}

fn check_key(key: &Bytes) -> Result<(), Error> {
    let fits = (1..=limits::KEY_BYTES_MAX).contains(&key.len());
    if fits { Ok(()) } else { Err(Error::KeySize { bytes: key.len() }) }
}

fn check_value(value: &Bytes) -> Result<(), Error> {
    let fits = value.len() <= limits::VALUE_BYTES_MAX;
    if fits { Ok(()) } else { Err(Error::ValueSize { bytes: value.len() }) }
}
