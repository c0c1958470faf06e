//! The proxy as a process: in front of real Redis servers, in front of a real cluster, and in front of hostile clients.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

mod cluster;
mod guard;
mod ring;
mod stand;
