//! Whole ringkv clusters from one seed, on a virtual clock, network and disk.
//!
//! One thread, no real time, no real chance: a run is a seed, and the same seed gives the same trace.

pub mod clock;
pub mod dice;
pub mod exec;
pub mod host;
pub mod net;
