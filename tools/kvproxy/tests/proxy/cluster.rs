//! In front of a real cluster of three nodes: its commands, and real clients doing their basics unchanged.

mod clients;
mod commands;
mod killed;
