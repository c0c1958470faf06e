//! Connections: hello, frames in, answers out.

use super::{Done, Store};
use crate::host::{ConnId, Host, NetEvent};
use crate::replica::Asker;
use bytes::Bytes;
use ringkv_core::raft;
use ringkv_storage::wal::Record;
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{ANY_STORE, Answer, Hello, Role};
use ringkv_wire::ids::{Incarnation, Now, StoreId};
use ringkv_wire::limits;
use ringkv_wire::msg::client::{STATUS_HEADER_BYTES, StatusHeader};
use ringkv_wire::status::Status;
use std::collections::BTreeMap;

/// Incomplete messages that one connection may hold, bytes.
const PARTIAL_BYTES: usize = 2 * limits::MESSAGE_BYTES_MAX;
/// Above this many unsent bytes a connection's requests are refused.
pub(super) const BACKLOG_BUSY_BYTES: usize = 8 << 20;

/// Room for answers that a connection is given before they are known.
const OUT_BYTES_KEPT: usize = 256 << 10;

/// One connection that said a proper hello.
pub(super) struct Conn {
    role: Role,
    /// The store at the other end (stores only).
    peer: StoreId,
    decoder: Decoder,
    out: Vec<u8>,
    /// How long it was in the last turn that sent something: the next one will be like it.
    last_out: usize,
    /// Requests not yet answered.
    pub(super) inflight: usize,
    /// Waits until the peer's incarnation is durable; frames before that break the protocol.
    greeting: bool,
}

/// All connections.
#[derive(Default)]
pub(super) struct Conns {
    open: BTreeMap<ConnId, Conn>,
    unsent: Vec<ConnId>,
}

impl Conn {
    /// What the turn sends on it; its first use in a turn puts it into the list of those with something to send.
    fn out(&mut self, conn: ConnId, unsent: &mut Vec<ConnId>) -> &mut Vec<u8> {
        if self.out.is_empty() {
            self.out.reserve(self.last_out.min(OUT_BYTES_KEPT));
            unsent.push(conn);
        }
        &mut self.out
    }
}

impl Conns {
    /// Appends a message to what the turn sends on `conn`, as the answer to one request.
    pub(super) fn answer(&mut self, conn: ConnId, frames: &[u8]) {
        let Some(open) = self.open.get_mut(&conn) else { return };
        open.inflight = open.inflight.saturating_sub(1);
        self.send(conn, frames);
    }

    /// Appends bytes to what the turn sends on `conn`.
    pub(super) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(out) = self.open.get_mut(&conn).map(|open| open.out(conn, &mut self.unsent)) {
            out.extend_from_slice(bytes);
        }
    }

    /// The buffer of a connection, to encode an answer into it.
    pub(super) fn buffer(&mut self, conn: ConnId) -> Option<&mut Vec<u8>> {
        let open = self.open.get_mut(&conn)?;
        open.inflight = open.inflight.saturating_sub(1);
        Some(open.out(conn, &mut self.unsent))
    }

    /// [`Conns::buffer`] was asked for too soon: the answer comes later.
    pub(super) fn unanswered(&mut self, conn: ConnId) {
        if let Some(open) = self.open.get_mut(&conn) {
            open.inflight += 1;
        }
    }

    /// Sends what the turn gathered. The host closes connections whose other side does not read.
    pub(super) fn flush<H: Host>(&mut self, host: &H) {
        for conn in self.unsent.drain(..) {
            let Some(open) = self.open.get_mut(&conn) else { continue };
            if !open.out.is_empty() {
                open.last_out = open.out.len();
                host.send(conn, Bytes::from(std::mem::take(&mut open.out)));
            }
        }
    }

    /// Bytes of answers that a connection has not taken yet.
    pub(super) fn unread_bytes<H: Host>(&self, host: &H, conn: ConnId) -> usize {
        host.backlog_bytes(conn) + self.open.get(&conn).map_or(0, |open| open.out.len())
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The most requests that a connection waits for, and the most bytes that one has not taken.
    pub(super) fn fullest<H: Host>(&self, host: &H) -> (usize, usize) {
        let each = self.open.iter().map(|(conn, open)| (open.inflight, host.backlog_bytes(*conn) + open.out.len()));
        each.fold((0, 0), |most, each| (most.0.max(each.0), most.1.max(each.1)))
    }

    fn forget(&mut self, conn: ConnId) {
        self.open.remove(&conn);
        self.unsent.retain(|&c| c != conn);
    }
}

impl<H: Host> Store<H> {
    pub(super) fn net_event(&mut self, now: Now, event: NetEvent) {
        match event {
            NetEvent::Opened { conn, hello, inbound: true } => self.greet(conn, &hello),
            NetEvent::Opened { conn, hello, inbound: false } => self.link_opened(now, conn, &hello),
            NetEvent::Received { conn, bytes } => self.received(now, conn, bytes),
            NetEvent::Closed { conn } => {
                self.conns.forget(conn);
                self.links.closed(now, conn, self.host.random());
            }
        }
    }

    fn my_hello(&self, answer: Answer) -> Hello {
        Hello {
            cluster: self.config.map.cluster,
            role: Role::Store,
            answer,
            from: self.config.id,
            incarnation: self.config.incarnation,
            epoch: self.config.map.epoch,
            settings: self.config.map.settings_digest(),
            ..Hello::client(Default::default(), Default::default())
        }
    }

    fn greet(&mut self, conn: ConnId, hello: &Hello) {
        let answer = self.judge(hello);
        if answer != Answer::Welcome {
            tracing::warn!(?conn, ?answer, from = %hello.from, role = ?hello.role, "connection refused");
            self.host.send(conn, Bytes::copy_from_slice(&self.my_hello(answer).encode()));
            self.host.close(conn);
            return;
        }
        let fresh = hello.role == Role::Store && !self.known_durably.contains(&hello.from);
        let decoder = Decoder::new(PARTIAL_BYTES);
        let peer = hello.from;
        let open = Conn { role: hello.role, peer, decoder, out: Vec::new(), last_out: 0, inflight: 0, greeting: fresh };
        self.conns.open.insert(conn, open);
        if fresh {
            // Welcome only when a wiped copy of that store could no longer pass for it.
            self.remember(hello.from, hello.incarnation, conn);
        } else {
            self.welcome(conn);
        }
    }

    fn judge(&self, hello: &Hello) -> Answer {
        let me = self.config.id;
        let wrong_cluster = hello.cluster != self.config.map.cluster;
        if !hello.speaks() {
            return Answer::Version;
        }
        if wrong_cluster && (hello.cluster != Default::default() || hello.role == Role::Store) {
            return Answer::WrongCluster;
        }
        let wrong_node = hello.wanted.node.0 != 0 && hello.wanted.node != me.node;
        let wrong_store = hello.wanted.store != ANY_STORE && hello.wanted.store != me.store;
        if wrong_node || (wrong_store && hello.wanted.node.0 != 0) {
            return Answer::WrongStore;
        }
        if hello.role == Role::Store {
            if hello.settings != self.config.map.settings_digest() {
                return Answer::Settings;
            }
            if !self.links.has(hello.from) || hello.incarnation == Incarnation(0) {
                return Answer::Stranger;
            }
            if self.known.get(&hello.from).is_some_and(|&known| known != hello.incarnation) {
                return Answer::Stranger;
            }
        }
        Answer::Welcome
    }

    fn welcome(&mut self, conn: ConnId) {
        self.host.send(conn, Bytes::copy_from_slice(&self.my_hello(Answer::Welcome).encode()));
    }

    /// Records under which incarnation a store is known; answers on `conn` once that is durable.
    pub(super) fn remember(&mut self, store: StoreId, incarnation: Incarnation, conn: ConnId) {
        self.known.insert(store, incarnation);
        let commit = self.log.commit(vec![Record::Peer { store, incarnation }]);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = commit.await;
            mailbox.post(Done::PeerKnown { conn, store, result });
        });
    }

    pub(super) fn peer_known(
        &mut self,
        conn: ConnId,
        store: StoreId,
        result: Result<(), ringkv_storage::error::StorageError>,
    ) {
        if let Err(error) = result {
            let now = self.host.now();
            self.fail(now, error);
            self.host.close(conn);
            return;
        }
        self.known_durably.insert(store);
        if self.link_known(conn) {
            return;
        }
        if let Some(open) = self.conns.open.get_mut(&conn) {
            open.greeting = false;
            self.welcome(conn);
        }
    }

    fn received(&mut self, now: Now, conn: ConnId, bytes: Bytes) {
        let Some(open) = self.conns.open.get_mut(&conn) else {
            self.counters.stale_received += 1;
            return;
        };
        if open.greeting {
            self.host.close(conn);
            return;
        }
        open.decoder.take_in(bytes);
        loop {
            let Some(open) = self.conns.open.get_mut(&conn) else { return };
            match open.decoder.next() {
                Ok(None) => return,
                Ok(Some(message)) => self.message(now, conn, message),
                Err(error) => {
                    tracing::warn!(?conn, %error, "closed: it breaks the protocol");
                    self.counters.bad_frames += 1;
                    self.conns.forget(conn);
                    self.host.close(conn);
                    return;
                }
            }
        }
    }

    fn message(&mut self, now: Now, conn: ConnId, message: Message) {
        let Some(open) = self.conns.open.get_mut(&conn) else { return };
        let (role, peer) = (open.role, open.peer);
        let asker = Asker { conn, id: message.id, since_ns: now.boot_ns };
        match (message.kind, role) {
            (Kind::Peer, Role::Store) => self.peer_messages(now, conn, peer, message.body),
            (Kind::Snapshot, Role::Store) => self.snapshot_message(now, conn, peer, message.body),
            (Kind::Write | Kind::Read | Kind::Map | Kind::Status, _) => {
                open.inflight += 1;
                let busy = open.inflight > self.config.budgets.inflight_requests
                    || self.host.backlog_bytes(conn) + open.out.len() > BACKLOG_BUSY_BYTES;
                match message.kind {
                    _ if busy => self.refuse(asker, Status::Busy),
                    Kind::Write => self.write(now, asker, message.body),
                    Kind::Read => self.read(asker, message.body),
                    Kind::Map => self.map_wanted(asker, message.body),
                    _ => self.status_wanted(asker),
                }
            }
            _ => {
                tracing::warn!(?conn, kind = ?message.kind, "closed: not a message for this store from such a peer");
                self.conns.forget(conn);
                self.host.close(conn);
            }
        }
    }

    /// Refuses a message as a whole, without a shard.
    pub(super) fn refuse(&mut self, asker: Asker, status: Status) {
        self.refuse_with(asker, self.header(None, status));
    }

    pub(super) fn refuse_with(&mut self, asker: Asker, header: StatusHeader) {
        self.counters.refused += 1;
        match header.status {
            Status::NotLeader => self.counters.redirects += 1,
            Status::Busy => self.counters.busy += 1,
            Status::DiskFull => self.counters.disk_full_refused += 1,
            Status::Unknown => self.counters.unknown += 1,
            _ => {}
        }
        let mut body = Vec::with_capacity(STATUS_HEADER_BYTES);
        // A read may be refused as late as at its answer.
        StatusHeader { store_us: 0, ..header }.encode(0, &mut body);
        if let Some(out) = self.conns.buffer(asker.conn) {
            frame::encode(Kind::Refused, asker.id, &body, out);
        }
    }

    /// A status header of this store, about one of its shards.
    pub(super) fn header(&self, slot: Option<usize>, status: Status) -> StatusHeader {
        let mut header = StatusHeader {
            shard: Default::default(),
            generation: Default::default(),
            status,
            level: 0,
            leader: None,
            epoch: self.config.map.epoch,
            log_time_ms: 0,
            index: 0,
            store_us: 0,
        };
        if let Some(replica) = slot.and_then(|slot| self.replicas.get(slot)) {
            header.shard = replica.shard;
            header.generation = replica.generation;
            header.leader = replica.raft.leader();
            // A follower does not know what the leader would stamp now.
            if replica.raft.role() == raft::Role::Leader {
                header.log_time_ms = replica.raft.log_time_now(self.host.now());
            }
            header.index = replica.applied;
        }
        header
    }

    fn map_wanted(&mut self, asker: Asker, body: Bytes) {
        let epoch = body.get(..8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes);
        let mut reply = Vec::with_capacity(STATUS_HEADER_BYTES + self.map_bytes.len());
        self.header(None, Status::Ok).encode(0, &mut reply);
        if epoch < self.config.map.epoch {
            reply.extend_from_slice(&self.map_bytes);
        }
        if let Some(out) = self.conns.buffer(asker.conn) {
            frame::encode(Kind::MapReply, asker.id, &reply, out);
        }
    }
}
