//! Connections: who holds which end, what is queued, what is under way.

use super::{Machine, Quality};
use crate::dice::{Dice, Stream};
use crate::exec::{Executor, Group};
use bytes::{Bytes, BytesMut};
use ringkv_shard::host::{ConnId, NetEvent};
use ringkv_wire::hello::{ANY_STORE, HELLO_BYTES, Hello};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

/// How long a connection may take to come to be, ns: the SYN and the answering hello.
const OPEN_NS: u64 = 4_000_000_000;
/// Between two SYNs, ns.
const SYN_NS: u64 = 1_000_000_000;
/// What a kernel takes from a sender before anything has arrived, bytes.
const KERNEL_BYTES: usize = 256 << 10;

/// Who gets a connection's events: one store's host.
pub trait Port {
    /// Something happened.
    fn event(&self, event: NetEvent);
    /// The process it belongs to.
    fn group(&self) -> Group;
    /// The machine it runs on.
    fn machine(&self) -> Machine;
}

struct End {
    machine: Machine,
    /// `None`: closed on this side.
    port: Option<Rc<dyn Port>>,
    /// Closed by power loss: no FIN was sent.
    vanished: bool,
    /// Its process died: what arrives is answered by a reset.
    dead: bool,
    /// Until then not even a reset answers what is sent to a vanished end, ns.
    silent_ns: u64,
    /// Closed, and the FIN has not left.
    fin: bool,
    queued: Vec<Bytes>,
    queued_bytes: usize,
    flying_bytes: usize,
    last_arrival_ns: u64,
    /// Only on the side that connected: bytes of the answer until it is whole.
    hello: Option<BytesMut>,
}

impl End {
    fn new(port: Rc<dyn Port>, hello: Option<BytesMut>) -> End {
        End {
            machine: port.machine(),
            port: Some(port),
            vanished: false,
            dead: false,
            silent_ns: 0,
            fin: false,
            queued: Vec::new(),
            queued_bytes: 0,
            flying_bytes: 0,
            last_arrival_ns: 0,
            hello,
        }
    }
}

struct Conn {
    /// The side that connected, and the other one once it accepted.
    ends: [Option<End>; 2],
    to: SocketAddr,
    hello: Hello,
}

struct Listener {
    group: Group,
    stores: BTreeMap<u16, Rc<dyn Port>>,
}

struct State {
    conns: BTreeMap<u64, Conn>,
    next: u64,
    dirty: Vec<(u64, usize)>,
    up: Vec<bool>,
    homes: BTreeMap<SocketAddr, Machine>,
    listeners: BTreeMap<SocketAddr, Listener>,
    cut: BTreeSet<(Machine, Machine)>,
    qualities: BTreeMap<(Machine, Machine), Quality>,
    usual: Quality,
}

struct Inner {
    exec: Executor,
    dice: Dice,
    state: RefCell<State>,
}

/// A handle to the network. Clones are cheap.
#[derive(Clone)]
pub struct Net(Rc<Inner>);

fn conn_id(id: u64, side: usize) -> ConnId {
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

    /// Opens a connection (see [`ringkv_shard::host::Host::connect`]).
    pub fn connect(&self, port: Rc<dyn Port>, to: SocketAddr, hello: Hello) -> ConnId {
        let from = port.machine();
        let (id, home) = {
            let mut state = self.0.state.borrow_mut();
            let id = state.next;
            state.next += 1;
            let end = End::new(port, Some(BytesMut::new()));
            state.conns.insert(id, Conn { ends: [Some(end), None], to, hello });
            (id, state.homes.get(&to).copied())
        };
        let delay = home.map_or(SYN_NS, |home| self.delay_ns(from, home, HELLO_BYTES));
        self.later(delay, move |net| net.syn(id));
        self.later(OPEN_NS, move |net| net.give_up(id));
        conn_id(id, 0)
    }

    fn later(&self, ns: u64, what: impl FnOnce(&Net) + 'static) {
        let net = self.clone();
        self.0.exec.at(self.0.exec.now_ns() + ns, move || what(&net));
    }

    fn delay_ns(&self, from: Machine, to: Machine, bytes: usize) -> u64 {
        let state = self.0.state.borrow();
        let quality = state.qualities.get(&(from, to)).unwrap_or(&state.usual);
        let mut delay = self.0.dice.between(quality.delay_ns.0, quality.delay_ns.1);
        if self.0.dice.chance(quality.stalls, 10_000) {
            delay += self.0.dice.between(quality.stall_ns.0, quality.stall_ns.1);
        }
        delay + bytes as u64 * 1_000_000_000 / quality.bytes_per_s.max(1)
    }

    /// A SYN, with the hello right behind it, arrives or is lost.
    fn syn(&self, id: u64) {
        let mut state = self.0.state.borrow_mut();
        let State { conns, homes, listeners, cut, up, dirty, .. } = &mut *state;
        let Some(conn) = conns.get_mut(&id) else { return };
        let Some(from) = conn.ends[0].as_ref().filter(|end| end.port.is_some()).map(|end| end.machine) else { return };
        let home = homes.get(&conn.to).copied().filter(|home| up[home.0] && !cut.contains(&(from, *home)));
        let Some(home) = home else {
            drop(state);
            return self.later(SYN_NS, move |net| net.syn(id));
        };
        let wanted = conn.hello.wanted.store;
        let port = listeners.get(&conn.to).and_then(|listener| {
            if wanted == ANY_STORE { listener.stores.values().next() } else { listener.stores.get(&wanted) }
        });
        let Some(port) = port.cloned() else {
            drop(state);
            let delay = self.delay_ns(home, from, 0);
            return self.later(delay, move |net| net.refuse(id, home, from));
        };
        conn.ends[1] = Some(End::new(port.clone(), None));
        dirty.extend([(id, 0), (id, 1)]);
        let hello = conn.hello;
        drop(state);
        self.0.exec.note(id);
        port.event(NetEvent::Opened { conn: conn_id(id, 1), hello, inbound: true });
    }

    /// The answer "nobody listens here" arrives, or is lost.
    fn refuse(&self, id: u64, home: Machine, from: Machine) {
        if self.0.state.borrow().cut.contains(&(home, from)) {
            return self.later(SYN_NS, move |net| net.syn(id));
        }
        self.end(id, 0);
    }

    fn give_up(&self, id: u64) {
        let waiting = {
            let state = self.0.state.borrow();
            let end = state.conns.get(&id).and_then(|conn| conn.ends[0].as_ref());
            end.is_some_and(|end| end.hello.is_some() && end.port.is_some())
        };
        if waiting {
            self.end(id, 0);
            self.finish(id, 0);
        }
    }

    /// Tells one side that it is over.
    fn end(&self, id: u64, side: usize) {
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
    fn forget(&self, id: u64) {
        let mut state = self.0.state.borrow_mut();
        let over = |end: &Option<End>| end.as_ref().is_none_or(|end| end.port.is_none() && !end.fin);
        if state.conns.get(&id).is_some_and(|conn| conn.ends.iter().all(over)) {
            state.conns.remove(&id);
        }
    }

    /// A FIN is to leave behind what is queued.
    fn finish(&self, id: u64, side: usize) {
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
        self.later(1_000, move |net| net.end(id, side));
    }

    /// Sends what was queued since the last time. Called when no task is ready.
    pub fn flush(&self) {
        loop {
            let dirty = std::mem::take(&mut self.0.state.borrow_mut().dirty);
            if dirty.is_empty() {
                return;
            }
            dirty.into_iter().for_each(|(id, side)| self.ship(id, side));
        }
    }

    fn ship(&self, id: u64, side: usize) {
        let mut state = self.0.state.borrow_mut();
        let State { conns, cut, up, qualities, .. } = &mut *state;
        let Some(conn) = conns.get_mut(&id) else { return };
        let [Some(a), Some(b)] = &mut conn.ends else { return };
        let (end, other) = if side == 0 { (a, b) } else { (b, a) };
        let (from, to) = (end.machine, other.machine);
        if !up[from.0] || cut.contains(&(from, to)) || (end.queued.is_empty() && !end.fin) {
            return;
        }
        if other.vanished {
            if up[to.0] && other.silent_ns <= self.0.exec.now_ns() {
                drop(state);
                self.later(400_000, move |net| net.end(id, side));
            }
            return;
        }
        let mut bytes = join(&mut end.queued);
        end.flying_bytes += std::mem::take(&mut end.queued_bytes);
        let (fin, last) = (std::mem::take(&mut end.fin), end.last_arrival_ns);
        let alters = qualities.get(&(from, to)).map_or(0, |quality| quality.alters);
        drop(state);
        if alters > 0 && !bytes.is_empty() && self.0.dice.chance(alters, 10_000) {
            bytes = self.altered(&bytes);
        }
        let arrival = (self.0.exec.now_ns() + self.delay_ns(from, to, bytes.len())).max(last);
        if let Some(end) = self.0.state.borrow_mut().conns.get_mut(&id).and_then(|c| c.ends[side].as_mut()) {
            end.last_arrival_ns = arrival;
        }
        self.later(arrival - self.0.exec.now_ns(), move |net| net.arrive(id, 1 - side, bytes, fin));
    }

    /// The same with one byte changed.
    fn altered(&self, bytes: &[u8]) -> Bytes {
        let mut altered = BytesMut::from(bytes);
        let at = self.0.dice.below(bytes.len() as u64) as usize;
        altered[at] ^= self.0.dice.between(1, 255) as u8;
        altered.freeze()
    }

    fn arrive(&self, id: u64, side: usize, bytes: Bytes, fin: bool) {
        self.0.exec.note(id << 1 | side as u64);
        self.0.exec.note(u64::from(crc32c::crc32c(&bytes)) << 32 | bytes.len() as u64);
        let mut state = self.0.state.borrow_mut();
        let Some(conn) = state.conns.get_mut(&id) else { return };
        if let Some(sender) = &mut conn.ends[1 - side] {
            sender.flying_bytes -= bytes.len();
        }
        let Some(end) = &mut conn.ends[side] else { return };
        if end.dead {
            drop(state);
            return self.reset_by_kernel(id, side);
        }
        if end.vanished {
            // To a machine that lost its power: lost, or answered by a reset once it is up again.
            let (up, silent_ns) = (end.machine, end.silent_ns);
            if state.up[up.0] && silent_ns <= self.0.exec.now_ns() {
                drop(state);
                self.end(id, 1 - side);
            }
            return;
        }
        let Some(port) = end.port.clone() else { return };
        let mut bytes = bytes;
        let mut opened = None;
        if let Some(mut hello) = end.hello.take() {
            let missing = (HELLO_BYTES - hello.len()).min(bytes.len());
            hello.extend_from_slice(&bytes.split_to(missing));
            match <&[u8; HELLO_BYTES]>::try_from(&hello[..]) {
                Ok(whole) => opened = Some(Hello::decode(whole)),
                Err(_) => end.hello = Some(hello),
            }
        }
        drop(state);
        match opened {
            Some(Ok(hello)) => port.event(NetEvent::Opened { conn: conn_id(id, side), hello, inbound: false }),
            Some(Err(_)) => return self.close(conn_id(id, side)),
            None => {}
        }
        self.hand_over(&*port, conn_id(id, side), bytes);
        if fin {
            self.end(id, side);
        }
    }

    /// Bytes arrived for a process that is dead: its machine answers with a reset, which waits for nothing that was sent before.
    fn reset_by_kernel(&self, id: u64, side: usize) {
        let ends = {
            let state = self.0.state.borrow();
            let ends =
                state.conns.get(&id).and_then(|conn| Some((conn.ends[side].as_ref()?, conn.ends[1 - side].as_ref()?)));
            ends.map(|(dead, sender)| (dead.machine, sender.machine)).filter(|cut| !state.cut.contains(cut))
        };
        if let Some((dead, sender)) = ends {
            self.later(self.delay_ns(dead, sender, 0), move |net| net.end(id, 1 - side));
        }
    }

    /// The bytes of one arrival, now and then in two pieces.
    fn hand_over(&self, port: &dyn Port, conn: ConnId, mut bytes: Bytes) {
        if bytes.len() > 1 && self.0.dice.chance(1, 16) {
            let first = bytes.split_to(self.0.dice.between(1, bytes.len() as u64 - 1) as usize);
            port.event(NetEvent::Received { conn, bytes: first });
        }
        if !bytes.is_empty() {
            port.event(NetEvent::Received { conn, bytes });
        }
    }

    /// A process died. `power`: with its machine, so that nobody is told.
    pub fn process_died(&self, group: Group, power: bool) {
        let mut gone: Vec<Rc<dyn Port>> = Vec::new();
        let mut state = self.0.state.borrow_mut();
        let State { conns, listeners, dirty, .. } = &mut *state;
        listeners.retain(|_, listener| listener.group != group);
        for (&id, conn) in conns.iter_mut() {
            for (side, end) in conn.ends.iter_mut().enumerate() {
                let Some(end) = end.as_mut().filter(|end| end.port.as_ref().is_some_and(|p| p.group() == group)) else {
                    continue;
                };
                gone.extend(end.port.take());
                end.vanished = power;
                end.dead = !power;
                // The kernel sends what it has taken, or resets.
                if power || self.0.dice.chance(1, 2) {
                    end.queued.clear();
                    end.queued_bytes = 0;
                }
                end.fin = !power;
                dirty.push((id, side));
            }
        }
        drop(state);
        drop(gone);
    }

    /// A machine goes down, or comes up.
    pub fn set_up(&self, machine: Machine, up: bool) {
        let mut state = self.0.state.borrow_mut();
        state.up[machine.0] = up;
        if up {
            let State { conns, dirty, .. } = &mut *state;
            for (&id, conn) in conns.iter() {
                dirty.extend([(id, 0), (id, 1)].into_iter().filter(|_| conn.touches(machine)));
            }
        }
    }

    /// Cuts one direction between two machines, or heals it: then what waited arrives, after TCP's next attempt.
    pub fn set_cut(&self, from: Machine, to: Machine, cut: bool) {
        let mut state = self.0.state.borrow_mut();
        if cut {
            state.cut.insert((from, to));
            return;
        }
        if !state.cut.remove(&(from, to)) {
            return;
        }
        let waiting: Vec<u64> =
            state.conns.iter().filter(|(_, c)| c.touches(from) && c.touches(to)).map(|(id, _)| *id).collect();
        drop(state);
        for id in waiting {
            let backoff = self.0.dice.between(0, 400_000_000);
            self.later(backoff, move |net| net.0.state.borrow_mut().dirty.extend([(id, 0), (id, 1)]));
        }
    }

    /// How one direction behaves from now on; `None`: as usual.
    pub fn set_quality(&self, from: Machine, to: Machine, quality: Option<Quality>) {
        let qualities = &mut self.0.state.borrow_mut().qualities;
        match quality {
            Some(quality) => qualities.insert((from, to), quality),
            None => qualities.remove(&(from, to)),
        };
    }

    /// Some connection between two machines.
    fn between(&self, a: Machine, b: Machine) -> Option<u64> {
        let state = self.0.state.borrow();
        let all = state.conns.iter().filter(|(_, c)| c.touches(a) && c.touches(b));
        let ids: Vec<u64> = all.map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| *self.0.dice.pick(&ids))
    }

    /// Ends one connection between the two machines, if there is one. What is under way is lost, or, when one side learns of
    /// the end up to a second before the other, still arrives there: done, and nobody is told.
    pub fn reset_one(&self, a: Machine, b: Machine) {
        let Some(id) = self.between(a, b) else { return };
        let side = self.0.dice.below(2) as usize;
        self.end(id, side);
        if self.0.dice.chance(1, 2) {
            return self.end(id, 1 - side);
        }
        let late = self.0.dice.between(100_000, 1_000_000_000);
        self.later(late, move |net| net.end(id, 1 - side));
    }

    /// One side of a connection between the two machines forgets it; the other thinks that it is open, and for `silent_ns`
    /// nothing answers what it sends, as behind a gateway that lost its table.
    pub fn half_open(&self, a: Machine, b: Machine, silent_ns: u64) {
        let Some(id) = self.between(a, b) else { return };
        let (side, until) = (self.0.dice.below(2) as usize, self.0.exec.now_ns() + silent_ns);
        let whole = {
            let mut state = self.0.state.borrow_mut();
            let Some(conn) = state.conns.get_mut(&id) else { return };
            let whole = conn.ends.iter().all(|end| end.as_ref().is_some_and(|end| end.port.is_some()));
            if let Some(end) = conn.ends[side].as_mut().filter(|_| whole) {
                (end.vanished, end.silent_ns) = (true, until);
                end.queued.clear();
                end.queued_bytes = 0;
            }
            whole
        };
        if whole {
            self.end(id, side);
            self.later(silent_ns, move |net| net.0.state.borrow_mut().dirty.push((id, 1 - side)));
        }
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

impl Conn {
    fn touches(&self, machine: Machine) -> bool {
        self.ends.iter().flatten().any(|end| end.machine == machine)
    }
}

fn join(queued: &mut Vec<Bytes>) -> Bytes {
    if queued.len() == 1 {
        return queued.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(queued.iter().map(Bytes::len).sum());
    queued.drain(..).for_each(|bytes| all.extend_from_slice(&bytes));
    all.freeze()
}
