//! In front of three real Redis servers.

mod commands;
mod scenario;
