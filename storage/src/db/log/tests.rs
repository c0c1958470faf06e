//! Tests of the log.

mod basic;
mod rig;
