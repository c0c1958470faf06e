//! The ringkv server: configuration, boot, hosts.

pub mod clock;
pub mod config;
pub mod dir;
pub mod door;
pub mod host;
pub mod pin;
pub mod plan;
pub mod probe;
