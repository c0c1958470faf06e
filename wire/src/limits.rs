//! Every limit of the protocol, once.

/// Protocol version spoken by this build (lowest and highest).
pub const VERSION: u16 = 1;
/// Longest key, bytes. The shortest is 1.
pub const KEY_BYTES_MAX: usize = 65_535;
/// Longest value, bytes.
pub const VALUE_BYTES_MAX: usize = 16 << 20;
/// Longest frame with its header, bytes.
pub const FRAME_BYTES_MAX: usize = 256 << 10;
/// Longest message, bytes, all chunks together.
pub const MESSAGE_BYTES_MAX: usize = 18 << 20;
/// Longest body of one entry, bytes.
pub const ENTRY_BODY_BYTES_MAX: usize = 17 << 20;
/// Most operations in one write, keys in one read.
pub const OPERATIONS_MAX: usize = 1024;
/// How far ahead of log time an operation's expiry may lie, ms.
pub const EXPIRY_WINDOW_MS: u64 = 120_000;
/// Expiry a client asks for at the first attempt, ms from the shard's log time.
pub const EXPIRY_DEFAULT_MS: u64 = 60_000;
/// How long a new connection has to say hello, ms.
pub const HELLO_TIMEOUT_MS: u64 = 2_000;
/// Virtual nodes of a node of weight 1.
pub const VIRTUAL_NODES: u32 = 150;
