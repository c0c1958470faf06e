//! The virtual network: machines, links between them, connections over the links.
//!
//! A connection is TCP as an application sees it: bytes arrive in order and unaltered, or the connection ends. So loss is a
//! stall (a retransmission) or an end. A link can be slow, stall now and then, or be cut in one direction: then bytes wait,
//! as TCP's do, and arrive with the first attempt after it heals; when they are not acknowledged for 5 s, the connection ends
//! (`patience`). A process that dies ends its connections; a machine that loses power says nothing, and the other side learns
//! of it when it sends. What a process had sent before it was killed still arrives. A link can also alter bytes.

mod conn;
mod flight;
mod harm;
mod open;
mod patience;

pub use conn::{Net, Port};

/// A machine on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine(pub usize);

/// How one direction between two machines behaves.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Shortest and longest delay, ns.
    pub delay_ns: (u64, u64),
    /// Of 10,000 sends, how many stall.
    pub stalls: u64,
    /// Shortest and longest stall, ns.
    pub stall_ns: (u64, u64),
    /// Bytes per second.
    pub bytes_per_s: u64,
    /// Of 10,000 sends, how many arrive with a byte altered, as they do where TCP's checksum did not notice.
    pub alters: u64,
}

impl Quality {
    /// A quiet local network.
    pub const LAN: Quality = Quality {
        delay_ns: (50_000, 300_000),
        stalls: 2,
        stall_ns: (5_000_000, 250_000_000),
        bytes_per_s: 1_000_000_000,
        alters: 0,
    };
}

#[cfg(test)]
mod tests;
