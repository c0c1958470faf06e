//! Links to the stores with which this one shares a shard: one for control, one for bulk, each opened by its sender.

use super::{Done, Store};
use crate::config::StoreConfig;
use crate::host::{ConnId, Host};
use bytes::Bytes;
use ringkv_core::raft::Input;
use ringkv_storage::error::StorageError;
use ringkv_storage::wal::Record;
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::hello::{Answer, Hello, Link, Role};
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::limits;
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use std::collections::BTreeMap;

/// First wait after a failed connection, ns; doubled up to the longest.
const RETRY_FIRST_NS: u64 = 20_000_000;
const RETRY_LONGEST_NS: u64 = 500_000_000;
/// Above this many unsent bytes a link takes no entries: Raft sends them again. Votes and heartbeats must not wait behind
/// more than that.
const LINK_BACKLOG_BYTES: usize = 1 << 20;
/// Above this many unsent bytes a bulk link takes nothing.
const BULK_BACKLOG_BYTES: usize = 16 << 20;
/// Messages of one frame are gathered up to this.
const GATHER_BYTES: usize = limits::FRAME_BYTES_MAX - frame::FRAME_HEADER_BYTES;

enum State {
    Down { retry_ns: u64 },
    Opening { conn: ConnId },
    Up { conn: ConnId },
}

struct Lane {
    state: State,
    failures: u32,
    /// It had too much unsent when last looked at.
    congested: bool,
    /// Encoded peer messages of this turn.
    gathered: Vec<u8>,
    out: Vec<u8>,
}

/// Links to all peers.
pub(super) struct Links {
    lanes: BTreeMap<(StoreId, Link), Lane>,
    /// When the next connection is tried, boot ns.
    next_ns: u64,
    /// Peers that welcomed this store, so that they know its incarnation.
    welcomed: Vec<StoreId>,
    peers: Vec<StoreId>,
}

impl Links {
    pub(super) fn new(peers: &[StoreId], now: Now) -> Links {
        let lane = || Lane {
            state: State::Down { retry_ns: now.boot_ns },
            failures: 0,
            congested: false,
            gathered: Vec::new(),
            out: Vec::new(),
        };
        let lanes = peers.iter().flat_map(|&p| [((p, Link::Control), lane()), ((p, Link::Bulk), lane())]).collect();
        Links { lanes, next_ns: now.boot_ns, welcomed: Vec::new(), peers: peers.to_vec() }
    }

    pub(super) fn has(&self, peer: StoreId) -> bool {
        self.peers.contains(&peer)
    }

    pub(super) fn is_up(&self, peer: StoreId) -> bool {
        self.lanes.get(&(peer, Link::Control)).is_some_and(|lane| matches!(lane.state, State::Up { .. }))
    }

    /// When the next connection is tried, boot ns.
    pub(super) fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Opens what is down and due.
    pub(super) fn tick<H: Host>(&mut self, now: Now, host: &H, config: &StoreConfig) {
        if now.boot_ns < self.next_ns {
            return;
        }
        self.next_ns = u64::MAX;
        for (&(peer, link), lane) in &mut self.lanes {
            let State::Down { retry_ns } = lane.state else { continue };
            let Some(address) = config.map.address(peer) else { continue };
            if retry_ns > now.boot_ns {
                self.next_ns = self.next_ns.min(retry_ns);
                continue;
            }
            let hello = Hello {
                cluster: config.map.cluster,
                role: Role::Store,
                link,
                from: config.id,
                incarnation: config.incarnation,
                epoch: config.map.epoch,
                settings: config.map.settings_digest(),
                ..Hello::client(Default::default(), peer)
            };
            lane.state = State::Opening { conn: host.connect(address, hello) };
        }
    }

    fn lane_of(&mut self, conn: ConnId) -> Option<(StoreId, &mut Lane)> {
        let of = |lane: &Lane| match lane.state {
            State::Opening { conn: c } | State::Up { conn: c } => c == conn,
            State::Down { .. } => false,
        };
        self.lanes.iter_mut().find(|(_, lane)| of(lane)).map(|(&(peer, _), lane)| (peer, lane))
    }

    /// A connection is gone; when it was a link it is tried again later.
    pub(super) fn closed(&mut self, now: Now, conn: ConnId, random: u64) {
        let Some((_, lane)) = self.lane_of(conn) else { return };
        let wait = (RETRY_FIRST_NS << lane.failures.min(5)).min(RETRY_LONGEST_NS);
        lane.failures = lane.failures.saturating_add(1);
        lane.congested = false;
        let retry_ns = now.boot_ns + wait / 2 + random % (wait / 2);
        lane.state = State::Down { retry_ns };
        lane.gathered.clear();
        lane.out.clear();
        self.next_ns = self.next_ns.min(retry_ns);
    }

    /// Queues a Raft message. When the link is down or full it is dropped, as the network might.
    pub(super) fn send(&mut self, to: StoreId, message: &PeerMessage) {
        let Some(lane) = self.lanes.get_mut(&(to, Link::Control)) else { return };
        if !matches!(lane.state, State::Up { .. }) || (lane.congested && brings_entries(&message.body)) {
            return;
        }
        if !lane.gathered.is_empty() && lane.gathered.len() + message.encoded_bytes() > GATHER_BYTES {
            lane.close_frame();
        }
        message.encode(&mut lane.gathered);
    }

    /// Queues a whole message on the bulk link; `false` when it is down.
    pub(super) fn send_bulk(&mut self, to: StoreId, kind: Kind, body: &[u8]) -> bool {
        let Some(lane) = self.lanes.get_mut(&(to, Link::Bulk)) else { return false };
        if !matches!(lane.state, State::Up { .. }) || lane.congested {
            return false;
        }
        frame::encode(kind, 0, body, &mut lane.out);
        true
    }

    /// Sends what the turn gathered.
    pub(super) fn flush<H: Host>(&mut self, host: &H) {
        for (&(_, link), lane) in &mut self.lanes {
            lane.close_frame();
            let State::Up { conn } = lane.state else { continue };
            if !lane.out.is_empty() {
                host.send(conn, Bytes::from(std::mem::take(&mut lane.out)));
            } else if !lane.congested {
                continue;
            }
            let most = if link == Link::Bulk { BULK_BACKLOG_BYTES } else { LINK_BACKLOG_BYTES };
            lane.congested = host.backlog_bytes(conn) > most;
        }
    }
}

fn brings_entries(body: &PeerBody) -> bool {
    matches!(body, PeerBody::Append { entries, .. } if !entries.is_empty())
}

impl Lane {
    fn close_frame(&mut self) {
        if !self.gathered.is_empty() {
            frame::encode(Kind::Peer, 0, &self.gathered, &mut self.out);
            self.gathered.clear();
        }
    }
}

impl<H: Host> Store<H> {
    /// The other side answered our hello.
    pub(super) fn link_opened(&mut self, now: Now, conn: ConnId, hello: &Hello) {
        let Some((peer, _)) = self.links.lane_of(conn) else {
            self.host.close(conn);
            return;
        };
        let known = self.known.get(&peer).copied();
        let same = known.is_none_or(|known| known == hello.incarnation);
        if hello.answer != Answer::Welcome || hello.from != peer || !same {
            let answer = hello.answer;
            tracing::warn!(store = %self.config.id, %peer, ?answer, same, "link refused");
            self.host.close(conn);
            self.links.closed(now, conn, self.host.random());
            return;
        }
        if !self.known_durably.contains(&peer) {
            self.remember(peer, hello.incarnation, conn);
        } else {
            self.link_known(conn);
            self.ships.linked(now, peer);
        }
    }

    /// The link's other side is known and durable here. `false` when `conn` is no link.
    pub(super) fn link_known(&mut self, conn: ConnId) -> bool {
        let Some((peer, lane)) = self.links.lane_of(conn) else { return false };
        lane.state = State::Up { conn };
        lane.failures = 0;
        if !self.links.welcomed.contains(&peer) {
            self.links.welcomed.push(peer);
        }
        self.admit();
        true
    }

    /// Once every peer has recorded this store's incarnation it may vote; that is recorded first.
    fn admit(&mut self) {
        let all = self.links.peers.iter().all(|p| self.links.welcomed.contains(p));
        if self.admitted || self.admitting || !all {
            return;
        }
        self.admitting = true;
        let commit = self.log.commit(vec![Record::Admitted]);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let result = commit.await;
            mailbox.post(Done::Admitted { result });
        });
    }

    pub(super) fn admission_recorded(&mut self, now: Now, result: Result<(), StorageError>) {
        match result {
            Ok(()) => {
                tracing::info!(store = %self.config.id, "every peer knows this store: it takes part");
                self.admitted = true;
                self.counters.admitted += 1;
            }
            Err(error) => self.fail(now, error),
        }
    }

    /// Raft messages of one frame.
    pub(super) fn peer_messages(&mut self, now: Now, conn: ConnId, from: StoreId, body: Bytes) {
        let messages = match PeerMessage::decode_all(body) {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(%from, %error, "closed: a peer's message cannot be read");
                self.counters.bad_frames += 1;
                self.host.close(conn);
                return;
            }
        };
        if !self.admitted || self.failed.is_some() {
            return;
        }
        let full = self.disk_full || self.memory_full();
        for message in messages {
            let Some(slot) = self.slot(message.shard) else { continue };
            let brings = brings_entries(&message.body);
            let unfit = self.disk_full || (self.replicas[slot].repair.is_damaged() && self.has_peers(slot));
            if unfit && message.body == PeerBody::TimeoutNow {
                continue; // It could not append a leader's first entry, or not answer reads.
            }
            if brings && (full || self.log_behind()) {
                continue; // The leader sends it again.
            }
            let replica = &self.replicas[slot];
            if replica.generation != message.generation || replica.installing {
                continue;
            }
            if let PeerBody::Append { entries, .. } = &message.body {
                self.taken_bytes += entries.iter().map(|entry| entry.encoded_bytes()).sum::<usize>();
            }
            self.step(slot, now, Input::Message { from, term: message.term, body: message.body });
        }
    }
}
