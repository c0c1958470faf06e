//! The ringkv server: configuration, boot, hosts.

pub mod clock;
pub mod door;
pub mod host;
pub mod pin;
