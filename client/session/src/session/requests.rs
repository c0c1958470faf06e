//! From queued keys to requests: one lane of reads and one of writes per shard, coalesced within windows.

use super::Session;
use crate::call::CallId;
use crate::calls::{Progress, Slot};
use crate::conns::{ConnKey, Way};
use crate::error::{Cause, Error};
use crate::tokens::{LogClock, Sequences};
use bytes::Bytes;
use ringkv_wire::entry::{OPERATION_HEADER_BYTES, OpKind, Operation, Operations};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::ids::{Generation, KeyspaceId, Now, ShardId, StoreId};
use ringkv_wire::limits;
use ringkv_wire::msg::client::{ReadLevel, ReadRequest, RequestHeader, WriteRequest};
use ringkv_wire::ring::topology::ShardInfo;
use std::collections::VecDeque;

/// Requests of one kind in flight for one shard: while they are, keys collect for the next.
const LANE_WINDOW: usize = 4;
/// A request is closed before it grows beyond this, unless one key alone is larger.
const REQUEST_BYTES: usize = 1 << 20;

/// One key of a call, on its way.
#[derive(Debug)]
pub(crate) struct Item {
    pub call: CallId,
    pub at: u32,
    pub attempts: u16,
    /// A write of which an earlier attempt ended without a definite refusal.
    pub undecided: bool,
    pub body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Read {
        keyspace: KeyspaceId,
        key: Bytes,
        level: ReadLevel,
    },
    /// Sequence 0: never sent.
    Write(Box<Operation>),
}

impl Item {
    pub fn read(call: CallId, at: u32, keyspace: KeyspaceId, key: Bytes, level: ReadLevel) -> Item {
        Item { call, at, attempts: 0, undecided: false, body: Body::Read { keyspace, key, level } }
    }

    pub fn write(call: CallId, at: u32, keyspace: KeyspaceId, kind: OpKind, key: Bytes, value: Bytes) -> Item {
        let op = Operation { seq: 0, expiry_ms: 0, keyspace, kind, key, value };
        Item { call, at, attempts: 0, undecided: false, body: Body::Write(Box::new(op)) }
    }

    fn place(&self) -> (KeyspaceId, &[u8]) {
        match &self.body {
            Body::Read { keyspace, key, .. } => (*keyspace, key),
            Body::Write(op) => (op.keyspace, &op.key),
        }
    }

    fn bytes(&self) -> usize {
        match &self.body {
            Body::Read { key, .. } => key.len() + 6,
            Body::Write(op) => OPERATION_HEADER_BYTES + op.key.len() + op.value.len(),
        }
    }

    fn level(&self) -> ReadLevel {
        match &self.body {
            Body::Read { level, .. } => *level,
            Body::Write(_) => ReadLevel::default(),
        }
    }

    pub fn seq(&self) -> u64 {
        match &self.body {
            Body::Read { .. } => 0,
            Body::Write(op) => op.seq,
        }
    }
}

/// Keys of one kind for one shard.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    pub queue: VecDeque<Item>,
    pub in_flight: usize,
}

/// What the session knows of one shard.
#[derive(Debug)]
pub(crate) struct Shard {
    pub id: ShardId,
    pub generation: Generation,
    pub replicas: Vec<StoreId>,
    /// Who is asked: the last to answer, or to be named as leader.
    pub target: StoreId,
    pub reads: Lane,
    pub writes: Lane,
    pub sequences: Sequences,
    pub clock: LogClock,
    /// Failures since the last success.
    pub failures: u32,
    /// Redirects since the last success that were followed without waiting.
    pub redirects: u32,
    /// Nothing is sent before this, ns; 0: no time to wait for.
    pub ready_ns: u64,
    /// When target or waiting time last changed, ns: what was sent before says nothing new.
    pub changed_ns: u64,
    /// No longer in the map.
    pub gone: bool,
    /// In the session's list of those with something queued.
    busy: bool,
}

impl Shard {
    fn new(info: &ShardInfo) -> Shard {
        Shard {
            id: info.id,
            generation: info.generation,
            replicas: info.replicas.clone(),
            target: info.replicas.first().copied().unwrap_or_default(),
            reads: Lane::default(),
            writes: Lane::default(),
            sequences: Sequences::new(),
            clock: LogClock::default(),
            failures: 0,
            redirects: 0,
            ready_ns: 0,
            changed_ns: 0,
            gone: false,
            busy: false,
        }
    }

    /// Something is queued at this shard, which is number `s`.
    fn mark(&mut self, s: usize, busy: &mut Vec<usize>) {
        if !std::mem::replace(&mut self.busy, true) {
            busy.push(s);
        }
    }

    pub fn lane(&mut self, write: bool) -> &mut Lane {
        if write { &mut self.writes } else { &mut self.reads }
    }

    /// When a queued key may be sent, if it only waits for time.
    pub fn due_ns(&self) -> u64 {
        if self.ready_ns == 0 { u64::MAX } else { self.ready_ns }
    }

    /// The replica after `store`.
    pub fn after(&self, store: StoreId) -> StoreId {
        let at = self.replicas.iter().position(|&r| r == store).map_or(0, |at| at + 1);
        self.replicas.get(at % self.replicas.len().max(1)).copied().unwrap_or(store)
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub conn: ConnKey,
    pub sent_ns: u64,
    /// How long its keys had waited, all together.
    pub queued_ns: u64,
    due_ns: u64,
    bytes: usize,
    pub what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Read(usize, Vec<Item>),
    Write(usize, Vec<Item>),
    Map,
    Status(StoreId, CallId),
}

impl Request {
    pub fn new(conn: ConnKey, now: Now, what: What) -> Request {
        Request { conn, sent_ns: now.boot_ns, queued_ns: 0, due_ns: 0, bytes: 0, what }
    }
}

impl Session {
    /// The session's own record of a shard of the map.
    pub(super) fn shard_for(&mut self, info: &ShardInfo) -> usize {
        if let Some(&s) = self.shard_of_id.get(&info.id) {
            let shard = &mut self.shards[s];
            (shard.generation, shard.gone) = (info.generation, false);
            shard.replicas.clone_from(&info.replicas);
            if !shard.replicas.contains(&shard.target) {
                shard.target = info.replicas.first().copied().unwrap_or_default();
            }
            return s;
        }
        self.shards.push(Shard::new(info));
        self.shard_of_id.insert(info.id, self.shards.len() - 1);
        self.shards.len() - 1
    }

    /// Marks the shards that a new map no longer has, and finds their keys another place.
    pub(super) fn reroute_gone(&mut self) {
        let live: std::collections::BTreeSet<usize> = self.route.iter().copied().collect();
        for s in (0..self.shards.len()).filter(|s| !live.contains(s)) {
            self.shards[s].gone = true;
            for write in [true, false] {
                let queue = std::mem::take(&mut self.shards[s].lane(write).queue);
                queue.into_iter().for_each(|item| self.requeue(s, [item].into()));
            }
        }
    }

    /// Queues a key at its shard.
    pub(super) fn route(&mut self, item: Item) {
        if self.map.current.is_none() {
            self.unrouted.push(item);
            return;
        }
        let (keyspace, key) = item.place();
        let Some(&s) = self.finder.find(keyspace, key).and_then(|at| self.route.get(at)) else {
            return self.no_keyspace(item.call, item.at, keyspace);
        };
        let shard = &mut self.shards[s];
        if let Some(progress) = self.calls.progress(item.call, item.at) {
            progress.shard = Some(shard.id);
            if progress.cause == Cause::NoMap {
                progress.cause = Cause::NotSent;
            }
        }
        shard.lane(matches!(item.body, Body::Write(_))).queue.push_back(item);
        shard.mark(s, &mut self.busy);
    }

    /// Puts keys back at the head of their queue, in their order.
    pub(super) fn requeue(&mut self, s: usize, items: Vec<Item>) {
        for mut item in items.into_iter().rev() {
            if self.calls.progress(item.call, item.at).is_none() {
                self.shards[s].sequences.finish(item.seq());
                continue;
            }
            let shard = &mut self.shards[s];
            if !shard.gone {
                let queue = &mut shard.lane(matches!(item.body, Body::Write(_))).queue;
                // A request's sequences increase (PROTOCOL.md §4): what was sent before stands first, in order.
                let place = queue.partition_point(|i| (1..item.seq()).contains(&i.seq()));
                queue.insert(place, item);
                shard.mark(s, &mut self.busy);
                continue;
            }
            // A token holds for its shard alone: only what is surely not applied may get another.
            shard.sequences.finish(item.seq());
            if item.undecided {
                self.calls.refuse(item.call, item.at, Error::Refused);
                continue;
            }
            if let Body::Write(op) = &mut item.body {
                op.seq = 0;
            }
            self.route(item);
        }
    }

    /// Sends what is queued, as far as windows and waiting times allow.
    pub(super) fn send_queued(&mut self, now: Now) {
        let mut busy = std::mem::take(&mut self.busy);
        // Not always the same shard first: a connection's window is shared by all of them.
        let start = (self.chance.next() % busy.len().max(1) as u64) as usize;
        busy.rotate_left(start);
        busy.retain(|&s| {
            if self.shards[s].ready_ns <= now.boot_ns {
                self.shards[s].ready_ns = 0;
                for write in [true, false] {
                    while self.send_one(now, s, write) {}
                }
            }
            let shard = &mut self.shards[s];
            shard.busy = !shard.reads.queue.is_empty() || !shard.writes.queue.is_empty();
            shard.busy
        });
        // What was put back meanwhile.
        busy.append(&mut self.busy);
        self.busy = busy;
    }

    /// Sends one request of a shard's lane; false when there is nothing to send or no way.
    fn send_one(&mut self, now: Now, s: usize, write: bool) -> bool {
        let lane = self.shards[s].lane(write);
        if lane.queue.is_empty() || lane.in_flight >= LANE_WINDOW {
            return false;
        }
        let Some(key) = self.way_for(now, s) else { return false };
        let window = self.config.window_requests.clamp(1, 64);
        let Some(conn) = self.conns.table.get(&key) else { return false };
        if conn.requests >= window || (conn.requests > 0 && conn.bytes >= self.config.window_bytes) {
            return false;
        }
        let (items, deadline_ns, queued_ns) = self.gather(now, s, write);
        let Some(first) = items.first() else { return !self.shards[s].lane(write).queue.is_empty() };
        let attempt_ms = self.config.attempt_timeout_ms;
        let left_ms = deadline_ns.saturating_sub(now.boot_ns).div_ceil(1_000_000).clamp(1, attempt_ms.max(1));
        let shard = &self.shards[s];
        let header = RequestHeader {
            shard: shard.id,
            generation: shard.generation,
            epoch: self.map.current.as_ref().map_or(0, |m| m.epoch),
            deadline_ms: u32::try_from(left_ms).unwrap_or(u32::MAX),
            attempt: items.iter().map(|i| i.attempts).max().unwrap_or(0),
        };
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        if write {
            WriteRequest::encode_header(&header, &mut body);
            let ops: Vec<&Operation> = items.iter().filter_map(Item::operation).collect();
            let floor = shard.sequences.floor();
            Operations::encode_each(self.config.client, floor, ops.into_iter(), &mut body);
        } else {
            ReadRequest::encode_each(&header, first.level(), items.iter().map(Item::place), &mut body);
        }
        self.shards[s].lane(write).in_flight += 1;
        let (kind, what) =
            if write { (Kind::Write, What::Write(s, items)) } else { (Kind::Read, What::Read(s, items)) };
        self.send_request(now, Request { queued_ns, ..Request::new(key, now, what) }, kind, &body);
        self.scratch = body;
        true
    }

    /// Takes keys off a lane for one request, and notes in each call that they are under way. Gives the latest of their
    /// deadlines, and how long they all waited, ns.
    fn gather(&mut self, now: Now, s: usize, write: bool) -> (Vec<Item>, u64, u64) {
        let shard = &mut self.shards[s];
        let (id, target, expiry_ms) = (shard.id, shard.target, shard.clock.expiry_ms(now));
        let lane = if write { &mut shard.writes } else { &mut shard.reads };
        let (mut bytes, mut latest_ns, mut queued_ns) = (0, 0, 0);
        let mut items = Vec::with_capacity(lane.queue.len().min(limits::OPERATIONS_MAX));
        let mut level = None;
        while let Some(next) = lane.queue.front() {
            let full = items.len() == limits::OPERATIONS_MAX || bytes + next.bytes() > REQUEST_BYTES;
            if !items.is_empty() && (full || level != Some(next.level())) {
                break;
            }
            let Some(mut item) = lane.queue.pop_front() else { break };
            let Some((times, progress)) = self.calls.timed(item.call, item.at) else {
                shard.sequences.finish(item.seq());
                continue;
            };
            latest_ns = latest_ns.max(times.deadline_ns);
            queued_ns += now.boot_ns - times.since_ns;
            let attempts = progress.attempts.saturating_add(1);
            let undecided = progress.undecided;
            *progress = Progress {
                shard: Some(id),
                store: Some(target),
                cause: Cause::NoAnswer,
                attempts,
                in_flight: true,
                undecided,
            };
            self.stats.retries += u64::from(attempts > 1);
            item.attempts = attempts - 1;
            if let Body::Write(op) = &mut item.body
                && op.seq == 0
            {
                (op.seq, op.expiry_ms) = (shard.sequences.take(), expiry_ms);
            }
            level = Some(item.level());
            bytes += item.bytes();
            items.push(item);
        }
        (items, latest_ns, queued_ns)
    }

    /// An open connection to the shard's target, or to the next replica that can be reached.
    fn way_for(&mut self, now: Now, s: usize) -> Option<ConnKey> {
        let (mut earliest_ns, mut coming) = (u64::MAX, false);
        let mut target = self.shards[s].target;
        for _ in 0..self.shards[s].replicas.len().max(1) {
            match self.reach(now, target) {
                Way::Open(key) => {
                    self.shards[s].target = target;
                    return Some(key);
                }
                // One that failed before may fail again: meanwhile the others are asked.
                Way::Coming if !self.conns.failing(target) => return None,
                Way::Coming => coming = true,
                Way::Down(until_ns) => earliest_ns = earliest_ns.min(until_ns),
            }
            target = self.shards[s].after(target);
        }
        if !coming {
            self.shards[s].ready_ns = earliest_ns;
        }
        None
    }

    /// Writes a request's frame into its connection's buffer and remembers it until it is answered.
    pub(super) fn send_request(&mut self, now: Now, mut request: Request, kind: Kind, body: &[u8]) {
        let Some(conn) = self.conns.table.get_mut(&request.conn) else { return };
        // A large request gets the time it takes at 10 MB/s on top.
        request.due_ns = now.boot_ns + self.config.attempt_timeout_ms * 1_000_000 + body.len() as u64 * 100;
        request.bytes = body.len();
        conn.requests += 1;
        conn.bytes += body.len();
        let due_ns = request.due_ns;
        let id = self.requests.insert(request);
        self.timeouts.insert((due_ns, id));
        if let Some(conn) = self.requests.get(id).and_then(|r| self.conns.table.get_mut(&r.conn)) {
            frame::encode(kind, id, body, &mut conn.out);
        }
    }

    /// Takes an answered or failed request out of the tables.
    pub(super) fn end_request(&mut self, id: u64) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.timeouts.remove(&(request.due_ns, id));
        if let Some(conn) = self.conns.table.get_mut(&request.conn) {
            conn.requests -= 1;
            conn.bytes -= request.bytes;
        }
        match request.what {
            What::Write(s, _) => self.shards[s].writes.in_flight -= 1,
            What::Read(s, _) => self.shards[s].reads.in_flight -= 1,
            What::Map | What::Status(..) => {}
        }
        Some(request)
    }

    /// Attempts whose time is up. A store that has said nothing at all since costs its connection: everything under way
    /// there is tried elsewhere at once.
    pub(super) fn expire_attempts(&mut self, now: Now) {
        while let Some(&(due_ns, id)) = self.timeouts.first() {
            if due_ns > now.boot_ns {
                return;
            }
            let Some(request) = self.requests.get(id) else {
                self.timeouts.pop_first();
                continue;
            };
            let key = request.conn;
            if self.conns.table.get(&key).is_some_and(|c| c.heard_ns <= request.sent_ns) {
                self.drop_conn(now, key, Cause::TimedOut);
            }
            self.fail(now, id, Cause::TimedOut);
        }
    }

    /// Drops queued keys that nobody waits for any more.
    pub(super) fn sweep(&mut self) {
        let calls = &mut self.calls;
        self.unrouted.retain(|item| calls.progress(item.call, item.at).is_some());
        self.map_calls.retain(|&call| calls.progress(call, 0).is_some());
        for &s in &self.busy {
            let shard = &mut self.shards[s];
            for lane in [&mut shard.reads, &mut shard.writes] {
                lane.queue.retain(|item| {
                    let waits = calls.progress(item.call, item.at).is_some();
                    if !waits {
                        shard.sequences.finish(item.seq());
                    }
                    waits
                });
            }
        }
    }

    /// Sends status calls on their way.
    pub(super) fn send_asks(&mut self, now: Now) {
        if self.map.current.is_none() {
            return;
        }
        for (store, call) in std::mem::take(&mut self.asks) {
            if self.calls.progress(call, 0).is_none() {
                continue;
            }
            if self.map.current.as_ref().is_some_and(|m| m.address(store).is_none()) {
                self.calls.refuse(call, 0, Error::Refused);
                continue;
            }
            let Way::Open(key) = self.reach(now, store) else {
                self.asks.push((store, call));
                continue;
            };
            if let Some(progress) = self.calls.progress(call, 0) {
                (progress.store, progress.cause) = (Some(store), Cause::NoAnswer);
                progress.attempts = progress.attempts.saturating_add(1);
            }
            self.send_request(now, Request::new(key, now, What::Status(store, call)), Kind::Status, &[]);
        }
    }

    /// Settles a status call.
    pub(super) fn settle_text(&mut self, call: CallId, text: String) {
        self.calls.settle(call, 0, Slot::Text(text));
    }
}

impl Item {
    fn operation(&self) -> Option<&Operation> {
        match &self.body {
            Body::Write(op) => Some(op),
            Body::Read { .. } => None,
        }
    }
}
