//! The Redis protocol in front of independent Redis servers (a consistent-hash ring) or of a ringkv cluster.
//!
//! One thread. Each client has a task ([`conn`]) and a queue of answers ([`outbox`]) that keeps them in the order of its
//! commands. Behind it stands one of two: [`ring`], whose links to servers are shared by all clients, or [`cluster`],
//! where what came together becomes one batch of the ringkv client.

pub mod budget;
pub mod cluster;
pub mod conn;
pub mod door;
pub mod limits;
pub mod local;
pub mod metrics;
pub mod outbox;
pub mod resp;
pub mod ring;
pub mod scrape;
