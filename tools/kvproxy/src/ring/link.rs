//! The connection to one Redis server that all clients share: commands out, answers back to who waits, in order.

use crate::limits::{PROBE_TIMEOUT, PROBES_STILL_MAX, QUEUE_BYTES_MAX, READ_BYTES};
use crate::outbox::{Outbox, Place};
use crate::resp::Version;
use crate::resp::replies::{Replies, Reply};
use crate::resp::write;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

/// Who waits for an answer.
struct Waiter {
    /// `None`: the answer to the link's own greeting.
    outbox: Option<Rc<Outbox>>,
    place: Place,
}

/// A link: dialled when there is something to send, and again after it broke.
pub struct Link {
    server: String,
    version: Version,
    queue: RefCell<Queue>,
    wake: Notify,
    /// The server does not answer: what is there must end.
    cut: Cell<bool>,
    /// Bytes have moved since the last look.
    moved: Cell<bool>,
    /// Looks in a row that found commands waiting and no byte moved.
    still: Cell<u32>,
    /// Told when the connection fails.
    failed: Rc<Notify>,
}

#[derive(Default)]
struct Queue {
    /// Commands that no byte was sent of.
    out: Vec<u8>,
    /// Who waits, in the order of commands.
    waiting: VecDeque<Waiter>,
    /// Those at its end whose commands are in `out`.
    unsent: usize,
}

impl Link {
    /// A link to `server` that speaks `version`. Each failure is told to `failed`.
    pub fn new(server: &str, version: Version, failed: Rc<Notify>) -> Rc<Link> {
        let (queue, wake) = (RefCell::default(), Notify::new());
        let (cut, moved, still) = (Cell::default(), Cell::default(), Cell::default());
        Rc::new(Link { server: server.to_owned(), version, queue, wake, cut, moved, still, failed })
    }

    /// Sends a command; its answer goes to `place`.
    pub fn send(&self, command: &[u8], outbox: &Rc<Outbox>, place: Place) {
        let mut queue = self.queue.borrow_mut();
        if queue.out.len() + command.len() > QUEUE_BYTES_MAX {
            drop(queue);
            let text = format!("NOTAPPLIED too many commands wait for {}", self.server);
            return outbox.answer(place, Reply::Whole(&write::error_reply(&text)));
        }
        queue.out.extend_from_slice(command);
        queue.waiting.push_back(Waiter { outbox: Some(outbox.clone()), place });
        queue.unsent += 1;
        drop(queue);
        self.wake.notify_one();
    }

    /// The server is given up: commands without an answer fail now. A connection without any ends too, since the server
    /// that returns may not know it any more.
    pub fn cut(&self) {
        self.cut.set(true);
        self.wake.notify_one();
    }

    /// The server has answered a probe. A connection on which nothing moves for many of them, though commands wait, was lost
    /// on the way without a word.
    pub fn look(&self) {
        let well = self.moved.take() || self.queue.borrow().waiting.is_empty();
        self.still.set(if well { 0 } else { self.still.get() + 1 });
        if self.still.get() >= PROBES_STILL_MAX {
            self.still.set(0);
            self.cut();
        }
    }

    /// Serves the link for as long as the proxy lives.
    pub async fn run(self: Rc<Link>) {
        let mut scratch = vec![0; READ_BYTES];
        loop {
            while self.queue.borrow().waiting.is_empty() {
                self.wake.notified().await;
            }
            let dialled = timeout(PROBE_TIMEOUT, TcpStream::connect(&self.server)).await;
            let error = match dialled.map_err(io::Error::from).flatten() {
                Ok(stream) => self.drive(stream, &mut scratch).await,
                Err(error) => error,
            };
            self.fail(&error);
            self.failed.notify_one();
        }
    }

    /// Moves bytes until the connection ends; says why it did.
    async fn drive(&self, stream: TcpStream, scratch: &mut [u8]) -> io::Error {
        // Without it a command waits for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            return error;
        }
        tracing::debug!(server = self.server, version = ?self.version, "connected");
        // What was cut before was another connection.
        self.cut.set(false);
        let (mut replies, mut sending, mut sent) = (Replies::default(), self.greeting(), 0);
        loop {
            if sent == sending.len() {
                sending.clear();
                sent = 0;
                let mut queue = self.queue.borrow_mut();
                std::mem::swap(&mut queue.out, &mut sending);
                queue.unsent = 0;
            }
            if self.cut.take() {
                return io::ErrorKind::TimedOut.into();
            }
            let moved = tokio::select! {
                ready = stream.readable() => ready.and_then(|()| self.receive(&stream, &mut replies, scratch)),
                ready = stream.writable(), if sent < sending.len() => ready.and_then(|()| {
                    let bytes = would_block(stream.try_write(sending.get(sent..).unwrap_or_default()))?;
                    sent += bytes;
                    self.moved.set(self.moved.get() || bytes > 0);
                    Ok(())
                }),
                () = self.wake.notified() => Ok(()),
            };
            if let Err(error) = moved {
                return error;
            }
        }
    }

    /// What is said first.
    fn greeting(&self) -> Vec<u8> {
        if self.version == Version::Two {
            return Vec::new();
        }
        let mut queue = self.queue.borrow_mut();
        let place = queue.waiting.front().map(|waiter| waiter.place);
        place.into_iter().for_each(|place| queue.waiting.push_front(Waiter { outbox: None, place }));
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n".to_vec()
    }

    fn receive(&self, stream: &TcpStream, replies: &mut Replies, scratch: &mut [u8]) -> io::Result<()> {
        let bytes = match stream.try_read(scratch) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => would_block(read)?,
        };
        self.moved.set(self.moved.get() || bytes > 0);
        let mut unasked = false;
        let each = |reply: Reply<'_>| {
            let waiter = self.queue.borrow_mut().waiting.pop_front();
            unasked |= waiter.is_none();
            if let Some(Waiter { outbox: Some(outbox), place }) = waiter {
                outbox.answer(place, reply);
            }
        };
        replies.take(scratch.get(..bytes).unwrap_or_default(), each).map_err(io::Error::other)?;
        if unasked { Err(io::Error::other("an answer that nobody asked for")) } else { Ok(()) }
    }

    /// Answers who waits: of a command that was sent it is not known whether it was done.
    fn fail(&self, error: &io::Error) {
        let queue = self.queue.take();
        let sent = queue.waiting.len() - queue.unsent;
        tracing::warn!(server = self.server, %error, sent, unsent = queue.unsent, "the connection failed");
        let unknown = format!("UNKNOWN the connection to {} was lost before its answer: {error}", self.server);
        let not_sent = format!("NOTAPPLIED {} cannot be reached: {error}", self.server);
        let [unknown, not_sent] = [unknown, not_sent].map(|text| write::error_reply(&text));
        for (at, waiter) in queue.waiting.into_iter().enumerate() {
            let text = if at < sent { &unknown } else { &not_sent };
            waiter.outbox.into_iter().for_each(|outbox| outbox.answer(waiter.place, Reply::Whole(text)));
        }
    }
}

/// A call that would have had to wait has moved nothing.
pub(crate) fn would_block(moved: io::Result<usize>) -> io::Result<usize> {
    match moved {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;
    use std::time::Duration;
    use tokio::runtime::Builder;
    use tokio::task::{LocalSet, spawn_local};

    fn outbox() -> Rc<Outbox> {
        Outbox::new(1 << 20, Budget::new(1 << 20), Rc::default())
    }

    fn taken(outbox: &Outbox) -> String {
        let mut out = Vec::new();
        outbox.take(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_no_byte_was_sent_of_is_not_applied() {
        let (failed, outbox) = (Rc::new(Notify::new()), outbox());
        let link = Link::new("127.0.0.1:1", Version::Three, failed.clone());
        link.send(b"*1\r\n$4\r\nPING\r\n", &outbox, outbox.wait());
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            spawn_local(link.run());
            timeout(Duration::from_secs(30), failed.notified()).await.unwrap();
        });
        assert!(taken(&outbox).starts_with("-NOTAPPLIED 127.0.0.1:1 cannot be reached: "));
    }

    #[test]
    fn what_waits_for_a_server_is_bounded() {
        let link = Link::new("a:1", Version::Two, Rc::default());
        let (half, waits, refused) = (vec![b'x'; QUEUE_BYTES_MAX / 2], outbox(), outbox());
        (0..2).for_each(|_| link.send(&half, &waits, waits.wait()));
        link.send(b"x", &refused, refused.wait());
        assert_eq!((taken(&waits).as_str(), waits.pending()), ("", 2));
        assert!(taken(&refused).starts_with("-NOTAPPLIED too many commands wait for a:1"));
        assert_eq!(link.queue.borrow().out.len(), QUEUE_BYTES_MAX);
    }
}
