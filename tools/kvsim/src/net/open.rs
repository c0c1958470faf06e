//! How a connection comes to be: SYNs until somebody answers or patience ends, then the other side's hello.

use super::Machine;
use super::conn::{Conn, End, Net, Port, State, conn_id};
use bytes::BytesMut;
use ringkv_shard::host::{ConnId, NetEvent};
use ringkv_wire::hello::{ANY_STORE, HELLO_BYTES, Hello};
use std::net::SocketAddr;
use std::rc::Rc;

/// How long a connection may take to come to be, ns: the SYN and the answering hello.
const OPEN_NS: u64 = 4_000_000_000;
/// Between two SYNs, ns.
const SYN_NS: u64 = 1_000_000_000;

impl Net {
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

    /// A SYN, with the hello right behind it, arrives or is lost.
    fn syn(&self, id: u64) {
        let mut state = self.0.state.borrow_mut();
        let Some(conn) = state.conns.get(&id) else { return };
        let Some(from) = conn.ends[0].as_ref().filter(|end| end.port.is_some()).map(|end| end.machine) else { return };
        let home = state.homes.get(&conn.to).copied().filter(|home| state.reaches(from, *home));
        let Some(home) = home else {
            drop(state);
            return self.later(SYN_NS, move |net| net.syn(id));
        };
        let State { conns, listeners, dirty, .. } = &mut *state;
        let Some(conn) = conns.get_mut(&id) else { return };
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
        if !self.0.state.borrow().reaches(home, from) {
            return self.later(SYN_NS, move |net| net.syn(id));
        }
        self.end(id, 0);
    }

    fn give_up(&self, id: u64) {
        let (waiting, accepted) = {
            let state = self.0.state.borrow();
            let Some([Some(end), other]) = state.conns.get(&id).map(|conn| &conn.ends) else { return };
            (end.hello.is_some() && end.port.is_some(), other.is_some())
        };
        if !accepted {
            self.abort(id, 0);
        } else if waiting {
            self.end(id, 0);
            self.finish(id, 0);
        }
    }
}
