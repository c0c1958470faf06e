//! The proxy as a process: in front of real Redis servers, in front of a real cluster, and in front of hostile clients.

mod cluster;
mod guard;
mod ring;
mod stand;
