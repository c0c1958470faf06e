//! The door of a store: a multishot accept, and the hello of each stranger within its time.

use crate::door::HELLO_TIMEOUT;
use crate::host::glommio::Inner;
use crate::host::glommio::socket::{Shared, read_hello};
use io_uring::{opcode, types};
use ringkv_storage::disk::uring::ring::{Completion, Owner, Ticket};
use ringkv_wire::hello::{Answer, Hello};
use rustix::net::Shutdown;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Pause after an accept that failed, for instance for want of descriptors: the connection stays in the kernel's queue, so
/// going on at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket, and those who came through it and have not said hello.
pub(super) struct Door {
    host: Rc<Inner>,
    listener: TcpListener,
    accepting: Cell<Option<Ticket>>,
    open: Cell<bool>,
    /// Oldest first.
    silent: RefCell<BTreeMap<u64, Shared>>,
    next: Cell<u64>,
    failures: Cell<u64>,
}

impl Door {
    /// Opens the door. The listener is used through the ring, so it is made blocking: the ring waits for it.
    pub fn open(host: Rc<Inner>, listener: TcpListener) -> io::Result<Rc<Door>> {
        listener.set_nonblocking(false)?;
        let door = Rc::new(Door {
            host,
            listener,
            accepting: Cell::new(None),
            open: Cell::new(true),
            silent: RefCell::default(),
            next: Cell::new(0),
            failures: Cell::new(0),
        });
        door.accept();
        Ok(door)
    }

    /// Nobody comes in any more.
    pub fn close(&self) {
        self.open.set(false);
        // Refuses at once, also when the ring cannot give up the accept any more.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(ticket) = self.accepting.take() {
            self.host.core.ring.cancel(ticket);
        }
        while self.close_oldest() {}
    }

    fn accept(self: &Rc<Self>) {
        if !self.open.get() || self.accepting.get().is_some() {
            return;
        }
        let fd = types::Fd(self.listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: the descriptor is the door's, which the ring holds.
        let ticket = unsafe { self.host.core.ring.push(entry, self.clone(), 0) };
        self.accepting.set(Some(ticket));
    }

    /// Above the limit the oldest of the silent is closed: a friend says hello at once.
    fn came(self: &Rc<Self>, socket: OwnedFd) {
        while self.silent.borrow().len() >= self.host.limits.silent_max.max(1) {
            self.close_oldest();
        }
        let number = self.next.get();
        self.next.set(number + 1);
        let socket = Rc::new(socket);
        self.silent.borrow_mut().insert(number, socket.clone());
        let door = self.clone();
        glommio::spawn_local(async move {
            let hello = door.listen(&socket).await;
            door.silent.borrow_mut().remove(&number);
            match hello {
                Ok(hello) => door.host.welcome(socket, hello),
                Err(e) => tracing::debug!(error = %e, "a connection without a hello"),
            }
        })
        .detach();
    }

    async fn listen(&self, socket: &Shared) -> io::Result<Hello> {
        let hello = tokio::select! {
            biased;
            hello = read_hello(&self.host.core.ring, socket) => hello?,
            () = glommio::timer::sleep(HELLO_TIMEOUT) => return Err(io::ErrorKind::TimedOut.into()),
        };
        if hello.answer != Answer::None {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer where a first hello was due"));
        }
        Ok(hello)
    }

    fn close_oldest(&self) -> bool {
        let Some((_, socket)) = self.silent.borrow_mut().pop_first() else { return false };
        // Its task sees the end, and drops it.
        let _ = rustix::net::shutdown(&*socket, Shutdown::Both);
        true
    }

    fn failed(self: &Rc<Self>, error: i32) {
        // Once per power of two: under a flood the log must not become the next problem.
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if failures.is_power_of_two() {
            let error = io::Error::from_raw_os_error(error);
            tracing::warn!(%error, failures, "cannot accept connections");
        }
        self.close_oldest();
        let door = self.clone();
        glommio::spawn_local(async move {
            glommio::timer::sleep(ACCEPT_PAUSE).await;
            door.accept();
        })
        .detach();
    }
}

impl Owner for Door {
    fn complete(self: Rc<Self>, _: u32, done: Completion) {
        if done.last {
            self.accepting.set(None);
        }
        if done.result >= 0 {
            // SAFETY: the kernel opened it for this accept, and this is the only one who hears of it.
            let socket = unsafe { OwnedFd::from_raw_fd(done.result) };
            if self.open.get() {
                self.came(socket);
            }
        }
        if !done.last || !self.open.get() {
            return;
        }
        match -done.result {
            // The other side was gone before we looked.
            libc::ECONNABORTED | libc::EINTR | libc::EAGAIN => self.accept(),
            error if error > 0 => self.failed(error),
            _ => self.accept(),
        }
    }
}
