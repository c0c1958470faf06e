//! Connections: who holds which end, how they come to be and end.

use super::patience::Unacked;
use super::{Machine, Quality};
use crate::dice::{Dice, Stream};
use crate::exec::{Executor, Group};
use bytes::{Bytes, BytesMut};
use ringkv_shard::host::{ConnId, NetEvent};
use ringkv_wire::hello::{Hello, Role};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// What a kernel takes from a sender before anything has arrived, bytes.
const KERNEL_BYTES: usize = 256 << 10;
/// How long a store's host reads on what it has closed, ns: a reset would overtake its last bytes.
const LINGER_NS: u64 = 1_000_000_000;

/// Who gets a connection's events: one store's host.
pub trait Port {
    /// Something happened.
    fn event(&self, event: NetEvent);
    /// The process it belongs to.
    fn group(&self) -> Group;
    /// The machine it runs on.
    fn machine(&self) -> Machine;
    /// How long its machine's `ns` last, in virtual time.
    fn lasts_ns(&self, ns: u64) -> u64;
}

/// One end of a connection, as its machine's kernel knows it.
pub struct End {
    pub machine: Machine,
    /// `None`: closed on this side, or its process died; what arrives is answered by a reset.
    pub port: Option<Rc<dyn Port>>,
    /// Until then no reset answers either, ns.
    pub silent_ns: u64,
    /// Closed, and until then what arrives is read and thrown away, ns.
    pub lingers_ns: u64,
    /// Closed, and the FIN has not left.
    pub fin: bool,
    pub queued: Vec<Bytes>,
    pub queued_bytes: usize,
    pub flying_bytes: usize,
    pub unacked: Unacked,
    pub last_arrival_ns: u64,
    /// Only on the side that connected: bytes of the answer until it is whole.
    pub hello: Option<BytesMut>,
}

impl End {
    pub fn new(port: Rc<dyn Port>, hello: Option<BytesMut>) -> End {
        End {
            machine: port.machine(),
            port: Some(port),
            silent_ns: 0,
            lingers_ns: 0,
            fin: false,
            queued: Vec::new(),
            queued_bytes: 0,
            flying_bytes: 0,
            unacked: Unacked::default(),
            last_arrival_ns: 0,
            hello,
        }
    }

    /// Forgets what has not left.
    pub fn drop_queue(&mut self) {
        self.queued.clear();
        self.queued_bytes = 0;
        self.unacked.nothing_is_queued();
    }

    /// Whether somebody takes what arrives.
    pub fn takes(&self, now_ns: u64) -> bool {
        self.port.is_some() || self.lingers_ns > now_ns
    }

    /// Whether its kernel knows of it: so it does as long as it has something to deliver.
    pub fn is_known(&self, now_ns: u64) -> bool {
        self.takes(now_ns) || self.fin || self.unacked.is_some()
    }
}

/// A connection, or one that is to be.
pub struct Conn {
    /// The side that connected, and the other one once it accepted.
    pub ends: [Option<End>; 2],
    pub to: SocketAddr,
    pub hello: Hello,
}

/// Who takes what arrives at an address.
pub struct Listener {
    pub group: Group,
    pub stores: BTreeMap<u16, Rc<dyn Port>>,
}

/// All there is.
pub struct State {
    pub conns: BTreeMap<u64, Conn>,
    pub next: u64,
    /// Ends with something that is to leave.
    pub dirty: Vec<(u64, usize)>,
    pub up: Vec<bool>,
    pub homes: BTreeMap<SocketAddr, Machine>,
    pub listeners: BTreeMap<SocketAddr, Listener>,
    pub cut: BTreeSet<(Machine, Machine)>,
    pub qualities: BTreeMap<(Machine, Machine), Quality>,
    pub usual: Quality,
}

/// The network's insides.
pub struct Inner {
    pub exec: Executor,
    pub dice: Dice,
    pub state: RefCell<State>,
}

/// A handle to the network. Clones are cheap.
#[derive(Clone)]
pub struct Net(pub(super) Rc<Inner>);

/// What a host calls its end.
pub fn conn_id(id: u64, side: usize) -> ConnId {
    ConnId(id * 2 + side as u64)
}

impl Net {
    /// A network without machines.
    pub fn new(exec: Executor, seed: u64, usual: Quality) -> Net {
        let state = State {
            conns: BTreeMap::new(),
            next: 1,
            dirty: Vec::new(),
            up: Vec::new(),
            homes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            cut: BTreeSet::new(),
            qualities: BTreeMap::new(),
            usual,
        };
        Net(Rc::new(Inner { exec, dice: Dice::new(seed, Stream::Net, 0), state: RefCell::new(state) }))
    }

    /// A new machine, up.
    pub fn machine(&self) -> Machine {
        let up = &mut self.0.state.borrow_mut().up;
        up.push(true);
        Machine(up.len() - 1)
    }

    /// A process listens at an address, for these stores.
    pub fn listen(&self, at: SocketAddr, group: Group, stores: impl IntoIterator<Item = (u16, Rc<dyn Port>)>) {
        let stores: BTreeMap<u16, Rc<dyn Port>> = stores.into_iter().collect();
        let mut state = self.0.state.borrow_mut();
        for port in stores.values() {
            state.homes.insert(at, port.machine());
        }
        state.listeners.insert(at, Listener { group, stores });
    }

    pub(super) fn later(&self, ns: u64, what: impl FnOnce(&Net) + 'static) {
        let net = self.clone();
        self.0.exec.at(self.0.exec.now_ns() + ns, move || what(&net));
    }

    /// One side is over at once: what has not left never does.
    pub(super) fn abort(&self, id: u64, side: usize) {
        if let Some(end) = self.0.state.borrow_mut().conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) {
            end.drop_queue();
            end.fin = false;
            end.unacked = Unacked::default();
        }
        self.end(id, side);
    }

    /// Tells one side that it is over.
    pub(super) fn end(&self, id: u64, side: usize) {
        let port = {
            let mut state = self.0.state.borrow_mut();
            let end = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut());
            end.and_then(|end| end.port.take())
        };
        if let Some(port) = port {
            self.0.exec.note(id << 1 | side as u64);
            port.event(NetEvent::Closed { conn: conn_id(id, side) });
        }
        self.forget(id);
    }

    /// Forgets a connection that nobody holds.
    pub(super) fn forget(&self, id: u64) {
        let mut state = self.0.state.borrow_mut();
        let over = |end: &Option<End>| end.as_ref().is_none_or(|end| end.port.is_none() && !end.fin);
        if state.conns.get(&id).is_some_and(|conn| conn.ends.iter().all(over)) {
            state.conns.remove(&id);
        }
    }

    /// A FIN is to leave behind what is queued.
    pub(super) fn finish(&self, id: u64, side: usize) {
        let mut state = self.0.state.borrow_mut();
        if let Some(end) = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut()) {
            end.fin = true;
            state.dirty.push((id, side));
        }
    }

    /// Queues bytes.
    pub fn send(&self, conn: ConnId, bytes: Bytes) {
        let (id, side) = (conn.0 / 2, (conn.0 % 2) as usize);
        let mut state = self.0.state.borrow_mut();
        let end = state.conns.get_mut(&id).and_then(|conn| conn.ends[side].as_mut());
        let Some(end) = end.filter(|end| end.port.is_some() && !end.fin) else { return };
        if bytes.is_empty() {
            return;
        }
        end.queued_bytes += bytes.len();
        end.queued.push(bytes);
        if end.queued.len() == 1 {
            state.dirty.push((id, side));
        }
    }

    /// Bytes queued and not yet taken by the kernel.
    pub fn backlog_bytes(&self, conn: ConnId) -> usize {
        let state = self.0.state.borrow();
        let end = state.conns.get(&(conn.0 / 2)).and_then(|c| c.ends[(conn.0 % 2) as usize].as_ref());
        end.map_or(0, |end| (end.queued_bytes + end.flying_bytes).saturating_sub(KERNEL_BYTES))
    }

    /// Closes after what is queued has left.
    pub fn close(&self, conn: ConnId) {
        let (id, side) = (conn.0 / 2, (conn.0 % 2) as usize);
        self.finish(id, side);
        if let Some(conn) = self.0.state.borrow_mut().conns.get_mut(&id)
            && (side == 1 || conn.hello.role == Role::Store)
            && let Some(end) = &mut conn.ends[side]
        {
            end.lingers_ns = self.0.exec.now_ns() + LINGER_NS;
        }
        self.later(1_000, move |net| net.end(id, side));
    }

    /// Connections that exist.
    pub fn connections(&self) -> usize {
        self.0.state.borrow().conns.len()
    }

    /// Forgets everything: breaks the circles of handles.
    pub fn clear(&self) {
        let mut state = self.0.state.borrow_mut();
        let (conns, listeners) = (std::mem::take(&mut state.conns), std::mem::take(&mut state.listeners));
        drop(state);
        drop((conns, listeners));
    }
}
