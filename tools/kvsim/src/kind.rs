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
    /// Kill -9 of all nodes at once; they start in any order.
    KillAll,
    /// Kill -9 or power loss of a node between two polls of tasks, anywhere in a busy instant.
    KillAtStep,
    /// A node dies, and again at one of the first operations on its disk after each start, up to three times.
    CrashInRecovery,
    /// A node is asked to end, and starts again.
    Shutdown,
    /// A node's process is stopped for a while (SIGSTOP).
    Pause,
    /// One node's wall clock jumps.
    ClockJump,
    /// The nodes' boot-time clocks run at other rates, within the bound.
    ClockDrift,
    /// A client's process is killed with calls under way; another one, with another id, takes its place.
    ClientKill,
    /// A node is cut off from everybody.
    Isolate,
    /// The nodes fall into two parts that do not reach each other; clients reach one of them, or both.
    Split,
    /// Two machines do not reach each other; others may reach both.
    CutPair,
    /// One direction between two machines is cut.
    CutOneWay,
    /// A link goes up and down every 100 to 500 ms.
    Flap,
    /// A client is cut off from the nodes.
    ClientCut,
    /// Connections end, at both sides at once or at one of them later.
    Reset,
    /// One side of a connection forgets it; for a while nothing answers the other.
    HalfOpen,
    /// What a process sent before it was killed arrives long after its next life began.
    OldMessages,
    /// A link is slow and stalls often.
    BadLink,
    /// A link alters bytes, and TCP does not notice.
    AlterBytes,
    /// A node's disk is slow.
    SlowDisk,
    /// Operations of a node's disk do not end for seconds, or not before the node is restarted.
    HangDisk,
    /// A sync fails: what it was to keep may be lost.
    FailedSync,
    /// A write fails half way.
    TornWrite,
    /// One operation of a disk fails.
    Eio,
    /// Part of a file can be neither read nor written for a while.
    BadRange,
    /// A node's disk is full for a while.
    DiskFull,
    /// Bits of a log segment flip at rest. This kind and those that follow are silent and hit fewer nodes than a majority of
    /// replicas in a run.
    RotLog,
    /// Bits of a table flip at rest.
    RotTable,
    /// A bit of the manifest, or of the file that names it, flips at rest.
    RotManifest,
    /// A write to a table or the manifest is acknowledged and dropped.
    LostWrite,
    /// A write to a table or the manifest lands elsewhere in the file.
    MisdirectedWrite,
    /// A read of a table or the manifest gives bytes from elsewhere in the file.
    MisdirectedRead,
    /// Beyond the promise: boot-time clocks at half to double rate.
    ClockRun,
    /// Beyond the promise: a boot-time clock jumps ahead.
    ClockLeap,
    /// Beyond the promise: all wall clocks jump.
    WallClocks,
    /// Beyond the promise: a node's disk is empty after a restart.
    Wipe,
}

impl FaultKind {
    /// Its name on a command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it is more than the protocol promises to survive: then answers may be errors, never wrong.
    pub fn is_beyond(self) -> bool {
        self >= FaultKind::ClockRun
    }
}
