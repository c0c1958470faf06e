//! A client: the shipped session, driven over the virtual network.

use crate::host::VirtualHost;
use bytes::Bytes;
use ringkv_session::{
    Actions, Ask, Call, CallId, ClientId, Completion, ConnKey, Held, ReadLevel, Session, SessionConfig, SessionStats,
};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How long a session waits before it asks elsewhere, ms. One that moves on while a leader that was cut off may still believe
/// in its lease sees what that leader's readers must not miss.
const ATTEMPTS_MS: [u64; 4] = [PATIENT_MS, PATIENT_MS, 300, 150];
/// How long one waits that gives a right but slow store the time to answer, ms.
pub const PATIENT_MS: u64 = 1_000;

#[derive(Default)]
struct Links {
    conn: BTreeMap<ConnKey, ConnId>,
    key: BTreeMap<ConnId, ConnKey>,
}

enum Wait {
    Waiting(Option<Waker>),
    Done(Completion),
}

struct Inner {
    host: VirtualHost,
    session: RefCell<Session>,
    calls: RefCell<BTreeMap<CallId, Wait>>,
}

/// A handle to a client. Clones are cheap.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

impl Client {
    /// A client with a fresh session, as patient as said, or by chance; runs on `host` until its group dies.
    pub fn new(host: VirtualHost, seeds: Vec<SocketAddr>, attempt_ms: Option<u64>) -> Client {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&host.random().to_le_bytes());
        id[8..].copy_from_slice(&host.random().to_le_bytes());
        let mut config = SessionConfig::new(seeds, ClientId(id));
        let by_chance = ATTEMPTS_MS[(host.random() % ATTEMPTS_MS.len() as u64) as usize];
        config.attempt_timeout_ms = attempt_ms.unwrap_or(by_chance);
        let session = Session::new(config, host.now(), host.random());
        let inner = Inner { host, session: RefCell::new(session), calls: RefCell::default() };
        let client = Client(Rc::new(inner));
        let driver = client.clone();
        client.0.host.spawn(async move { driver.drive().await });
        client
    }

    /// What its session has counted.
    pub fn stats(&self) -> SessionStats {
        self.0.session.borrow().stats()
    }

    /// What waits in its session, and how many calls its callers wait for.
    pub fn held(&self) -> (Held, usize) {
        (self.0.session.borrow().held(), self.0.calls.borrow().len())
    }

    /// Its host.
    pub fn host(&self) -> &VirtualHost {
        &self.0.host
    }

    /// Asks, and waits for the answer.
    pub async fn call(&self, ask: Ask, timeout_ms: u64, level: Option<ReadLevel>) -> Completion {
        let inner = &self.0;
        let call = Call { ask, timeout_ms: Some(timeout_ms), level };
        let id = inner.session.borrow_mut().submit(inner.host.now(), call);
        inner.calls.borrow_mut().insert(id, Wait::Waiting(None));
        inner.host.wake();
        std::future::poll_fn(|context| {
            let mut calls = inner.calls.borrow_mut();
            match calls.get_mut(&id) {
                Some(Wait::Waiting(waker)) => {
                    *waker = Some(context.waker().clone());
                    Poll::Pending
                }
                _ => match calls.remove(&id) {
                    Some(Wait::Done(completion)) => Poll::Ready(completion),
                    _ => Poll::Pending,
                },
            }
        })
        .await
    }

    async fn drive(&self) {
        let (host, session) = (&self.0.host, &self.0.session);
        let (mut links, mut events, mut actions) = (Links::default(), Vec::new(), Actions::default());
        loop {
            let until = session.borrow().next_deadline_ns();
            host.wait(until).await;
            host.take_events(&mut events);
            let mut session = session.borrow_mut();
            for event in events.drain(..) {
                hear(&mut session, &mut links, host, event);
            }
            session.turn(host.now(), host.random(), &mut actions);
            drop(session);
            self.act(&mut links, &mut actions);
        }
    }

    fn act(&self, links: &mut Links, actions: &mut Actions) {
        let host = &self.0.host;
        for (key, to, hello) in actions.connect.drain(..) {
            let conn = host.connect(to, hello);
            links.conn.insert(key, conn);
            links.key.insert(conn, key);
        }
        for (key, bytes) in actions.send.drain(..) {
            if let Some(&conn) = links.conn.get(&key) {
                host.send(conn, bytes);
            }
        }
        for key in actions.close.drain(..) {
            if let Some(conn) = links.conn.remove(&key) {
                links.key.remove(&conn);
                host.close(conn);
            }
        }
        let mut calls = self.0.calls.borrow_mut();
        for (id, completion) in actions.done.drain(..) {
            if let Some(Wait::Waiting(Some(waker))) = calls.insert(id, Wait::Done(completion)) {
                waker.wake();
            }
        }
    }
}

fn hear(session: &mut Session, links: &mut Links, host: &VirtualHost, event: NetEvent) {
    let now = host.now();
    match event {
        NetEvent::Opened { conn, hello, .. } => {
            if let Some(&key) = links.key.get(&conn) {
                session.opened(now, key, &hello);
            }
        }
        NetEvent::Received { conn, bytes } => {
            if let Some(&key) = links.key.get(&conn) {
                session.received(now, key, bytes);
            }
        }
        NetEvent::Closed { conn } => {
            if let Some(key) = links.key.remove(&conn) {
                links.conn.remove(&key);
                session.closed(now, key);
            }
        }
    }
}

/// A value that tells who wrote it and proves that it is whole: `name:length:` and filling that follows from both.
pub fn value(name: &str, bytes: usize) -> Bytes {
    let (mut value, fill) = opening(name, bytes);
    value.extend_from_slice(&fill.repeat(bytes.div_ceil(fill.len()))[..bytes]);
    Bytes::from(value)
}

fn opening(name: &str, bytes: usize) -> (Vec<u8>, [u8; 4]) {
    let opening = format!("{name}:{bytes}:").into_bytes();
    let fill = crc32c::crc32c(&opening).to_le_bytes();
    (opening, fill)
}

/// The name in a value; `None` when it is not whole.
pub fn name_of(found: &[u8]) -> Option<String> {
    let mut parts = found.splitn(3, |b| *b == b':');
    let name = std::str::from_utf8(parts.next()?).ok()?;
    let bytes: usize = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let (opening, fill) = opening(name, bytes);
    let rest = found.strip_prefix(&opening[..])?;
    // Every four bytes are those before, the first four the filling.
    let period = fill.len().min(rest.len());
    let whole = rest.len() == bytes && rest[..period] == fill[..period] && rest[period..] == rest[..bytes - period];
    whole.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_value_has_no_name() {
        for bytes in [0, 1, 100] {
            let whole = value("c1.7", bytes);
            assert_eq!(name_of(&whole).as_deref(), Some("c1.7"));
            for at in 0..whole.len() {
                let mut altered = whole.to_vec();
                altered[at] ^= 1;
                assert_ne!(name_of(&altered).as_deref(), Some("c1.7"), "byte {at} of {bytes}");
            }
            assert_eq!(name_of(&whole[..whole.len() - 1]), None);
        }
    }
}
