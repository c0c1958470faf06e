//! One TCP connection: a task that connects, says hello and reads; one that writes what did not go at once.

use bytes::{Bytes, BytesMut};
use ringkv_session::ConnKey;
use ringkv_wire::hello::{HELLO_BYTES, Hello};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// A read buffer's size, and the room below which a new one is taken. (Below malloc's threshold for mapping pages.)
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_LEAST: usize = 8 << 10;
/// Bytes that a store does not acknowledge for so long end the connection, ms. The stores' hosts keep to the same.
const USER_TIMEOUT_MS: u32 = 5_000;

/// What happened on a connection.
pub(crate) enum Event {
    /// The other side answered our hello.
    Opened(Hello, OwnedWriteHalf),
    /// Bytes came.
    Received(Bytes),
    /// It is gone, or never came to be.
    Closed(&'static str),
}

/// The driver's end. Dropping it closes the connection.
pub(crate) struct Socket {
    task: JoinHandle<()>,
    writer: Option<Writer>,
}

struct Writer {
    out: Arc<OwnedWriteHalf>,
    queue: mpsc::UnboundedSender<Bytes>,
    /// Bytes in `queue` or being written by its task.
    backlog: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(writer) = &self.writer {
            writer.task.abort();
        }
    }
}

impl Socket {
    /// Connects and says hello, in a task of its own. The session bounds how long it waits.
    pub fn connect(key: ConnKey, to: SocketAddr, hello: Hello, events: mpsc::Sender<(ConnKey, Event)>) -> Socket {
        let task = tokio::spawn(async move {
            let why = match open(to, &hello).await {
                Ok((answer, stream)) => {
                    let (from, to) = stream.into_split();
                    let opened = events.send((key, Event::Opened(answer, to))).await;
                    if opened.is_err() { "the driver is gone" } else { read(key, from, &events).await }
                }
                Err(error) => {
                    tracing::debug!(conn = key.0, %to, %error, "cannot connect");
                    "cannot connect"
                }
            };
            // A driver that is gone needs no telling.
            drop(events.send((key, Event::Closed(why))).await);
        });
        Socket { task, writer: None }
    }

    /// From now on bytes can be sent.
    pub fn opened(&mut self, out: OwnedWriteHalf) {
        let (queue, mut waiting) = mpsc::unbounded_channel::<Bytes>();
        let backlog = Arc::new(AtomicUsize::new(0));
        let out = Arc::new(out);
        let (slow, left) = (out.clone(), backlog.clone());
        let task = tokio::spawn(async move {
            while let Some(bytes) = waiting.recv().await {
                if write_all(&slow, &bytes).await.is_err() {
                    // The reader sees the same end and tells the driver.
                    return;
                }
                left.fetch_sub(bytes.len(), Ordering::AcqRel);
            }
        });
        self.writer = Some(Writer { out, queue, backlog, task });
    }

    /// Sends in order: at once what the kernel takes, the rest by the writing task. The session's windows bound the rest.
    pub fn send(&mut self, mut bytes: Bytes) {
        let Some(writer) = &self.writer else { return };
        if writer.backlog.load(Ordering::Acquire) == 0 {
            while !bytes.is_empty() {
                match writer.out.try_write(&bytes) {
                    Ok(written) => drop(bytes.split_to(written)),
                    Err(_) => break,
                }
            }
        }
        if !bytes.is_empty() {
            writer.backlog.fetch_add(bytes.len(), Ordering::AcqRel);
            // A writing task that is gone means a connection that is gone: the reader tells.
            drop(writer.queue.send(bytes));
        }
    }
}

async fn open(to: SocketAddr, hello: &Hello) -> io::Result<(Hello, TcpStream)> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    if let Err(error) = set_tcp_user_timeout(&stream, USER_TIMEOUT_MS) {
        tracing::debug!(%to, %error, "a kernel without TCP_USER_TIMEOUT: the session alone notices a store that is silent");
    }
    stream.write_all(&hello.encode()).await?;
    let mut answer = [0; HELLO_BYTES];
    stream.read_exact(&mut answer).await?;
    let answer = Hello::decode(&answer).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    Ok((answer, stream))
}

async fn read(key: ConnKey, mut from: OwnedReadHalf, events: &mpsc::Sender<(ConnKey, Event)>) -> &'static str {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() - buffer.len() < READ_BYTES_LEAST {
            buffer.reserve(READ_BYTES);
        }
        match from.read_buf(&mut buffer).await {
            Ok(0) => return "the store closed it",
            Ok(_) => {
                if events.send((key, Event::Received(buffer.split().freeze()))).await.is_err() {
                    return "the driver is gone";
                }
            }
            Err(_) => return "reading failed",
        }
    }
}

async fn write_all(stream: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
