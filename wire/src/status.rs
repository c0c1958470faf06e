//! What a store answers, and what a client may conclude from it (PROTOCOL.md §6.6).

/// Status of a request or of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// This store does not lead the shard; the hint says who may.
    NotLeader = 1,
    /// Shard or generation is not here.
    Moved = 2,
    /// No room now.
    Busy = 3,
    /// The deadline passed before it was proposed.
    Expired = 4,
    /// The operation's expiry is outside (L, L + 120 s].
    ExpiryWindow = 5,
    /// The sequence is below the client's recorded floor.
    BelowFloor = 6,
    /// The disk has no room.
    DiskFull = 7,
    /// The store's log failed; it serves nothing until reopened.
    StoreFailed = 8,
    /// Proposed; its fate is not known here.
    Unknown = 9,
    /// The message breaks the protocol.
    Malformed = 10,
    /// Beyond a limit.
    TooLarge = 11,
    /// A block failed its checksum or could not be read.
    Unreadable = 12,
    /// Applied; its answer is no longer kept.
    AnswerGone = 13,
    /// There is no such keyspace.
    UnknownKeyspace = 14,
    /// Not serving yet.
    Starting = 15,
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Applied,
    /// By this attempt it did not and will not.
    NotApplied,
    /// It may have, or may still.
    Unknown,
}

impl Status {
    /// All of them, in order of their numbers.
    pub const ALL: [Status; 16] = [
        Status::Ok,
        Status::NotLeader,
        Status::Moved,
        Status::Busy,
        Status::Expired,
        Status::ExpiryWindow,
        Status::BelowFloor,
        Status::DiskFull,
        Status::StoreFailed,
        Status::Unknown,
        Status::Malformed,
        Status::TooLarge,
        Status::Unreadable,
        Status::AnswerGone,
        Status::UnknownKeyspace,
        Status::Starting,
    ];

    /// The status with this number. One that this build does not know is `None`: treat it as unknown.
    pub fn from_u8(v: u8) -> Option<Status> {
        Status::ALL.get(usize::from(v)).copied()
    }

    /// What the attempt that got this answer came to.
    pub fn outcome(self) -> Outcome {
        match self {
            Status::Ok | Status::AnswerGone => Outcome::Applied,
            Status::Unknown => Outcome::Unknown,
            _ => Outcome::NotApplied,
        }
    }

    /// Whether trying again, perhaps elsewhere, can help.
    pub fn retry(self) -> bool {
        matches!(
            self,
            Status::NotLeader
                | Status::Moved
                | Status::Busy
                | Status::DiskFull
                | Status::StoreFailed
                | Status::Unknown
                | Status::Unreadable
                | Status::Starting
        )
    }
}
