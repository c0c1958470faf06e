//! One connection of host/glommio: a multishot receive into the core's provided buffers, one send in flight, and the way it
//! ends.

use crate::host::core::SHARE_BYTES;
use crate::host::glommio::Inner;
use crate::host::glommio::socket::{Shared, fd};
use crate::host::outbox::Outbox;
use bytes::Bytes;
use io_uring::opcode;
use ringkv_shard::host::{ConnId, NetEvent};
use ringkv_storage::disk::uring::ring::{Completion, Owner, Ticket};
use rustix::net::Shutdown;
use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// Pieces that one send takes.
const SLICES_MAX: usize = 16;
/// How long a closed connection may take to get rid of its backlog.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side may take to close after we did: dropping a socket with unread bytes resets the connection, and
/// a reset overtakes what was sent last.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// What may have arrived beyond that before nothing more is read.
const INBOX_BYTES_PAUSE: usize = 256 << 10;

const RECEIVE: u32 = 0;
const SEND: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// To be closed when all that is queued has left.
    Closing,
    /// All has left and the store was told; what still arrives is thrown away until the other side closes too.
    Lingering,
    /// Over; the socket closes when the ring lets go of it.
    Dead,
}

/// A connection's state, shared by the ring, the host and the tasks that open it.
pub(super) struct Conn {
    pub id: ConnId,
    /// Whether it counts as a client.
    pub client: bool,
    host: Rc<Inner>,
    socket: OnceCell<Shared>,
    state: Cell<State>,
    /// The receive in flight.
    receiving: Cell<Option<Ticket>>,
    /// Nothing is read until the store, or the other side, has caught up.
    paused: Cell<bool>,
    /// The receive in flight was asked to end.
    stopping: Cell<bool>,
    /// Arrived, and not yet given to the store.
    inbox: RefCell<Inbox>,
    out: RefCell<Outbox>,
    /// In the core's list of those to be flushed.
    dirty: Cell<bool>,
    sending: Cell<bool>,
    flight: UnsafeCell<Flight>,
    dialler: Cell<Option<Waker>>,
}

/// A multishot receive may bring a megabyte before the store gets its turn; a store that is given all of it at once answers
/// all of it at once. So it is given a share per turn.
#[derive(Default)]
struct Inbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// How much the store was given since it last took its events, and which time that was.
    given_bytes: usize,
    given_at: u64,
    /// The other side has closed behind all this.
    ended: bool,
}

/// What a send in flight points at. Belongs to the kernel while `sending`.
struct Flight {
    /// Clones: the outbox may be dropped meanwhile.
    pieces: Vec<Bytes>,
    slices: [MaybeUninit<libc::iovec>; SLICES_MAX],
    header: MaybeUninit<libc::msghdr>,
}

impl Conn {
    pub fn new(id: ConnId, client: bool, host: Rc<Inner>) -> Conn {
        Conn {
            id,
            client,
            host,
            socket: OnceCell::new(),
            state: Cell::new(State::Open),
            receiving: Cell::new(None),
            paused: Cell::new(false),
            stopping: Cell::new(false),
            inbox: RefCell::default(),
            out: RefCell::default(),
            dirty: Cell::new(false),
            sending: Cell::new(false),
            flight: UnsafeCell::new(Flight {
                pieces: Vec::new(),
                slices: [MaybeUninit::uninit(); SLICES_MAX],
                header: MaybeUninit::uninit(),
            }),
            dialler: Cell::new(None),
        }
    }

    /// Begins to move bytes over a socket on which both hellos were said.
    pub fn live(self: &Rc<Self>, socket: Shared) {
        crate::host::socket::prepare(&*socket);
        assert!(self.socket.set(socket).is_ok(), "a connection gets its socket once");
        self.receive();
        self.flush();
    }

    /// Resolves when the store no longer wants the connection.
    pub async fn unwanted(&self) {
        poll_fn(|cx| {
            self.dialler.set(Some(cx.waker().clone()));
            if self.state.get() == State::Open { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Queues bytes; answers how many are queued now. They leave with the core's next turn.
    pub fn queue(self: &Rc<Self>, bytes: Bytes) -> usize {
        let mut out = self.out.borrow_mut();
        if self.state.get() != State::Open || bytes.is_empty() {
            return out.bytes();
        }
        out.push(bytes);
        if !self.sending.get() && self.socket.get().is_some() && !self.dirty.replace(true) {
            self.host.core.touch(self.clone());
        }
        out.bytes()
    }

    pub fn backlog_bytes(&self) -> usize {
        self.out.borrow().bytes()
    }

    /// Closes once all that is queued has left, or could not in time.
    pub fn close(self: &Rc<Self>) {
        if self.state.get() != State::Open {
            return;
        }
        if self.socket.get().is_none() {
            return self.kill();
        }
        self.state.set(State::Closing);
        if self.out.borrow().is_empty() {
            return self.linger();
        }
        self.end_after(CLOSE_TIMEOUT, State::Closing);
    }

    /// Closes now; what is queued is dropped.
    pub fn kill(&self) {
        if self.state.replace(State::Dead) == State::Dead {
            return;
        }
        *self.out.borrow_mut() = Outbox::default();
        self.forget_inbox();
        // Ends what is in flight, so that the ring lets go.
        if let Some(socket) = self.socket.get() {
            let _ = rustix::net::shutdown(&**socket, Shutdown::Both);
        }
        self.host.gone(self);
        if let Some(dialler) = self.dialler.take() {
            dialler.wake();
        }
    }

    /// Lets the last bytes arrive: closes our half and reads until the other side closes its own, for a bounded time.
    fn linger(self: &Rc<Self>) {
        self.state.set(State::Lingering);
        self.forget_inbox();
        self.host.gone(self);
        if let Some(socket) = self.socket.get() {
            let _ = rustix::net::shutdown(&**socket, Shutdown::Write);
        }
        self.paused.set(false);
        self.receive();
        self.end_after(LINGER, State::Lingering);
    }

    /// Kills the connection unless it has left `state` by then.
    fn end_after(self: &Rc<Self>, time: Duration, state: State) {
        let conn = Rc::downgrade(self);
        glommio::spawn_local(async move {
            glommio::timer::sleep(time).await;
            if let Some(conn) = conn.upgrade()
                && conn.state.get() == state
            {
                conn.kill();
            }
        })
        .detach();
    }

    /// Begins to receive, unless it does already or must not.
    fn receive(self: &Rc<Self>) {
        let Some(socket) = self.socket.get() else { return };
        if self.receiving.get().is_some() || self.paused.get() || self.state.get() == State::Dead {
            return;
        }
        let entry = opcode::RecvMulti::new(fd(socket), self.host.core.provided.group()).build();
        // SAFETY: the descriptor is the connection's, which the ring holds; the buffers are the ring's.
        let ticket = unsafe { self.host.core.ring.push(entry, self.clone(), RECEIVE) };
        self.receiving.set(Some(ticket));
    }

    fn received(self: &Rc<Self>, done: Completion) {
        // SAFETY: the completion is of a receive from that group, and taken here, once.
        let arrived = unsafe { self.host.core.provided.take(&done) };
        let stopped = done.last && self.stopping.get();
        if done.last {
            self.receiving.set(None);
            self.stopping.set(false);
        }
        match done.result {
            n if n > 0 => {
                if let (State::Open, Some(bytes)) = (self.state.get(), arrived) {
                    let mut inbox = self.inbox.borrow_mut();
                    inbox.bytes += bytes.len();
                    self.host.received_bytes.set(self.host.received_bytes.get() + bytes.len());
                    inbox.queue.push_back(bytes);
                }
            }
            // Out of buffers (they are given back at once), or interrupted.
            e if matches!(-e, libc::ENOBUFS | libc::EINTR | libc::EAGAIN) => {}
            // A pause, which may be over. Else the whole ring is ending.
            e if e == -libc::ECANCELED && stopped => {}
            // The end: what came before it is still the store's.
            0 if self.inbox.borrow().bytes > 0 => self.inbox.borrow_mut().ended = true,
            _ => return self.kill(),
        }
        self.read_on();
    }

    /// Gives the store its share of what has arrived, and receives more or not, as the limits say.
    pub fn read_on(self: &Rc<Self>) {
        if self.state.get() == State::Open {
            self.deliver();
            let inbox = self.inbox.borrow();
            if inbox.ended && inbox.bytes == 0 {
                drop(inbox);
                return self.kill();
            }
            let behind = self.host.received_bytes.get() >= self.host.limits.received_bytes_pause;
            let pause = behind || inbox.ended || inbox.bytes >= INBOX_BYTES_PAUSE || self.clogged();
            if pause || inbox.bytes > 0 {
                self.host.held.borrow_mut().insert(self.id, self.clone());
            }
            if pause
                && !self.paused.get()
                && let Some(ticket) = self.receiving.get()
            {
                self.host.core.ring.cancel(ticket);
                self.stopping.set(true);
            }
            self.paused.set(pause);
        }
        self.receive();
    }

    /// Whether the other side takes its answers too slowly to be given more.
    fn clogged(&self) -> bool {
        self.client && self.backlog_bytes() > self.host.limits.backlog_bytes_pause
    }

    fn deliver(&self) {
        let mut inbox = self.inbox.borrow_mut();
        if inbox.given_at != self.host.takes.get() {
            (inbox.given_at, inbox.given_bytes) = (self.host.takes.get(), 0);
        }
        let share = if self.client { SHARE_BYTES } else { usize::MAX };
        while inbox.given_bytes < share && !self.clogged() {
            let Some(bytes) = inbox.queue.pop_front() else { return };
            inbox.bytes -= bytes.len();
            inbox.given_bytes += bytes.len();
            self.host.push(NetEvent::Received { conn: self.id, bytes });
        }
    }

    fn forget_inbox(&self) {
        let inbox = self.inbox.take();
        self.host.received_bytes.set(self.host.received_bytes.get() - inbox.bytes);
    }

    /// Sends what is queued, unless a send is in flight: its end looks at the queue again.
    pub fn flush(self: &Rc<Self>) {
        self.dirty.set(false);
        let Some(socket) = self.socket.get() else { return };
        let mut out = self.out.borrow_mut();
        if self.sending.get() || out.is_empty() {
            return;
        }
        // SAFETY: nothing is in flight, so the kernel does not look at it, and no other borrow of it outlives a call.
        let flight = unsafe { &mut *self.flight.get() };
        flight.pieces.extend(out.pieces().take(SLICES_MAX).cloned());
        let entry = match &flight.pieces[..] {
            [piece] => {
                opcode::Send::new(fd(socket), piece.as_ptr(), piece.len() as u32).flags(libc::MSG_NOSIGNAL).build()
            }
            pieces => {
                for (slice, piece) in flight.slices.iter_mut().zip(pieces) {
                    slice.write(libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() });
                }
                // SAFETY: a header of zeros has no name, no control data and no slices.
                let header = flight.header.write(unsafe { std::mem::zeroed() });
                header.msg_iov = flight.slices.as_mut_ptr().cast();
                header.msg_iovlen = pieces.len();
                opcode::SendMsg::new(fd(socket), header).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        };
        self.sending.set(true);
        // SAFETY: descriptor, header, slices and pieces are in the connection, which the ring holds and which does not move;
        // while `sending`, nothing touches the flight. The pieces' bytes are shared and never written.
        unsafe { self.host.core.ring.push(entry, self.clone(), SEND) };
    }

    fn sent(self: &Rc<Self>, result: i32) {
        self.sending.set(false);
        // SAFETY: the send has completed, so the kernel is done with it.
        unsafe { &mut *self.flight.get() }.pieces.clear();
        if self.state.get() == State::Dead {
            return;
        }
        match result {
            n if n > 0 => self.out.borrow_mut().advance(n as usize),
            e if matches!(-e, libc::EINTR | libc::EAGAIN) => {}
            _ => return self.kill(),
        }
        self.flush();
        if self.state.get() == State::Closing && self.out.borrow().is_empty() {
            self.linger();
        }
        if self.paused.get() {
            self.read_on();
        }
    }
}

impl Owner for Conn {
    fn complete(self: Rc<Self>, tag: u32, done: Completion) {
        match tag {
            RECEIVE => self.received(done),
            _ => self.sent(done.result),
        }
    }
}
