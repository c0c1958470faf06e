//! Where the cluster map comes from: seeds at first, any store later.

use super::Session;
use super::requests::{Request, What};
use crate::call::CallId;
use crate::calls::Slot;
use crate::conns::ConnKey;
use crate::error::Error;
use crate::retry::backoff_ns;
use ringkv_wire::codec::WireError;
use ringkv_wire::frame::Kind;
use ringkv_wire::hello::{ANY_STORE, Hello};
use ringkv_wire::ids::{KeyspaceId, NodeId, Now, StoreId};
use ringkv_wire::msg::node;
use ringkv_wire::ring::topology::ClusterMap;
use ringkv_wire::status::Status;
use std::sync::Arc;

/// Seeds asked at the same time.
const SEEDS_AT_ONCE: usize = 3;
/// A refresh that brought nothing new is not repeated before this, ns.
const REFRESH_NS: u64 = 50_000_000;

/// The map is doubted for the sake of an unreachable store no more often than this, ns.
const DOUBT_NS: u64 = 2_000_000_000;

/// The map, and how the next one is sought.
pub(crate) struct MapState {
    pub current: Option<Arc<ClusterMap>>,
    wanted: bool,
    /// The current one may be wrong though no newer epoch is known: ask as one who has none.
    doubted: bool,
    /// Not doubted again before this, ns.
    doubt_ns: u64,
    /// Not before this, ns.
    retry_ns: u64,
    failures: u32,
    next_seed: usize,
    asking: bool,
}

impl MapState {
    pub fn new(now: Now, random: u64) -> MapState {
        MapState {
            current: None,
            wanted: true,
            doubted: false,
            doubt_ns: 0,
            retry_ns: now.boot_ns,
            failures: 0,
            next_seed: random as u32 as usize,
            asking: false,
        }
    }

    /// Something points to a newer map.
    pub fn want(&mut self, wanted: bool) {
        self.wanted |= wanted;
    }

    /// A store of the map cannot be reached: perhaps it has another address now.
    pub fn unreachable(&mut self, now: Now) {
        if !self.wanted && now.boot_ns >= self.doubt_ns {
            (self.wanted, self.doubted) = (true, true);
            self.doubt_ns = now.boot_ns + DOUBT_NS;
        }
    }

    /// A connection to a seed came to nothing.
    pub fn seed_lost(&mut self, now: Now, random: u64) {
        self.failures += 1;
        self.retry_ns = now.boot_ns + backoff_ns(self.failures, random);
    }

    /// When there is something to do.
    pub fn due_ns(&self) -> u64 {
        if self.wanted && !self.asking { self.retry_ns } else { u64::MAX }
    }
}

impl Session {
    /// Asks for a map when one is wanted: an open connection if there is one, else seeds.
    pub(super) fn seek_map(&mut self, now: Now) {
        if self.map.due_ns() > now.boot_ns {
            return;
        }
        if let Some(conn) = self.conns.any_open(self.chance.next()) {
            let known = self.map.current.as_ref().filter(|_| !self.map.doubted);
            let mut body = Vec::new();
            node::encode_map_request(known.map_or(0, |m| m.epoch), &mut body);
            self.map.asking = true;
            self.stats.map_refetches += u64::from(self.map.current.is_some());
            self.send_request(now, Request::new(conn, now, What::Map), Kind::Map, &body);
            return;
        }
        let under_way = self.conns.table.values().filter(|c| c.seed.is_some()).count();
        for _ in under_way..SEEDS_AT_ONCE.min(self.config.seeds.len()) {
            let seed = self.config.seeds[self.map.next_seed % self.config.seeds.len()];
            self.map.next_seed = self.map.next_seed.wrapping_add(1);
            let any = StoreId { node: NodeId(0), store: ANY_STORE };
            let hello = Hello::client(self.config.client, any);
            let key = self.conns.add(None, Some(seed), now.boot_ns + self.config.attempt_timeout_ms * 1_000_000);
            self.out.connect.push((key, seed, hello));
        }
        // What becomes of them wakes the session.
        self.map.retry_ns = now.boot_ns + self.config.attempt_timeout_ms * 1_000_000;
    }

    /// A seed has opened: ask it at once, unless another is being asked.
    pub(super) fn map_soon(&mut self, now: Now) {
        if self.map.wanted {
            self.map.retry_ns = now.boot_ns;
        }
    }

    /// A request for the map came to nothing.
    pub(super) fn map_failed(&mut self, now: Now) {
        self.map.asking = false;
        self.map.failures += 1;
        self.map.retry_ns = now.boot_ns + backoff_ns(self.map.failures, self.chance.next());
    }

    /// A reply to a request for the map.
    pub(super) fn map_reply(&mut self, now: Now, body: bytes::Bytes) -> Result<(), WireError> {
        let (header, map) = node::decode_map_reply(body)?;
        if header.status != Status::Ok || (map.is_none() && self.map.current.is_none()) {
            self.map_failed(now);
            return Ok(());
        }
        (self.map.asking, self.map.wanted, self.map.failures) = (false, false, 0);
        self.map.doubted = false;
        self.map.retry_ns = now.boot_ns + REFRESH_NS;
        let newer = |map: &ClusterMap| match &self.map.current {
            Some(current) => map.epoch >= current.epoch && map.cluster == current.cluster && *map != **current,
            None => true,
        };
        if let Some(map) = map.filter(newer) {
            self.adopt(now, map);
        }
        Ok(())
    }

    fn adopt(&mut self, now: Now, map: ClusterMap) {
        let map = Arc::new(map);
        self.route = map.shards.iter().map(|shard| self.shard_for(shard)).collect();
        self.finder = map.finder();
        self.map.current = Some(map.clone());
        self.answer_map_calls();
        self.reroute_gone();
        let seeds: Vec<ConnKey> = self.conns.table.iter().filter(|(_, c)| c.seed.is_some()).map(|(&k, _)| k).collect();
        seeds.into_iter().for_each(|key| self.keep_or_close_seed(key));
        // Connections to stores whose address is another now.
        let moved = |c: &crate::conns::Conn| c.store.is_some_and(|store| map.address(store).is_none());
        let gone: Vec<ConnKey> = self.conns.table.iter().filter(|(_, c)| moved(c)).map(|(&k, _)| k).collect();
        gone.into_iter().for_each(|key| self.drop_conn(now, key, crate::error::Cause::Disconnected));
        for item in std::mem::take(&mut self.unrouted) {
            self.route(item);
        }
    }

    pub(super) fn answer_map_calls(&mut self) {
        let Some(map) = &self.map.current else { return };
        for call in std::mem::take(&mut self.map_calls) {
            self.calls.settle(call, 0, Slot::Map(map.clone()));
        }
    }

    /// A seed's connection serves its store from now on, or is closed.
    pub(super) fn keep_or_close_seed(&mut self, key: ConnKey) {
        let Some(map) = &self.map.current else { return };
        let Some(conn) = self.conns.table.get_mut(&key) else { return };
        let known = conn.store.filter(|&store| conn.open && map.address(store).is_some());
        if let Some(store) = known {
            let reach = self.conns.stores.entry(store).or_default();
            if reach.conn.is_none() || reach.conn == Some(key) {
                reach.conn = Some(key);
                conn.seed = None;
                return;
            }
        }
        if conn.requests == 0 {
            self.conns.remove(key);
            self.out.close.push(key);
        }
    }

    /// The keyspace is not in the map: the call fails, and the map is asked for again.
    pub(super) fn no_keyspace(&mut self, call: CallId, at: u32, keyspace: KeyspaceId) {
        self.map.want(true);
        self.calls.settle(call, at, Slot::Failed(Error::NoKeyspace(format!("number {}", keyspace.0))));
    }
}
