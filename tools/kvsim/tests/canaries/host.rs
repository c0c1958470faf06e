//! A host that lets a flaw edit what passes: frames are opened, edited and closed again with right checksums.

use crate::disk::WrongDisk;
use crate::flaw::{Flaw, Life, Make};
use bytes::Bytes;
use kvsim::cluster::Runner;
use kvsim::host::VirtualHost;
use ringkv_shard::config::{Control, StoreConfig};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_wire::frame::{Decoder, Kind, Message, encode};
use ringkv_wire::hello::{Hello, Link, Role};
use ringkv_wire::ids::{Now, StoreId};
use ringkv_wire::msg::peer::PeerMessage;
use ringkv_wire::msg::snapshot::SnapshotMessage;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

/// The shipped store, on a host with these flaws.
pub fn wrong(make: Make) -> Runner {
    Rc::new(move |host: VirtualHost, config: StoreConfig, control: Control| {
        let life = Life { host: host.clone(), config: config.clone() };
        let flaw = make(&life);
        let disk = WrongDisk::new(host.clone(), flaw.syncs());
        let inner = Inner { host, disk, flaw, conns: RefCell::default(), kept: RefCell::default() };
        Box::pin(ringkv_shard::store::run(WrongHost(Rc::new(inner)), config, control))
    })
}

/// One connection, as its bytes tell.
struct Wire {
    /// The store at the other side.
    peer: Option<StoreId>,
    /// Messages of the other side may be forged here.
    control: bool,
    /// The hello has left, where this side answers one.
    greeted: bool,
    incoming: Decoder,
    outgoing: Decoder,
}

impl Wire {
    fn new(hello: &Hello, inbound: bool) -> Wire {
        let peer = (!inbound || hello.role == Role::Store).then_some(hello.from);
        let control = inbound && peer.is_some() && hello.link == Link::Control;
        let decoder = || Decoder::new(256 << 20);
        Wire { peer, control, greeted: !inbound, incoming: decoder(), outgoing: decoder() }
    }
}

/// More bytes than a frame's header, and none.
const NO_FRAME: [u8; 64] = [0xff; 64];

struct Inner {
    host: VirtualHost,
    disk: WrongDisk,
    flaw: Rc<dyn Flaw>,
    conns: RefCell<BTreeMap<ConnId, Wire>>,
    /// What peers sent, kept from the store for a turn.
    kept: RefCell<Vec<NetEvent>>,
}

/// A virtual host with a flaw. Clones are cheap.
#[derive(Clone)]
pub struct WrongHost(Rc<Inner>);

/// The messages that `bytes` complete; `None`: these are no frames (a link may alter a byte).
fn whole(decoder: &mut Decoder, bytes: &[u8]) -> Option<Vec<Message>> {
    decoder.feed(bytes);
    let mut messages = Vec::new();
    while let Some(message) = decoder.next().ok()? {
        messages.push(message);
    }
    Some(messages)
}

fn peers_of(body: &Bytes) -> Vec<PeerMessage> {
    PeerMessage::decode_all(body.clone()).expect("peers speak the protocol")
}

fn frame_of(messages: &[PeerMessage], out: &mut Vec<u8>) {
    let mut body = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut body));
    if !body.is_empty() {
        encode(Kind::Peer, 0, &body, out);
    }
}

impl Inner {
    fn heard(&self, peer: Option<StoreId>, mut message: Message, out: &mut Vec<u8>) {
        match (message.kind, peer) {
            (Kind::Peer, Some(from)) => {
                let mut messages = peers_of(&message.body);
                self.flaw.heard(from, &mut messages);
                return frame_of(&messages, out);
            }
            (Kind::Write | Kind::Read, None) => self.flaw.asked(&mut message),
            _ => {}
        }
        encode(message.kind, message.id, &message.body, out);
    }

    fn said(&self, peer: Option<StoreId>, mut message: Message, out: &mut Vec<u8>) {
        match (message.kind, peer) {
            (Kind::Peer, Some(to)) => {
                let mut messages = peers_of(&message.body);
                self.flaw.said(to, &mut messages);
                return frame_of(&messages, out);
            }
            (Kind::Snapshot, Some(_)) => {
                let mut ship = SnapshotMessage::decode(message.body).expect("peers speak the protocol");
                self.flaw.shipped(&mut ship);
                let mut body = Vec::new();
                ship.encode(&mut body);
                message.body = Bytes::from(body);
            }
            _ => {}
        }
        encode(message.kind, message.id, &message.body, out);
    }

    /// An event as the store is to see it; none when a message is not yet whole.
    fn event(&self, event: NetEvent) -> Option<NetEvent> {
        let mut conns = self.conns.borrow_mut();
        match event {
            NetEvent::Opened { conn, hello, inbound } => {
                conns.insert(conn, Wire::new(&hello, inbound));
                Some(event)
            }
            NetEvent::Closed { conn } => {
                conns.remove(&conn);
                Some(event)
            }
            NetEvent::Received { conn, bytes } => {
                let Some(wire) = conns.get_mut(&conn) else { return Some(NetEvent::Received { conn, bytes }) };
                let (peer, mut out) = (wire.peer, Vec::new());
                let Some(messages) = whole(&mut wire.incoming, &bytes) else {
                    // The store is to see it for itself, and ends the connection.
                    return Some(NetEvent::Received { conn, bytes: Bytes::from_static(&NO_FRAME) });
                };
                messages.into_iter().for_each(|message| self.heard(peer, message, &mut out));
                (!out.is_empty()).then(|| NetEvent::Received { conn, bytes: Bytes::from(out) })
            }
        }
    }

    fn is_clients(&self, event: &NetEvent) -> bool {
        let (NetEvent::Opened { conn, .. } | NetEvent::Received { conn, .. } | NetEvent::Closed { conn }) = event;
        self.conns.borrow().get(conn).is_some_and(|wire| wire.peer.is_none())
    }

    /// A message as if it had come from `from`, when a connection of that store is open.
    fn forge(&self, from: StoreId, message: &PeerMessage) -> Option<NetEvent> {
        let conns = self.conns.borrow();
        let open = conns.iter().find(|(_, wire)| wire.control && wire.greeted && wire.peer == Some(from));
        let (&conn, _) = open?;
        let mut out = Vec::new();
        frame_of(std::slice::from_ref(message), &mut out);
        Some(NetEvent::Received { conn, bytes: Bytes::from(out) })
    }
}

impl Host for WrongHost {
    type Disk = WrongDisk;

    fn disk(&self) -> WrongDisk {
        self.0.disk.clone()
    }

    fn now(&self) -> Now {
        self.0.flaw.now(self.0.host.now())
    }

    fn random(&self) -> u64 {
        self.0.host.random()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.host.spawn(task);
    }

    fn connect(&self, to: SocketAddr, hello: Hello) -> ConnId {
        self.0.host.connect(to, hello)
    }

    fn send(&self, conn: ConnId, bytes: Bytes) {
        let mut out = Vec::new();
        {
            let mut conns = self.0.conns.borrow_mut();
            let Some(wire) = conns.get_mut(&conn).filter(|wire| wire.greeted) else {
                if let Some(wire) = conns.get_mut(&conn) {
                    wire.greeted = true;
                }
                return self.0.host.send(conn, bytes);
            };
            let peer = wire.peer;
            let messages = whole(&mut wire.outgoing, &bytes).expect("a store speaks the protocol");
            messages.into_iter().for_each(|message| self.0.said(peer, message, &mut out));
        }
        self.0.host.send(conn, Bytes::from(out));
    }

    fn backlog_bytes(&self, conn: ConnId) -> usize {
        self.0.host.backlog_bytes(conn)
    }

    fn close(&self, conn: ConnId) {
        self.0.host.close(conn);
    }

    fn wake(&self) {
        self.0.host.wake();
    }

    async fn wait(&self, until_boot_ns: u64) {
        self.0.host.wait(self.0.flaw.wakes_ns(until_boot_ns)).await;
    }

    fn take_events(&self, out: &mut Vec<NetEvent>) {
        let inner = &self.0;
        let mut events = inner.kept.take();
        inner.host.take_events(&mut events);
        // A pause is told by the clock.
        inner.flaw.now(inner.host.now());
        if inner.flaw.peers_wait() {
            let (kept, now) = events.into_iter().partition(|event| !inner.is_clients(event));
            (*inner.kept.borrow_mut(), events) = (kept, now);
            inner.host.wake();
        }
        out.extend(events.into_iter().filter_map(|event| self.0.event(event)));
        let forged = self.0.flaw.forged();
        out.extend(forged.iter().filter_map(|(from, message)| self.0.forge(*from, message)));
    }
}
