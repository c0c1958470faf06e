//! Real nodes on loopback, attacked from outside.

mod faults;
mod limits;
mod nodes;
