//! The host of ordinary system calls: one thread per core, epoll through tokio's current-thread runtime, the disk's calls
//! on a helper thread. It serves where io_uring is forbidden.
//!
//! Everything here lives on one thread and is shared by `Rc`; no borrow of a cell is held across an await.

mod conn;
mod dial;

use crate::door;
use crate::host::core::{self, CoreConfig, Ended, Limits, Obituary, RealHost, Tenant};
use crate::host::plain::conn::Conn;
use bytes::{Bytes, BytesMut};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_storage::disk::plain::PlainDisk;
use ringkv_wire::hello::{Answer, Hello, Role};
use ringkv_wire::ids::Now;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, LocalSet, spawn_local};

/// How long [`RealHost::finish`] lets queued bytes leave.
const FINISH: Duration = Duration::from_millis(500);

/// One store's view of its core: a cheap handle.
#[derive(Clone)]
pub struct PlainHost(Rc<Inner>);

struct Inner {
    disk: PlainDisk,
    limits: Limits,
    spin: Duration,
    events: RefCell<Vec<NetEvent>>,
    /// Bytes of the `Received` events among them.
    received_bytes: Cell<usize>,
    /// How often the store has taken its events.
    takes: Cell<u64>,
    woken: Cell<bool>,
    /// The store, in `wait`.
    waiter: RefCell<Option<Waker>>,
    /// Readers that wait for the store to take its events, or for their own backlog to shrink.
    paused: RefCell<BTreeMap<ConnId, Waker>>,
    conns: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    clients: Cell<usize>,
    next_conn: Cell<u64>,
    /// What sockets are read into, shared by all of them, so that an idle connection takes no memory.
    scratch: RefCell<BytesMut>,
    door: RefCell<Option<AbortHandle>>,
}

/// Starts the core's thread. Its stores' listeners are in `core`.
pub fn start<T: Tenant>(core: CoreConfig, tenant: T, ended: UnboundedSender<Ended>) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut disks = Vec::new();
    for _ in &core.stores {
        disks.push(PlainDisk::open(&core.data_dir).map_err(io::Error::other)?);
    }
    let name = format!("core-{}", core.number);
    std::thread::Builder::new().name(name).spawn(move || {
        let _obituary = Obituary::new(&core, ended.clone());
        if let Some(cpu) = core.cpu {
            crate::pin::this_thread(cpu);
        }
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            let mut hosts = Vec::new();
            for ((store, listener), disk) in core.stores.into_iter().zip(disks) {
                let host = PlainHost::new(disk, core.limits, core.spin);
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => host.open_door(listener),
                    Err(e) => tracing::error!(store, error = %e, "cannot listen"),
                }
                hosts.push((store, host));
            }
            core::run(hosts, tenant, core.mail, ended).await;
        });
    })
}

impl PlainHost {
    fn new(disk: PlainDisk, limits: Limits, spin: Duration) -> PlainHost {
        PlainHost(Rc::new(Inner {
            disk,
            limits,
            spin,
            events: RefCell::default(),
            received_bytes: Cell::new(0),
            takes: Cell::new(0),
            woken: Cell::new(false),
            waiter: RefCell::default(),
            paused: RefCell::default(),
            conns: RefCell::default(),
            clients: Cell::new(0),
            next_conn: Cell::new(1),
            scratch: RefCell::default(),
            door: RefCell::default(),
        }))
    }

    fn open_door(&self, listener: tokio::net::TcpListener) {
        let host = self.clone();
        let silent_max = self.0.limits.silent_max;
        let door = spawn_local(door::keep(listener, silent_max, move |stream, hello| host.welcome(stream, hello)));
        *self.0.door.borrow_mut() = Some(door.abort_handle());
    }

    /// A connection that said hello: the store is told, unless there are too many.
    fn welcome(&self, stream: tokio::net::TcpStream, hello: Hello) {
        let inner = &self.0;
        if hello.role == Role::Client && inner.clients.get() >= inner.limits.clients_max {
            spawn_local(dial::refuse(stream, hello, Answer::Busy));
            return;
        }
        let conn = inner.new_conn(hello.role == Role::Client);
        inner.push(NetEvent::Opened { conn: conn.id, hello, inbound: true });
        spawn_local(conn::live(inner.clone(), conn, stream));
    }
}

impl RealHost for PlainHost {
    fn adopt(&self, socket: std::net::TcpStream, hello: Hello) {
        match tokio::net::TcpStream::from_std(socket) {
            Ok(stream) => self.welcome(stream, hello),
            Err(e) => tracing::warn!(error = %e, "a handed connection is lost"),
        }
    }

    fn finish(&self) -> impl Future<Output = ()> + 'static {
        let inner = self.0.clone();
        async move {
            if let Some(door) = inner.door.borrow_mut().take() {
                door.abort();
            }
            let all = || -> Vec<Rc<Conn>> { inner.conns.borrow().values().cloned().collect() };
            all().iter().for_each(|conn| conn.close());
            let give_up = Instant::now() + FINISH;
            while !inner.conns.borrow().is_empty() && Instant::now() < give_up {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            all().iter().for_each(|conn| conn.kill());
        }
    }
}

impl Inner {
    fn new_conn(&self, client: bool) -> Rc<Conn> {
        let id = ConnId(self.next_conn.get());
        self.next_conn.set(id.0 + 1);
        let conn = Rc::new(Conn::new(id, client));
        self.clients.set(self.clients.get() + usize::from(client));
        self.conns.borrow_mut().insert(id, conn.clone());
        conn
    }

    fn conn(&self, id: ConnId) -> Option<Rc<Conn>> {
        self.conns.borrow().get(&id).cloned()
    }

    fn push(&self, event: NetEvent) {
        if let NetEvent::Received { bytes, .. } = &event {
            self.received_bytes.set(self.received_bytes.get() + bytes.len());
        }
        self.events.borrow_mut().push(event);
        self.rouse();
    }

    /// The connection's last event.
    fn gone(&self, conn: &Conn) {
        if self.conns.borrow_mut().remove(&conn.id).is_some() {
            self.clients.set(self.clients.get() - usize::from(conn.client));
            self.paused.borrow_mut().remove(&conn.id);
            self.push(NetEvent::Closed { conn: conn.id });
        }
    }

    fn rouse(&self) {
        if let Some(waiter) = self.waiter.borrow_mut().take() {
            waiter.wake();
        }
    }

    /// Whether the store has something to do; a wake-up is used up by the answer.
    fn ready(&self) -> bool {
        self.woken.replace(false) || !self.events.borrow().is_empty()
    }
}

impl Host for PlainHost {
    type Disk = PlainDisk;

    fn disk(&self) -> PlainDisk {
        self.0.disk.clone()
    }

    fn now(&self) -> Now {
        crate::clock::now()
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn_local(task);
    }

    fn connect(&self, to: SocketAddr, hello: Hello) -> ConnId {
        let conn = self.0.new_conn(false);
        let id = conn.id;
        spawn_local(dial::dial(self.0.clone(), conn, to, hello));
        id
    }

    fn send(&self, conn: ConnId, bytes: Bytes) {
        if let Some(conn) = self.0.conn(conn) {
            let backlog = conn.queue(bytes);
            if backlog > self.0.limits.backlog_bytes_max {
                tracing::debug!(conn = conn.id.0, backlog, "closed: the other side does not read");
                conn.kill();
            }
        }
    }

    fn backlog_bytes(&self, conn: ConnId) -> usize {
        self.0.conn(conn).map_or(0, |conn| conn.backlog_bytes())
    }

    fn close(&self, conn: ConnId) {
        if let Some(conn) = self.0.conn(conn) {
            conn.close();
        }
    }

    fn wake(&self) {
        self.0.woken.set(true);
        self.0.rouse();
    }

    async fn wait(&self, until_boot_ns: u64) {
        let inner = &self.0;
        // Between any two turns of the store the sockets get theirs: `yield_now` comes back after epoll was asked.
        let spin_until = (!inner.spin.is_zero()).then(|| Instant::now() + inner.spin);
        let left = Duration::from_nanos(until_boot_ns.saturating_sub(self.now().boot_ns));
        loop {
            if inner.ready() || left.is_zero() {
                tokio::task::yield_now().await;
                return;
            }
            if spin_until.is_none_or(|end| Instant::now() >= end) {
                break;
            }
            tokio::task::yield_now().await;
        }
        let ready = poll_fn(|cx| {
            if inner.ready() {
                return Poll::Ready(());
            }
            *inner.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        });
        // Running out of time is one of the three reasons to return.
        let _ = tokio::time::timeout(left, ready).await;
    }

    fn take_events(&self, out: &mut Vec<NetEvent>) {
        out.append(&mut self.0.events.borrow_mut());
        self.0.received_bytes.set(0);
        self.0.takes.set(self.0.takes.get() + 1);
        let paused = std::mem::take(&mut *self.0.paused.borrow_mut());
        paused.into_values().for_each(Waker::wake);
    }
}
