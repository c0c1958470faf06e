//! A simulator that cannot fail proves nothing: stores that are wrong on purpose must be caught, and right ones must pass.
//!
//! `toy` stores are wrong by themselves. The canaries of `list` are the shipped store on a host and a disk that edit what
//! passes: production code has no switch for them. Which seeds of two minutes catch which, from seed 0, up to 10 of 300 each;
//! then the seeds with which the tests begin, to be found again when seeds have changed their meaning:
//!
//! ```text
//! cargo test --release -p kvsim --test canaries -- --ignored --nocapture scan_all
//! cargo test --release -p kvsim --test canaries -- --ignored --nocapture scan_quick
//! ```
//!
//! Canaries that only whole minutes of a cluster find are tested in release builds: `cargo test --release -p kvsim --test
//! canaries`. `ONLY=lease` chooses by name; `SEEDS`, `SECONDS` and `ENOUGH` say how many.

mod clients;
mod disk;
mod elections;
mod flaw;
mod host;
mod list;
mod log;
mod rest;
mod scan;
mod tables;
mod time;
mod toy;
