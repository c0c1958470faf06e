//! A connection to each store, opened again when it has ended.

use crate::host::VirtualHost;
use bytes::Bytes;
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_wire::frame::{self, Decoder, Message};
use ringkv_wire::hello::{Answer, Hello};
use ringkv_wire::ids::{ClientId, StoreId};
use ringkv_wire::limits::MESSAGE_BYTES_MAX;
use ringkv_wire::ring::topology::ClusterMap;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How long after a connection has ended it is opened again, ns.
const AGAIN_NS: u64 = 100_000_000;

struct Link {
    address: SocketAddr,
    conn: Option<ConnId>,
    open: bool,
    /// When to connect, boot time, ns.
    due_ns: u64,
    decoder: Decoder,
}

/// All connections of a client.
pub struct Links {
    host: VirtualHost,
    me: ClientId,
    links: BTreeMap<StoreId, Link>,
}

impl Links {
    /// None is open yet.
    pub fn new(host: VirtualHost, map: &ClusterMap, me: ClientId) -> Links {
        let mut links = BTreeMap::new();
        for node in &map.nodes {
            for (store, &address) in (0..).zip(&node.stores) {
                let decoder = Decoder::new(MESSAGE_BYTES_MAX);
                let link = Link { address, conn: None, open: false, due_ns: 0, decoder };
                links.insert(StoreId { node: node.id, store }, link);
            }
        }
        Links { host, me, links }
    }

    /// Connects to those to whom it is time to connect. When it is time for others, boot time, ns.
    pub fn connect(&mut self) -> u64 {
        let (now_ns, mut next_ns) = (self.host.now().boot_ns, u64::MAX);
        for (&store, link) in self.links.iter_mut().filter(|(_, link)| link.conn.is_none()) {
            if link.due_ns <= now_ns {
                link.conn = Some(self.host.connect(link.address, Hello::client(self.me, store)));
            } else {
                next_ns = next_ns.min(link.due_ns);
            }
        }
        next_ns
    }

    /// Takes an event; gives the messages that it completes.
    pub fn hear(&mut self, event: NetEvent) -> Vec<Message> {
        let (NetEvent::Opened { conn, .. } | NetEvent::Received { conn, .. } | NetEvent::Closed { conn }) = event;
        let mut messages = Vec::new();
        let Some(link) = self.links.values_mut().find(|link| link.conn == Some(conn)) else { return messages };
        match event {
            NetEvent::Opened { hello, .. } => link.open = hello.answer == Answer::Welcome,
            NetEvent::Received { bytes, .. } => {
                link.decoder.feed(&bytes);
                while let Some(message) = link.decoder.next().expect("nothing on these links is altered") {
                    messages.push(message);
                }
            }
            NetEvent::Closed { .. } => {
                (link.conn, link.open) = (None, false);
                link.due_ns = self.host.now().boot_ns + AGAIN_NS;
                link.decoder = Decoder::new(MESSAGE_BYTES_MAX);
            }
        }
        messages
    }

    /// Whether there is a connection to this store.
    pub fn reach(&self, store: StoreId) -> bool {
        self.links.get(&store).is_some_and(|link| link.open)
    }

    /// Sends a message to a store that is reached.
    pub fn send(&self, store: StoreId, kind: frame::Kind, id: u64, body: &[u8]) {
        let mut out = Vec::new();
        frame::encode(kind, id, body, &mut out);
        if let Some(conn) = self.links.get(&store).and_then(|link| link.conn) {
            self.host.send(conn, Bytes::from(out));
        }
    }
}
