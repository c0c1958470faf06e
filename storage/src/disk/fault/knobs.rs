//! What can be made to go wrong.

/// A kind of operation, as the scheduler is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// Opening or making a file.
    Open,
    /// Asking for a length.
    Size,
    /// `read_at`.
    Read,
    /// `write_at`, and the first half of `commit`.
    Write,
    /// `sync`, the second half of `commit` and of `allocate`.
    Sync,
    /// The first half of `allocate`.
    Allocate,
    /// `sync_dir`.
    SyncDir,
    /// `create_dir`.
    CreateDir,
    /// `rename`.
    Rename,
    /// `remove`.
    Remove,
    /// `list`.
    List,
    /// `map`.
    Map,
}

/// A fault of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A write: some of its sectors arrive, it answers EIO.
    TornWrite,
    /// A write: whole sectors from its start arrive, it answers `ShortWrite`.
    ShortWrite,
    /// A write: nothing arrives, it answers ok.
    LostWrite,
    /// A write: it lands elsewhere in the same file, it answers ok.
    MisdirectedWrite,
    /// A write or an allocation answers `NoSpace`, nothing arrives.
    NoSpace,
    /// A sync answers ok and does nothing; a later one may do it.
    LostSync,
    /// A sync answers EIO; the unsynced sectors are marked clean, each may have reached the platter, no later sync will
    /// bring the others there.
    FailedSync,
    /// A read or map: first one bit of the range rots, for good.
    Rot,
    /// A read or map: the bytes come from elsewhere in the same file.
    MisdirectedRead,
    /// Any operation answers EIO and does nothing.
    Eio,
}

impl Fault {
    /// Whether it can strike this kind of operation.
    pub fn strikes(self, kind: OpKind) -> bool {
        match self {
            Fault::TornWrite | Fault::ShortWrite | Fault::LostWrite | Fault::MisdirectedWrite => kind == OpKind::Write,
            Fault::NoSpace => matches!(kind, OpKind::Write | OpKind::Allocate),
            Fault::LostSync | Fault::FailedSync => kind == OpKind::Sync,
            Fault::Rot | Fault::MisdirectedRead => matches!(kind, OpKind::Read | OpKind::Map),
            Fault::Eio => true,
        }
    }
}

/// Faults by chance.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Only files whose path contains this; empty: all.
    pub path: String,
    /// Each with the probability (0..=1) that it strikes an operation it can strike; the first that strikes wins.
    pub rates: Vec<(Fault, f64)>,
}

/// One fault, once.
#[derive(Clone, Debug)]
pub struct Injection {
    /// Only files whose path contains this; empty: all.
    pub path: String,
    /// How many operations that it could strike pass first.
    pub skip: u64,
    /// What happens then.
    pub fault: Fault,
}

/// All knobs of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Knobs {
    pub(super) faults: Faults,
    pub(super) injections: Vec<Injection>,
    pub(super) capacity: Option<u64>,
}

impl Knobs {
    /// The fault of this operation, if any. `chance` draws 64 random bits.
    pub(super) fn strike(&mut self, kind: OpKind, path: &str, mut chance: impl FnMut() -> u64) -> Option<Fault> {
        let mut due = None;
        for (at, injection) in self.injections.iter_mut().enumerate() {
            if !injection.fault.strikes(kind) || !path.contains(&injection.path) {
                continue;
            }
            if injection.skip == 0 {
                due = due.or(Some(at));
            } else {
                injection.skip -= 1;
            }
        }
        if let Some(at) = due {
            return Some(self.injections.remove(at).fault);
        }
        if !path.contains(&self.faults.path) {
            return None;
        }
        let mut rates = self.faults.rates.iter().filter(|(fault, rate)| *rate > 0.0 && fault.strikes(kind));
        rates.find(|(_, rate)| (chance() >> 11) as f64 / (1u64 << 53) as f64 <= *rate).map(|(fault, _)| *fault)
    }
}
