//! What this machine lets us do, each thing found out by doing it.

use std::path::Path;

/// What was found.
#[derive(Clone, Debug)]
pub struct Probes {
    /// io_uring with the features that a fast host needs (kernel 6.1), or the system's word.
    pub ring: Result<(), String>,
    /// A file in the data directory was written and read with O_DIRECT.
    pub direct: bool,
    /// Bytes that may be locked in memory; `None`: any number.
    pub lockable_bytes: Option<u64>,
}

impl Probes {
    /// Probes, with real files in `data_dir`.
    pub fn take(data_dir: &Path) -> Probes {
        Probes {
            ring: ring(),
            direct: ringkv_storage::disk::files::takes_direct(data_dir),
            lockable_bytes: lockable_bytes(),
        }
    }
}

impl std::fmt::Display for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.ring {
            Ok(()) => write!(f, "io_uring yes")?,
            Err(e) => write!(f, "io_uring no ({e})")?,
        }
        write!(f, ", O_DIRECT {}", if self.direct { "yes" } else { "no" })?;
        match self.lockable_bytes {
            None => write!(f, ", locked memory unlimited"),
            Some(bytes) => write!(f, ", locked memory {} KiB", bytes >> 10),
        }
    }
}

/// Whether io_uring can be used here as a fast host needs it; else why not.
pub fn ring() -> Result<(), String> {
    let probe = || {
        let ring = io_uring::IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(8);
        let ring: io_uring::IoUring = ring.map_err(|e| e.to_string())?;
        // A filter may allow the making of a ring and forbid its use.
        ring.submit().map(drop).map_err(|e| e.to_string())
    };
    // On a thread of its own: when the kernel takes a ring down it interrupts the thread that used it, at some later time and
    // in the middle of whatever that does then.
    let thread = std::thread::Builder::new().name("probe".to_owned()).spawn(probe).map_err(|e| e.to_string())?;
    thread.join().unwrap_or_else(|_| Err("the probe panicked".to_owned()))
}

/// The limit of locked memory, or `None` for who is above it.
fn lockable_bytes() -> Option<u64> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock).current?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    const CAP_IPC_LOCK: u32 = 14;
    (capabilities >> CAP_IPC_LOCK & 1 == 0).then_some(limit)
}

/// Raises the limit of open files to what is allowed; answers the limit.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(e) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(error = %e, "the limit of open files stays as it is");
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::from(u32::MAX))
}
