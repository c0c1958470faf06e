//! The contract of ringkv's client and server: ring, frames, messages, entries.
//!
//! No I/O, no runtime, no clock, no chance. `PROTOCOL.md` beside this crate is normative; every layout here is pinned to
//! it by const assertions and golden tests.

pub mod codec;
pub mod entry;
pub mod frame;
pub mod hello;
pub mod ids;
pub mod limits;
pub mod msg;
pub mod ring;
pub mod status;

/// CRC-32C, the checksum of all that travels or rests.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
