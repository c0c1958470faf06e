//! The client of ringkv, a distributed key-value store.
//!
//! ```no_run
//! # async fn example() -> Result<(), ringkv::Error> {
//! let client = ringkv::Client::builder().seeds(["127.0.0.1:7400"]).connect().await?;
//! client.put("key", "10").await?;
//! let found = client.get("key").await?;
//! assert_eq!(found.as_deref(), Some(&b"10"[..]));
//! # Ok(()) }
//! ```
//!
//! The client holds the cluster map, hashes each key itself and asks the store that leads the key's shard: no proxy, no
//! second hop. It is cheap to clone; clones share connections. Calls made at the same time travel together, one request per
//! shard, without a timer: **for throughput make calls concurrently, or use [`Client::get_many`] and [`Client::put_many`]**.
//!
//! # Errors are one of three
//! [`Error::outcome`] says what became of a write: applied, not applied, or unknown; [`Error::advice`] says what to do. The
//! client retries by itself (redirects, lost connections, busy stores, elections) until a call's deadline, and a retry never
//! applies a write twice: each carries a token that the stores remember. Unknown is left only when the deadline passes while
//! an attempt has no answer.
//!
//! # Deadlines
//! A call takes at most 10 s ([`Builder::call_timeout`], [`CallOptions::timeout`]). Dropping a call's future stops
//! its retries, but does not take back a write that was sent.
//!
//! # Without async
//! [`blocking::Client`] has the same calls and types. It has no thread of its own: calls are carried out by the threads that wait.
//!
//! # Limits
//! Keys of 1 to 65,535 bytes, values of at most 16 MiB. What is beyond is refused before anything is sent.

pub mod blocking;
mod builder;
mod bytes;
mod client;
mod clock;
mod desk;
mod driver;
mod options;
mod socket;

pub use crate::bytes::IntoBytes;
pub use ::bytes::Bytes;
pub use builder::Builder;
pub use client::Client;
pub use options::CallOptions;
pub use ringkv_session::{
    Advice, Cause, Error, Failure, KeyspaceId, NodeId, Outcome, ReadLevel, SessionStats, ShardId, Stages, Status,
    StoreId, Value, Written,
};
pub use ringkv_wire::ring::topology::ClusterMap;
