//! Connections: one per store, made when first needed, and a few to seeds until there is a map.

use ringkv_wire::frame::Decoder;
use ringkv_wire::ids::StoreId;
use ringkv_wire::limits;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A connection of this session. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnKey(pub u64);

/// One connection.
pub(crate) struct Conn {
    /// The store at the other end; for a seed known once it has said hello.
    pub store: Option<StoreId>,
    /// The seed's address, for a connection made to find a map.
    pub seed: Option<SocketAddr>,
    pub open: bool,
    /// A connect is given up after this, ns.
    pub connect_due_ns: u64,
    pub decoder: Decoder,
    pub requests: usize,
    pub bytes: usize,
    /// When bytes last came, ns.
    pub heard_ns: u64,
    /// Frames of this turn.
    pub out: Vec<u8>,
}

/// What is known of reaching a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reach {
    pub conn: Option<ConnKey>,
    /// Connects that failed in a row.
    pub failures: u32,
    /// No connect before this, ns.
    pub retry_ns: u64,
}

/// Whether requests can go to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open(ConnKey),
    /// A connect is under way.
    Coming,
    /// Not before this time, ns.
    Down(u64),
}

/// All connections of a session.
pub(crate) struct Conns {
    pub table: BTreeMap<ConnKey, Conn>,
    pub stores: BTreeMap<StoreId, Reach>,
    last: u64,
}

impl Conns {
    pub fn new() -> Conns {
        Conns { table: BTreeMap::new(), stores: BTreeMap::new(), last: 0 }
    }

    /// A connection under way.
    pub fn add(&mut self, store: Option<StoreId>, seed: Option<SocketAddr>, connect_due_ns: u64) -> ConnKey {
        self.last += 1;
        let key = ConnKey(self.last);
        // Replies in pieces: at most as many as requests are let out, each at most a message long; memory is taken as
        // bytes arrive.
        let decoder = Decoder::new(64 * limits::MESSAGE_BYTES_MAX);
        let conn = Conn {
            store,
            seed,
            open: false,
            connect_due_ns,
            decoder,
            requests: 0,
            bytes: 0,
            heard_ns: 0,
            out: Vec::new(),
        };
        self.table.insert(key, conn);
        if let Some(store) = store {
            self.stores.entry(store).or_default().conn = Some(key);
        }
        key
    }

    /// The way to a store as it is now; does not connect.
    pub fn way(&self, store: StoreId, now_ns: u64) -> Option<Way> {
        let reach = self.stores.get(&store)?;
        match reach.conn.and_then(|key| Some((key, self.table.get(&key)?))) {
            Some((key, conn)) if conn.open => Some(Way::Open(key)),
            Some(_) => Some(Way::Coming),
            None if now_ns < reach.retry_ns => Some(Way::Down(reach.retry_ns)),
            None => None,
        }
    }

    /// Whether a store could not be reached when last tried, and still is not.
    pub fn failing(&self, store: StoreId) -> bool {
        let Some(reach) = self.stores.get(&store) else { return false };
        let open = reach.conn.and_then(|key| self.table.get(&key)).is_some_and(|c| c.open);
        !open && reach.failures > 0
    }

    /// Any open connection; `spin` chooses among them.
    pub fn any_open(&self, spin: u64) -> Option<ConnKey> {
        let open: Vec<ConnKey> = self.table.iter().filter(|(_, c)| c.open).map(|(&k, _)| k).collect();
        open.get((spin % open.len().max(1) as u64) as usize).copied()
    }

    /// Takes a connection out of the tables.
    pub fn remove(&mut self, key: ConnKey) -> Option<Conn> {
        let conn = self.table.remove(&key)?;
        if let Some(reach) = conn.store.and_then(|store| self.stores.get_mut(&store)).filter(|r| r.conn == Some(key)) {
            reach.conn = None;
        }
        Some(conn)
    }

    pub fn next_connect_due_ns(&self) -> u64 {
        self.table.values().filter(|c| !c.open).map(|c| c.connect_due_ns).min().unwrap_or(u64::MAX)
    }
}
