//! The pure session of a ringkv client: routing, coalescing, windows, retries, exactly-once tokens.
//!
//! No I/O, no clock, no chance. A driver (the tokio shell, the simulator) gives it calls, connections' bytes, the time and
//! random bits; it gives back what to connect, send and close, and which calls are done:
//!
//! 1. [`Session::submit`], [`Session::opened`], [`Session::received`], [`Session::closed`]: any number of inputs;
//! 2. [`Session::turn`]: once after them, and when [`Session::next_deadline_ns`] has passed.
//!
//! All calls submitted before a turn travel together: one request per shard and kind, with no timer to wait for company.
//! While a shard or a connection has its window full, calls collect, so that requests grow with the load.
//!
//! **Exactly once** (PROTOCOL.md §8). An operation gets a sequence and an expiry when it is first sent, and keeps both
//! through every retry, until it is decided or given up. What is given up is never tried again, so the floor may pass it.

mod call;
mod calls;
mod config;
mod conns;
mod error;
mod held;
mod retry;
mod session;
mod slab;
mod stats;
mod tokens;

pub use call::{Ask, Call, CallId, Completion, Value, Written};
pub use config::SessionConfig;
pub use conns::ConnKey;
pub use error::{Advice, Cause, Error, Failure};
pub use held::Held;
pub use session::{Actions, Session};
pub use stats::{SessionStats, Stages};

pub use ringkv_wire::ids::{ClientId, KeyspaceId, NodeId, Now, ShardId, StoreId};
pub use ringkv_wire::msg::client::ReadLevel;
pub use ringkv_wire::status::{Outcome, Status};
