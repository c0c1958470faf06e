//! The loop of one ringkv store, generic over the host it runs on.
//!
//! A store is a log and the shard replicas in it. Its loop takes frames in, lets the protocol cores step, writes what they
//! want persisted in one commit for all shards, releases what waited for it, applies what is committed, and answers. It
//! sees the world only through [`host::Host`], so the simulator runs this very code.

pub mod config;
pub mod counters;
pub mod digest;
pub mod host;
pub mod store;
pub mod witness;

mod replica;
