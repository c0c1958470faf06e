//! Every limit of the proxy, once.

use std::time::Duration;

/// Longest command, bytes, and longest string in it: the longest value of ringkv is 16 MiB.
pub const COMMAND_BYTES_MAX: usize = 32 << 20;
/// Most arguments of a command, its name among them.
pub const ARGUMENTS_MAX: usize = 65_536;
/// Longest line: an inline command, an error, a number.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Arrays in arrays, in replies. Redis itself nests a handful.
pub const DEPTH_MAX: usize = 32;
/// Longest reply of a Redis server; a longer one becomes an error.
pub const REPLY_BYTES_MAX: usize = 64 << 20;
/// Commands of one client without an answer: beyond it no more are taken, and no more than [`READ_BYTES`] read.
pub const PENDING_MAX: usize = 1024;
/// Bytes of commands of one client without an answer: beyond it no more are taken until all are answered.
pub const PENDING_BYTES_MAX: usize = 8 << 20;
/// Bytes of commands that wait for one Redis server; beyond it a command is refused.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Bytes read at once.
pub const READ_BYTES: usize = 64 << 10;
/// How long a connection to a Redis server may take, and a probe of its health.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between probes of a server that is well.
pub const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Probes in a row without an answer that make a server down. One that refuses connections is down at once.
pub const PROBES_MISSED_MAX: u32 = 2;
/// Probes in a row that are answered while nothing moves on another connection to the server on which commands wait: that
/// connection is dead. A server carries out one command after the other, so what was sent before a probe is answered by then.
pub const PROBES_STILL_MAX: u32 = 10;
/// The first pause before a server that is down is probed again; it doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// What an operator may choose.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients at a time.
    pub connections: usize,
    /// A client that sends no whole command and takes no bytes for so long is cut off.
    pub idle: Duration,
    /// Bytes of answers that may wait for one client.
    pub output_bytes: usize,
    /// Bytes held for all clients together.
    pub total_bytes: usize,
    /// How long clients may take to get their answers once the proxy was told to end.
    pub drain: Duration,
}
