//! The bodies of messages (PROTOCOL.md §6).

pub mod client;
pub mod config;
pub mod node;
pub mod peer;
pub mod snapshot;
