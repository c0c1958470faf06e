//! The fast host: one glommio executor per core, and inside it one raw io_uring ring that carries the core's sockets and files.
//!
//! The executor runs the tasks and keeps the timers; every byte goes through the ring ([`turn`]). Everything here lives on one
//! thread and is shared by `Rc`; no borrow of a cell is held across an await or across a call into a store. The only place
//! that names glommio.

mod alarm;
mod conn;
mod dial;
mod door;
mod socket;
mod turn;

use crate::host::core::{self, CoreConfig, Ended, Limits, Obituary, RealHost, Tenant};
use crate::host::glommio::conn::Conn;
use crate::host::glommio::door::Door;
use crate::host::glommio::socket::Shared;
use crate::host::glommio::turn::Core;
use bytes::Bytes;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_storage::disk::files::Root;
use ringkv_storage::disk::uring::UringDisk;
use ringkv_storage::disk::uring::provided::Provided;
use ringkv_storage::disk::uring::ring::{Ring, RingError, RingOptions};
use ringkv_wire::hello::{Answer, Hello, Role};
use ringkv_wire::ids::Now;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How long [`RealHost::finish`] lets queued bytes leave.
const FINISH: Duration = Duration::from_millis(500);
/// Buffers that sockets are received into, shared by all connections of a core: 2 MiB, not locked.
const RECEIVE_BUFFERS: u16 = 64;
const RECEIVE_BYTES: u32 = 32 << 10;
/// The provided buffers' group in the ring.
const RECEIVE_GROUP: u16 = 0;
/// glommio registers its own memory with each of its three rings, and it counts each time.
const EXECUTOR_RINGS: usize = 3;
/// How much of it there may be. The ring carries the data, so the executor needs little.
const EXECUTOR_BYTES_MIN: usize = 64 << 10;
const EXECUTOR_BYTES_MAX: usize = 1 << 20;
/// How long the executor's own timers and other threads' messages may wait while the core is busy.
const PREEMPT: Duration = Duration::from_millis(100);

/// What of a core's locked memory its executor gets.
fn executor_bytes(budget_bytes: usize) -> usize {
    let share = budget_bytes / EXECUTOR_RINGS;
    (share - share % 4096).clamp(EXECUTOR_BYTES_MIN, EXECUTOR_BYTES_MAX)
}

/// One store's view of its core: a cheap handle.
#[derive(Clone)]
pub struct GlommioHost(Rc<Inner>);

struct Inner {
    core: Rc<Core>,
    disk: UringDisk,
    limits: Limits,
    events: RefCell<Vec<NetEvent>>,
    /// Bytes of the `Received` events among them, and of what their connections still hold back.
    received_bytes: Cell<usize>,
    /// The part of it in `events`.
    event_bytes: Cell<usize>,
    /// How often the store has taken its events.
    takes: Cell<u64>,
    woken: Cell<bool>,
    /// The store, in `wait`, and until when.
    waiter: Cell<Option<Waker>>,
    until_ns: Cell<u64>,
    /// Connections that hold bytes back, or are not read from, until the store has taken its events.
    held: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    conns: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    clients: Cell<usize>,
    next_conn: Cell<u64>,
    door: RefCell<Option<Rc<Door>>>,
    /// The store has ended: nobody is taken in any more.
    closed: Cell<bool>,
}

/// Starts the core's thread, and answers when its executor and its ring exist; an error says why they cannot (io_uring is
/// refused, memory may not be locked), and then nothing runs.
pub fn start<T: Tenant>(core: CoreConfig, tenant: T, ended: UnboundedSender<Ended>) -> io::Result<JoinHandle<()>> {
    let root = Root::open(&core.data_dir).map_err(io::Error::other)?;
    let (tell, told) = sync_channel(1);
    let name = format!("core-{}", core.number);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        if let Some(cpu) = core.cpu {
            crate::pin::this_thread(cpu);
        }
        match prepare(&core) {
            Ok((executor, shared)) => {
                // The caller waits for exactly this.
                let _ = tell.send(Ok(()));
                let obituary = Obituary::new(&core, ended.clone());
                if let Err(e) = executor.run(live(core, root, shared, tenant, ended)) {
                    tracing::error!(error = %e, "the core's ring broke");
                    obituary.publish(&format!("the core's ring broke: {e}"));
                }
            }
            Err(e) => {
                let _ = tell.send(Err(e));
            }
        }
    })?;
    match told.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(e)) => Err(e),
        Err(_) => Err(io::Error::other("the core's thread died at its start")),
    }
}

/// The executor and the ring of a core. On the thread that will use them.
fn prepare(core: &CoreConfig) -> io::Result<(LocalExecutor, Core)> {
    let ring = Ring::new(RingOptions::default()).map_err(io::Error::other)?;
    let provided = Provided::new(&ring, RECEIVE_GROUP, RECEIVE_BUFFERS, RECEIVE_BYTES)?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("core")
        .io_memory(executor_bytes(core.ring_bytes))
        .preempt_timer(PREEMPT)
        .make()
        .map_err(|e| io::Error::other(format!("the glommio executor does not start: {e}")))?;
    Ok((executor, Core::new(ring, provided, core.spin)))
}

/// The life of the executor. An error means that the ring broke under the stores.
async fn live<T: Tenant>(
    config: CoreConfig,
    root: Root,
    core: Core,
    tenant: T,
    ended: UnboundedSender<Ended>,
) -> Result<(), RingError> {
    let core = Rc::new(core);
    let mut hosts = Vec::new();
    for (store, listener) in config.stores {
        let disk = UringDisk::over(root.clone(), core.ring.clone());
        let host = GlommioHost::new(core.clone(), disk, config.limits);
        match Door::open(host.0.clone(), listener) {
            Ok(door) => *host.0.door.borrow_mut() = Some(door),
            Err(e) => tracing::error!(store, error = %e, "cannot listen"),
        }
        hosts.push((store, host));
    }
    let every = hosts.clone();
    let driver = glommio::spawn_local(turn::drive(core.clone()));
    let running = async {
        core::run(hosts, tenant, config.mail, ended).await;
        core.end();
        std::future::pending::<()>().await;
    };
    let driven = tokio::select! {
        biased;
        driven = driver => driven,
        () = running => unreachable!("it waits for the driver"),
    };
    if driven.is_err() {
        // The ring holds the sockets for good; the other sides should not wait for it.
        every.iter().for_each(|(_, host)| host.0.abandon());
    }
    driven
}

/// A future's output, unless it takes longer.
async fn timed<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = glommio::timer::sleep(time) => None,
    }
}

impl GlommioHost {
    fn new(core: Rc<Core>, disk: UringDisk, limits: Limits) -> GlommioHost {
        let inner = Rc::new(Inner {
            core,
            disk,
            limits,
            events: RefCell::default(),
            received_bytes: Cell::new(0),
            event_bytes: Cell::new(0),
            takes: Cell::new(0),
            woken: Cell::new(false),
            waiter: Cell::new(None),
            until_ns: Cell::new(u64::MAX),
            held: RefCell::default(),
            conns: RefCell::default(),
            clients: Cell::new(0),
            next_conn: Cell::new(1),
            door: RefCell::default(),
            closed: Cell::new(false),
        });
        inner.core.add_store(&inner);
        GlommioHost(inner)
    }
}

impl RealHost for GlommioHost {
    fn adopt(&self, socket: TcpStream, hello: Hello) {
        match socket.set_nonblocking(false) {
            Ok(()) => self.0.welcome(Rc::new(OwnedFd::from(socket)), hello),
            Err(e) => tracing::warn!(error = %e, "a handed connection is lost"),
        }
    }

    fn finish(&self) -> impl Future<Output = ()> + 'static {
        let inner = self.0.clone();
        async move {
            inner.close_door();
            inner.every_conn().iter().for_each(Conn::close);
            let give_up = Instant::now() + FINISH;
            while !inner.conns.borrow().is_empty() && Instant::now() < give_up {
                glommio::timer::sleep(Duration::from_millis(2)).await;
            }
            inner.abandon();
        }
    }
}

impl Inner {
    /// A connection that said hello: the store is told, unless there are too many.
    fn welcome(self: &Rc<Self>, socket: Shared, hello: Hello) {
        if self.closed.get() {
            return;
        }
        if hello.role == Role::Client && self.clients.get() >= self.limits.clients_max {
            glommio::spawn_local(dial::refuse(self.clone(), socket, hello, Answer::Busy)).detach();
            return;
        }
        let conn = self.new_conn(hello.role == Role::Client);
        self.push(NetEvent::Opened { conn: conn.id, hello, inbound: true });
        conn.live(socket);
    }

    fn new_conn(self: &Rc<Self>, client: bool) -> Rc<Conn> {
        let id = ConnId(self.next_conn.get());
        self.next_conn.set(id.0 + 1);
        let conn = Rc::new(Conn::new(id, client, self.clone()));
        self.clients.set(self.clients.get() + usize::from(client));
        self.conns.borrow_mut().insert(id, conn.clone());
        conn
    }

    fn close_door(&self) {
        if let Some(door) = self.door.borrow_mut().take() {
            door.close();
        }
    }

    /// Closes everything as it is.
    fn abandon(&self) {
        self.closed.set(true);
        self.close_door();
        self.every_conn().iter().for_each(|conn| conn.kill());
    }

    fn every_conn(&self) -> Vec<Rc<Conn>> {
        self.conns.borrow().values().cloned().collect()
    }

    fn conn(&self, id: ConnId) -> Option<Rc<Conn>> {
        self.conns.borrow().get(&id).cloned()
    }

    fn push(&self, event: NetEvent) {
        if let NetEvent::Received { bytes, .. } = &event {
            self.event_bytes.set(self.event_bytes.get() + bytes.len());
        }
        self.events.borrow_mut().push(event);
        self.rouse();
    }

    /// The connection's last event.
    fn gone(&self, conn: &Conn) {
        if self.conns.borrow_mut().remove(&conn.id).is_some() {
            self.clients.set(self.clients.get() - usize::from(conn.client));
            self.held.borrow_mut().remove(&conn.id);
            self.push(NetEvent::Closed { conn: conn.id });
        }
    }

    fn rouse(&self) {
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }

    /// Whether the store has something to do; a wake-up is used up by the answer.
    fn ready(&self) -> bool {
        self.woken.replace(false) || !self.events.borrow().is_empty()
    }

    /// Whether the store is in `wait`, and not yet woken.
    fn waits(&self) -> bool {
        let waiter = self.waiter.take();
        let waits = waiter.is_some();
        self.waiter.set(waiter);
        waits
    }

    fn waits_until_ns(&self) -> u64 {
        self.until_ns.get()
    }

    /// Wakes the store if its time has come.
    fn wake_if_due(&self, now_ns: u64) -> bool {
        let due = self.until_ns.get() <= now_ns;
        if due {
            self.until_ns.set(u64::MAX);
            self.rouse();
        }
        due
    }
}

impl Host for GlommioHost {
    type Disk = UringDisk;

    fn disk(&self) -> UringDisk {
        self.0.disk.clone()
    }

    fn now(&self) -> Now {
        crate::clock::now()
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        glommio::spawn_local(task).detach();
    }

    fn connect(&self, to: SocketAddr, hello: Hello) -> ConnId {
        let conn = self.0.new_conn(false);
        let id = conn.id;
        glommio::spawn_local(dial::dial(self.0.clone(), conn, to, hello)).detach();
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
        // What the store took it has answered by now: only now is it known who may give more.
        let held = std::mem::take(&mut *inner.held.borrow_mut());
        held.values().for_each(Conn::read_on);
        let (mut waited, mut over) = (false, false);
        poll_fn(|cx| {
            over = over || inner.ready() || until_boot_ns <= self.now().boot_ns;
            if over && waited {
                return Poll::Ready(());
            }
            if over {
                // Between any two turns of the store the ring gets one.
                cx.waker().wake_by_ref();
            } else {
                inner.waiter.set(Some(cx.waker().clone()));
                inner.until_ns.set(until_boot_ns);
                inner.core.expect(until_boot_ns);
            }
            waited = true;
            Poll::Pending
        })
        .await;
        inner.until_ns.set(u64::MAX);
    }

    fn take_events(&self, out: &mut Vec<NetEvent>) {
        out.append(&mut self.0.events.borrow_mut());
        let inner = &self.0;
        inner.received_bytes.set(inner.received_bytes.get() - inner.event_bytes.take());
        inner.takes.set(inner.takes.get() + 1);
    }
}
