//! What one store sees of the world.

use bytes::Bytes;
use ringkv_storage::disk::Disk;
use ringkv_wire::hello::Hello;
use ringkv_wire::ids::Now;
use std::net::SocketAddr;

/// A connection, as its host numbers it; never used twice by one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Something the network did.
#[derive(Clone, Debug)]
pub enum NetEvent {
    /// A connection exists and the other side's hello was read. For an inbound one the store answers with a hello of its
    /// own (96 bytes by [`Host::send`]) before anything else; for an outbound one this is the answer to the hello given to
    /// [`Host::connect`].
    Opened {
        /// The connection.
        conn: ConnId,
        /// What the other side said.
        hello: Hello,
        /// Whether the other side connected.
        inbound: bool,
    },
    /// Bytes arrived, in order.
    Received {
        /// The connection.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The connection is gone, or never came to be. The last event of a connection; also after [`Host::close`].
    Closed {
        /// The connection.
        conn: ConnId,
    },
}

/// One core's view of the world, for one store: a cheap handle.
///
/// Implementations: `host/glommio` and `host/plain` in server/node, the virtual host in tools/kvsim. The host listens on
/// the store's address, reads each stranger's hello within 2 s, bounds how many have not said it, and only then tells the
/// store.
#[expect(async_fn_in_trait, reason = "one core drives one host: its futures never leave the thread")]
pub trait Host: Clone + 'static {
    /// The disk that holds the store.
    type Disk: Disk;

    /// The disk, rooted at the data directory.
    fn disk(&self) -> Self::Disk;
    /// The time. Cheap; take it after the turn's last event was drained.
    fn now(&self) -> Now;
    /// 64 random bits.
    fn random(&self) -> u64;
    /// Runs a task on this core, interleaved with the store's loop.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// Opens a connection and says `hello`. Answered by [`NetEvent::Opened`] or [`NetEvent::Closed`], never at once.
    fn connect(&self, to: SocketAddr, hello: Hello) -> ConnId;
    /// Queues bytes; they leave in order, coalesced with whatever else the turn sends. Never blocks. On a closed
    /// connection it does nothing.
    fn send(&self, conn: ConnId, bytes: Bytes);
    /// Bytes queued and not yet taken by the kernel.
    fn backlog_bytes(&self, conn: ConnId) -> usize;
    /// Closes after what is queued has left (or cannot leave). [`NetEvent::Closed`] follows.
    fn close(&self, conn: ConnId);
    /// Makes a present or the next [`Host::wait`] return.
    fn wake(&self);
    /// Returns when there are events, on [`Host::wake`], or at `until_boot_ns`.
    async fn wait(&self, until_boot_ns: u64);
    /// Moves all events into `out`, oldest first.
    fn take_events(&self, out: &mut Vec<NetEvent>);
}
