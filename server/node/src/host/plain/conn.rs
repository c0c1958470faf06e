//! One connection of host/plain: what is queued to leave, and the task that moves its bytes.

use crate::host::core::SHARE_BYTES;
use crate::host::outbox::Outbox;
use crate::host::plain::Inner;
use bytes::Bytes;
use ringkv_shard::host::{ConnId, NetEvent};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Pieces that one `writev` takes.
const SLICES_MAX: usize = 64;
/// A block of memory that sockets are read into, and the least room left in it to read on.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MIN: usize = 16 << 10;
/// How long a closed connection may take to get rid of its backlog.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other side may take to close after we did: dropping a socket with unread bytes resets the connection, and
/// a reset overtakes what was sent last.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// To be closed when all that is queued has left.
    Closing,
    /// To be dropped as it is.
    Dead,
}

/// A connection's state, shared by its task and the host.
pub(super) struct Conn {
    pub id: ConnId,
    /// Whether it counts as a client.
    pub client: bool,
    state: Cell<State>,
    out: RefCell<Outbox>,
    task: RefCell<Option<Waker>>,
    /// Bytes given to the store since it last took its events, and which time that was.
    given: Cell<(u64, usize)>,
}

impl Conn {
    pub fn new(id: ConnId, client: bool) -> Conn {
        let (state, out, task) = (Cell::new(State::Open), RefCell::default(), RefCell::default());
        Conn { id, client, state, out, task, given: Cell::default() }
    }

    /// Queues bytes; answers how many are queued now. The task sends them when this turn is over.
    pub fn queue(&self, bytes: Bytes) -> usize {
        let mut out = self.out.borrow_mut();
        if self.state.get() != State::Open || bytes.is_empty() {
            return out.bytes();
        }
        out.push(bytes);
        self.rouse();
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
        self.state.set(State::Closing);
        self.rouse();
        let conn = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(CLOSE_TIMEOUT).await;
            if let Some(conn) = conn.upgrade() {
                conn.kill();
            }
        });
    }

    /// Closes now; what is queued is dropped.
    pub fn kill(&self) {
        self.state.set(State::Dead);
        *self.out.borrow_mut() = Outbox::default();
        self.rouse();
    }

    /// Resolves when the store no longer wants the connection.
    pub async fn unwanted(&self) {
        poll_fn(|cx| {
            *self.task.borrow_mut() = Some(cx.waker().clone());
            if self.state.get() == State::Open { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    fn rouse(&self) {
        if let Some(task) = self.task.borrow_mut().take() {
            task.wake();
        }
    }
}

/// Moves a connection's bytes until it ends, and tells the store.
pub(super) async fn live(host: Rc<Inner>, conn: Rc<Conn>, mut stream: TcpStream) {
    crate::host::socket::prepare(&stream);
    let (mut from, mut to) = stream.split();
    // The writer first: its progress may let the reader go on in the same poll.
    let flushed = tokio::select! {
        biased;
        flushed = write(&conn, &mut to) => flushed,
        () = read(&host, &conn, &mut from) => false,
    };
    host.gone(&conn);
    if flushed {
        linger(&mut stream).await;
    }
}

/// Writes what is queued, all of a turn in one call. Ends with true when the connection was closed and nothing is left.
async fn write(conn: &Conn, to: &mut WriteHalf<'_>) -> bool {
    poll_fn(|cx| {
        *conn.task.borrow_mut() = Some(cx.waker().clone());
        loop {
            let mut out = conn.out.borrow_mut();
            match conn.state.get() {
                State::Dead => return Poll::Ready(false),
                State::Closing if out.is_empty() => return Poll::Ready(true),
                State::Open if out.is_empty() => return Poll::Pending,
                State::Open | State::Closing => {}
            }
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = slices.iter_mut().zip(out.pieces()).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
            let wrote = ready!(Pin::new(&mut *to).poll_write_vectored(cx, &slices[..filled]));
            match wrote {
                Ok(0) | Err(_) => return Poll::Ready(false),
                Ok(n) => out.advance(n),
            }
        }
    })
    .await
}

/// Reads while the store keeps up. Ends at the other side's end.
async fn read(host: &Inner, conn: &Conn, from: &mut ReadHalf<'_>) {
    loop {
        poll_fn(|cx| {
            let behind = host.received_bytes.get() >= host.limits.received_bytes_pause;
            let clogged = conn.client && conn.backlog_bytes() > host.limits.backlog_bytes_pause;
            // Given all that a socket may bring before its turn, a store would answer all of it at once.
            let (at, given) = conn.given.get();
            let sated = conn.client && at == host.takes.get() && given >= SHARE_BYTES;
            if behind || clogged || sated {
                host.paused.borrow_mut().insert(conn.id, cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let got = poll_fn(|cx| {
            let mut scratch = host.scratch.borrow_mut();
            if scratch.capacity() < READ_BYTES_MIN {
                scratch.reserve(READ_BYTES);
            }
            // Stateless: it may be made anew at each poll.
            let got = ready!(pin!(from.read_buf(&mut *scratch)).poll(cx));
            Poll::Ready(got.map(|_| scratch.split().freeze()))
        })
        .await;
        match got {
            Ok(bytes) if !bytes.is_empty() => {
                if conn.state.get() == State::Open {
                    let (at, given) = conn.given.get();
                    let before = if at == host.takes.get() { given } else { 0 };
                    conn.given.set((host.takes.get(), before + bytes.len()));
                    host.push(NetEvent::Received { conn: conn.id, bytes });
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Lets the last bytes arrive: closes our half and reads until the other side closes its own, for a bounded time.
pub(super) async fn linger(stream: &mut TcpStream) {
    let patient = async {
        if stream.shutdown().await.is_ok() {
            let mut rest = [0; 4096];
            while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
        }
    };
    // Whoever does not close in time is reset.
    let _ = tokio::time::timeout(LINGER, patient).await;
}
