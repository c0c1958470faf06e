//! The one task that owns a session: calls and socket events in, actions out. It only moves bytes.

use crate::clock;
use crate::desk::{self, Calls, Seat};
use crate::socket::{Event, Socket};
use bytes::Bytes;
use ringkv_session::{Actions, ConnKey, Session, SessionConfig};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Events taken before a turn is made of them.
const BATCH: usize = 4096;
/// Keys that are sent before more calls are looked at: stores work on these while the rest is routed. A turn of everything that
/// waits would have this side and theirs work by turns.
const SLICE_KEYS: usize = 512;
/// Socket reads that may wait for the driver; beyond it sockets are not read.
const EVENTS_WAITING: usize = 256;

/// A session and the future that drives it, until the last `Calls` is dropped.
///
/// It spins for `spin` before it sleeps, see [`crate::Builder::spin`].
pub(crate) fn start(config: SessionConfig, spin: Duration) -> (Calls, impl Future<Output = ()> + Send + 'static) {
    let (calls, seat) = desk::open();
    let (events_in, events) = mpsc::channel(EVENTS_WAITING);
    let driver = Driver {
        session: Session::new(config, clock::now(), rand::random()),
        seat,
        events,
        events_in,
        sockets: BTreeMap::new(),
        actions: Actions::default(),
        look_ns: 0,
        spin,
    };
    (calls, driver.run())
}

struct Driver {
    session: Session,
    seat: Seat,
    events: mpsc::Receiver<(ConnKey, Event)>,
    events_in: mpsc::Sender<(ConnKey, Event)>,
    sockets: BTreeMap<ConnKey, Socket>,
    actions: Actions,
    /// When abandoned calls are looked for next, ns.
    look_ns: u64,
    spin: Duration,
}

impl Driver {
    async fn run(mut self) {
        let (mut calls, mut events) = (Vec::new(), Vec::new());
        self.turn();
        loop {
            self.spin().await;
            let due_ns = self.session.next_deadline_ns().saturating_sub(clock::now().boot_ns);
            // Never longer than an hour: the timer's clock may stand still while the machine sleeps.
            let due = Instant::now() + Duration::from_nanos(due_ns).min(Duration::from_secs(3600));
            tokio::select! {
                biased;
                taken = self.events.recv_many(&mut events, BATCH) => debug_assert!(taken > 0, "the driver holds a sender"),
                some = self.seat.take(&mut calls) => if !some { break },
                () = tokio::time::sleep_until(due) => {}
            }
            // Whatever else is there already travels in the same turn; tasks that are ready may add to it.
            tokio::task::yield_now().await;
            while let Some(event) = self.events.try_recv().ok().filter(|_| events.len() < BATCH) {
                events.push(event);
            }
            self.seat.take_more(&mut calls);
            events.drain(..).for_each(|(key, event)| self.event(key, event));
            let now = clock::now();
            let mut keys = 0;
            for (call, taken) in calls.drain(..) {
                keys += call.ask.keys();
                let name = self.session.submit(now, call);
                self.seat.seat(name, taken);
                if keys >= SLICE_KEYS {
                    self.turn();
                    keys = 0;
                }
            }
            self.turn();
        }
        tracing::debug!("the last client is gone");
        self.session.shut();
        self.turn();
    }

    /// Lets the sockets be looked at, again and again, for as long as nothing comes and the time to spin has not passed.
    async fn spin(&self) {
        if self.spin.is_zero() {
            return;
        }
        let since = Instant::now();
        while self.events.is_empty() && self.seat.is_idle() && since.elapsed() < self.spin {
            tokio::task::yield_now().await;
        }
    }

    fn event(&mut self, key: ConnKey, event: Event) {
        let now = clock::now();
        match event {
            Event::Opened(hello, stream) => {
                if let Some(socket) = self.sockets.get_mut(&key) {
                    socket.opened(stream);
                    tracing::debug!(conn = key.0, store = %hello.from, answer = ?hello.answer, "connected");
                    self.session.opened(now, key, &hello);
                }
            }
            Event::Received(bytes) => self.session.received(now, key, bytes),
            Event::Closed(why) => {
                tracing::debug!(conn = key.0, why, "connection closed");
                self.sockets.remove(&key);
                self.session.closed(now, key);
            }
        }
    }

    fn turn(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        self.session.turn(clock::now(), rand::random(), &mut actions);
        for (key, address, hello) in actions.connect.drain(..) {
            tracing::debug!(conn = key.0, %address, "connecting");
            self.sockets.insert(key, Socket::connect(key, address, hello, self.events_in.clone()));
        }
        for (key, bytes) in actions.send.drain(..) {
            self.send(key, bytes);
        }
        for key in actions.close.drain(..) {
            tracing::debug!(conn = key.0, "closing");
            self.sockets.remove(&key);
        }
        for (call, completion) in actions.done.drain(..) {
            self.seat.complete(call, completion);
        }
        self.actions = actions;
        self.forget_abandoned();
    }

    /// Calls whose future was dropped are not tried again. Nothing tells when one is, so they are looked for once a second.
    fn forget_abandoned(&mut self) {
        let now_ns = clock::now().boot_ns;
        if now_ns < self.look_ns {
            return;
        }
        self.look_ns = now_ns + 1_000_000_000;
        for call in self.seat.abandoned() {
            self.session.cancel(call);
        }
    }

    fn send(&mut self, key: ConnKey, bytes: Bytes) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.send(bytes);
        }
    }
}
