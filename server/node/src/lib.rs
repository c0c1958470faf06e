//! The ringkv server: configuration, boot, hosts.

pub mod boot;
pub mod clock;
pub mod config;
pub mod dir;
pub mod door;
pub mod front;
pub mod host;
pub mod members;
pub mod pin;
pub mod plan;
pub mod probe;
pub mod seeds;
pub mod tenant;
