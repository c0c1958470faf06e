//! Real nodes on loopback, attacked from outside.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod faults;
mod limits;
mod nodes;
