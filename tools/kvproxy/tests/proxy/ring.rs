//! In front of Redis servers.

mod commands;
mod links;
mod scenario;
