//! The virtual host: what one store, in one life of its process, sees of the virtual world.

use crate::clock::MachineClock;
use crate::dice::Dice;
use crate::exec::{Executor, Group};
use crate::net::{Machine, Net, Port};
use bytes::Bytes;
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_wire::hello::{Hello, Role};
use ringkv_wire::ids::{Now, StoreId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// What a host is made of.
pub struct Parts {
    /// Runs its tasks.
    pub exec: Executor,
    /// Carries its bytes.
    pub net: Net,
    /// Its machine.
    pub machine: Machine,
    /// Its life.
    pub group: Group,
    /// Its machine's clocks.
    pub clock: Rc<MachineClock>,
    /// Its disk.
    pub disk: FaultDisk,
    /// Its chance.
    pub dice: Dice,
}

struct Inner {
    parts: Parts,
    inbox: RefCell<Vec<NetEvent>>,
    /// A turn is scheduled for the events in the inbox.
    scheduled: Cell<bool>,
    /// The next wait returns at once.
    woken: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
    /// The earliest timer that is set, virtual ns.
    armed_ns: Cell<u64>,
    /// Hears what is sent to other stores.
    ear: RefCell<Option<Ear>>,
    /// Connections to other stores.
    stores: RefCell<BTreeMap<ConnId, StoreId>>,
}

/// Hears whom a store sends which bytes, as they go to the network.
pub type Ear = Rc<dyn Fn(StoreId, &Bytes)>;

/// A handle to the host. Clones are cheap.
#[derive(Clone)]
pub struct VirtualHost(Rc<Inner>);

impl VirtualHost {
    /// A host with nothing in its inbox.
    pub fn new(parts: Parts) -> VirtualHost {
        VirtualHost(Rc::new(Inner {
            parts,
            inbox: RefCell::default(),
            scheduled: Cell::new(false),
            woken: Cell::new(false),
            waiter: RefCell::default(),
            armed_ns: Cell::new(u64::MAX),
            ear: RefCell::default(),
            stores: RefCell::default(),
        }))
    }

    /// From now on `ear` hears what is sent over new connections to other stores.
    pub fn set_ear(&self, ear: Ear) {
        *self.0.ear.borrow_mut() = Some(ear);
    }

    /// As a receiver of events.
    pub fn port(&self) -> Rc<dyn Port> {
        Rc::new(self.clone())
    }

    /// Its executor.
    pub fn exec(&self) -> &Executor {
        &self.0.parts.exec
    }
}

impl Inner {
    fn nudge(&self) {
        if let Some(waker) = self.waiter.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl VirtualHost {
    /// Does `what` to this host at a time.
    fn at(&self, at_ns: u64, what: impl FnOnce(&Inner) + 'static) {
        let inner = self.0.clone();
        self.exec().at(at_ns, move || what(&inner));
    }

    /// How long after an event the loop's turn comes, ns: mostly at once, now and then after others had the processor.
    fn turn_ns(&self) -> u64 {
        let dice = &self.0.parts.dice;
        if dice.chance(1, 2_000) { dice.between(1_000_000, 30_000_000) } else { dice.between(2_000, 60_000) }
    }
}

impl Port for VirtualHost {
    fn event(&self, event: NetEvent) {
        self.0.inbox.borrow_mut().push(event);
        if !self.0.scheduled.replace(true) {
            self.at(self.exec().now_ns() + self.turn_ns(), |inner| {
                inner.scheduled.set(false);
                inner.woken.set(true);
                inner.nudge();
            });
        }
    }
    fn group(&self) -> Group {
        self.0.parts.group
    }
    fn machine(&self) -> Machine {
        self.0.parts.machine
    }
    fn lasts_ns(&self, ns: u64) -> u64 {
        self.0.parts.clock.lasts_ns(ns)
    }
}

impl Host for VirtualHost {
    type Disk = FaultDisk;

    fn disk(&self) -> FaultDisk {
        self.0.parts.disk.clone()
    }

    fn now(&self) -> Now {
        self.0.parts.clock.now(self.0.parts.exec.now_ns())
    }

    fn random(&self) -> u64 {
        self.0.parts.dice.bits()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.parts.exec.spawn(self.0.parts.group, task);
    }

    fn connect(&self, to: SocketAddr, hello: Hello) -> ConnId {
        let conn = self.0.parts.net.connect(self.port(), to, hello);
        if hello.role == Role::Store && self.0.ear.borrow().is_some() {
            self.0.stores.borrow_mut().insert(conn, hello.wanted);
        }
        conn
    }

    fn send(&self, conn: ConnId, bytes: Bytes) {
        if let Some(ear) = &*self.0.ear.borrow()
            && let Some(&store) = self.0.stores.borrow().get(&conn)
        {
            ear(store, &bytes);
        }
        self.0.parts.net.send(conn, bytes);
    }

    fn backlog_bytes(&self, conn: ConnId) -> usize {
        self.0.parts.net.backlog_bytes(conn)
    }

    fn close(&self, conn: ConnId) {
        self.0.stores.borrow_mut().remove(&conn);
        self.0.parts.net.close(conn);
    }

    fn wake(&self) {
        self.0.woken.set(true);
        self.0.nudge();
    }

    async fn wait(&self, until_boot_ns: u64) {
        let (inner, exec) = (&self.0, &self.0.parts.exec);
        let until_ns = inner.parts.clock.virtual_ns(until_boot_ns);
        let mut waited = false;
        std::future::poll_fn(|context| {
            if inner.woken.get() || exec.now_ns() >= until_ns {
                // Others go first, once: so a loop that never sleeps is noticed.
                if !std::mem::replace(&mut waited, true) {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                inner.woken.set(false);
                inner.waiter.borrow_mut().take();
                return Poll::Ready(());
            }
            waited = true;
            *inner.waiter.borrow_mut() = Some(context.waker().clone());
            if until_ns < inner.armed_ns.get() {
                inner.armed_ns.set(until_ns);
                self.at(until_ns, move |inner| {
                    if inner.armed_ns.get() == until_ns {
                        inner.armed_ns.set(u64::MAX);
                    }
                    inner.nudge();
                });
            }
            Poll::Pending
        })
        .await;
    }

    fn take_events(&self, out: &mut Vec<NetEvent>) {
        out.append(&mut self.0.inbox.borrow_mut());
    }
}
