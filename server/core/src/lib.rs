//! The pure protocol cores of ringkv: Raft, sessions, log time.
//!
//! No I/O, no clock, no global randomness: time and random bits come in as arguments, what is to be done goes out as
//! [`effects::Effects`]. The simulator runs this very code.

pub mod effects;
pub mod raft;
pub mod sessions;
