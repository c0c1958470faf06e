//! The kinds of faults.

use clap::ValueEnum;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum FaultKind {
    /// Kill -9 of a node, and its restart.
    KillProcess,
    /// Power loss of a node, and its boot.
    PowerLoss,
    /// Power loss of all nodes at once; they boot in any order.
    Blackout,
    /// A node is asked to end, and starts again.
    Shutdown,
    /// A node is cut off from everybody.
    Isolate,
    /// Two nodes do not reach each other.
    CutPair,
    /// One direction between two machines is cut.
    CutOneWay,
    /// Connections end.
    Reset,
    /// A link is slow and stalls often.
    BadLink,
    /// A node's process is stopped for a while (SIGSTOP).
    Pause,
    /// One node's wall clock jumps.
    ClockJump,
    /// A node's disk is slow.
    SlowDisk,
    /// A node's disk fails a write or a sync: its log is poisoned until it starts again.
    DiskError,
    /// A node's disk is full for a while.
    DiskFull,
    /// A client's process is killed with calls under way; another one, with another id, takes its place.
    ClientKill,
    /// A client is cut off from the nodes.
    ClientCut,
}

impl FaultKind {
    /// Its name on a command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
