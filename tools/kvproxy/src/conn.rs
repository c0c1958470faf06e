//! One client: commands in, answers out, and what it may cost.

use crate::budget::TOO_MUCH_HELD;
use crate::door::Shared;
use crate::limits::{PENDING_BYTES_MAX, PENDING_MAX, READ_BYTES};
use crate::local::State;
use crate::outbox::Outbox;
use crate::resp::requests::Requests;
use crate::resp::{Version, write};
use crate::ring::link::would_block;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A client that has all its answers is listened to no longer than this.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client left, or said `QUIT`, or the proxy drains: everything was answered.
    Done,
    /// It sent what is no command.
    Protocol,
    /// It sent no command and took no bytes for too long.
    Idle,
    /// Too many bytes wait for it, or for all.
    Memory,
    /// The socket failed.
    Socket,
}

/// A client's connection.
struct Conn {
    stream: TcpStream,
    shared: Rc<Shared>,
    outbox: Rc<Outbox>,
    requests: Requests,
    /// Bytes of `requests` that the budget knows.
    counted: usize,
    state: State,
    /// The version of the commands that are not answered: those of another wait for them, since they take other ways.
    spoken: Version,
    sending: Vec<u8>,
    sent: usize,
    /// Bytes of commands since all were answered.
    asked_bytes: usize,
    /// Nothing more is read: it left, quits, is drained or talks nonsense.
    shut: bool,
    nonsense: bool,
    /// Whole commands may be left in `requests`.
    more: bool,
    /// When a command came or an answer left.
    progress: Instant,
}

/// Serves a client until it ends, one way or another. `drain` tells it to end as soon as it has its answers.
pub async fn serve(stream: TcpStream, id: u64, shared: Rc<Shared>, drain: watch::Receiver<bool>) -> End {
    if stream.set_nodelay(true).is_err() {
        return End::Socket;
    }
    let outbox = Outbox::new(shared.limits.output_bytes, shared.budget.clone(), shared.metrics.clone());
    let mut conn = Conn {
        stream,
        outbox: outbox.clone(),
        requests: Requests::default(),
        counted: 0,
        state: State::new(id),
        spoken: Version::default(),
        sending: Vec::new(),
        sent: 0,
        asked_bytes: 0,
        shut: false,
        nonsense: false,
        more: false,
        progress: Instant::now(),
        shared: shared.clone(),
    };
    let end = conn.run(drain).await;
    if matches!(end, End::Done | End::Protocol) {
        // In time it has left, or it never will: either is an end.
        let _ = tokio::time::timeout(LINGER, conn.linger()).await;
    }
    outbox.close();
    shared.budget.change(conn.counted, 0);
    end
}

impl Conn {
    async fn run(&mut self, mut drain: watch::Receiver<bool>) -> End {
        let mut timer = pin!(tokio::time::sleep(self.shared.limits.idle));
        loop {
            self.take_commands();
            if let Err(end) = self.flush() {
                return end;
            }
            // While commands wait to be taken, nothing more is read.
            let reads = !self.shut && !self.more;
            let (stream, outbox) = (&self.stream, &self.outbox);
            let writes = self.sent < self.sending.len();
            let step = tokio::select! {
                ready = stream.readable(), if reads => ready.is_ok().then_some(Step::Read),
                ready = stream.writable(), if writes => ready.is_ok().then_some(Step::Look),
                () = outbox.wake.notified() => Some(Step::Look),
                () = &mut timer => Some(Step::Timer),
                // The sender lives as long as the door does.
                _ = drain.changed(), if !self.shut => Some(Step::Drain),
            };
            match step {
                None => return End::Socket,
                Some(Step::Look) => {}
                Some(Step::Drain) => self.shut = true,
                Some(Step::Read) => match self.receive() {
                    Err(end) => return end,
                    // A client with much to say lets the others speak in between.
                    Ok(bytes) if bytes == READ_BYTES => tokio::task::yield_now().await,
                    Ok(_) => {}
                },
                Some(Step::Timer) => {
                    let left = self.shared.limits.idle.saturating_sub(self.progress.elapsed());
                    let waits_for_us = self.outbox.pending() > 0;
                    if left.is_zero() && !waits_for_us {
                        return End::Idle;
                    }
                    let again = if left.is_zero() { self.shared.limits.idle } else { left };
                    timer.as_mut().reset(tokio::time::Instant::now() + again);
                }
            }
        }
    }

    /// Lets the client take its answers. A socket that is closed while bytes lie in it that nobody read resets the connection, and
    /// takes the answers with it that are still on their way.
    async fn linger(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut self.shared.scratch.borrow_mut()) {
                Ok(0) => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }

    /// Reads what is there; the number of bytes.
    fn receive(&mut self) -> Result<usize, End> {
        let mut scratch = self.shared.scratch.borrow_mut();
        let bytes = match self.stream.try_read(&mut scratch) {
            Ok(0) => {
                self.shut = true;
                return Ok(0);
            }
            read => would_block(read).map_err(|_| End::Socket)?,
        };
        self.shared.metrics.bytes_in.inc_by(bytes as u64);
        self.requests.push(scratch.get(..bytes).unwrap_or_default());
        self.more = bytes > 0;
        Ok(bytes)
    }

    /// Takes the whole commands that are there, as many as may be asked at once.
    fn take_commands(&mut self) {
        if !self.more || !self.shared.backend.is_free(&self.outbox) {
            return;
        }
        if self.outbox.pending() == 0 {
            (self.asked_bytes, self.spoken) = (0, self.state.version);
        }
        let (shared, outbox, state) = (&*self.shared, &self.outbox, &mut self.state);
        let mut batch = shared.backend.batch(self.spoken, &shared.budget);
        let (mut taken, mut bytes) = (0, 0);
        let fits = |bytes| outbox.pending() < PENDING_MAX && self.asked_bytes + bytes < PENDING_BYTES_MAX;
        while fits(bytes) && state.version == self.spoken && !state.quitting {
            let next = self.requests.next(|command| {
                bytes += command.raw.len();
                match state.answer(command, shared) {
                    Some(answer) => outbox.say(&answer),
                    None => batch.take(command, outbox),
                }
            });
            match next {
                Ok(true) => taken += 1,
                Ok(false) => {
                    self.more = false;
                    break;
                }
                Err(error) => {
                    outbox.say(&write::error_reply(&format!("ERR Protocol error: {error}")));
                    (self.more, self.shut, self.nonsense) = (false, true, true);
                    break;
                }
            }
        }
        batch.send(outbox);
        if self.state.quitting {
            (self.more, self.shut) = (false, true);
        }
        self.asked_bytes += bytes;
        self.shared.metrics.commands.inc_by(taken);
        if taken > 0 {
            self.progress = Instant::now();
        }
        self.requests.settle();
        if !self.shared.budget.change(self.counted, self.requests.held()) {
            self.outbox.say(TOO_MUCH_HELD);
            self.outbox.lose();
        }
        self.counted = self.requests.held();
    }

    /// Writes what can be written; the end when everything is done, or can never be.
    fn flush(&mut self) -> Result<(), End> {
        loop {
            if self.sent == self.sending.len() {
                self.sending.clear();
                self.sending.shrink_to(READ_BYTES);
                self.sent = 0;
                self.outbox.take(&mut self.sending);
            }
            if self.sending.is_empty() {
                self.sending = Vec::new();
                break;
            }
            let rest = self.sending.get(self.sent..).unwrap_or_default();
            let written = would_block(self.stream.try_write(rest)).map_err(|_| End::Socket)?;
            if written == 0 {
                break;
            }
            self.sent += written;
            self.progress = Instant::now();
            self.shared.metrics.bytes_out.inc_by(written as u64);
        }
        match () {
            () if self.outbox.is_lost() => Err(End::Memory),
            () if !self.shut || self.more || self.outbox.pending() > 0 || !self.sending.is_empty() => Ok(()),
            () => Err(if self.nonsense { End::Protocol } else { End::Done }),
        }
    }
}

/// What happened.
enum Step {
    Read,
    Look,
    Timer,
    Drain,
}

/// Says why a client is turned away, if it can be said at once.
pub fn turn_away(stream: &TcpStream) -> io::Result<()> {
    would_block(stream.try_write(b"-ERR max number of clients reached\r\n")).map(drop)
}
