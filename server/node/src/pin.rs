//! Which CPUs there are, and binding a thread to one.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs this process may run on, ascending.
pub fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect(),
        Err(e) => {
            tracing::warn!(error = %e, "cannot tell which CPUs are allowed; assuming one");
            vec![0]
        }
    }
}

/// Binds the calling thread to `cpu`; goes on where it may not.
pub fn this_thread(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(e) = sched_setaffinity(None, &set) {
        tracing::warn!(cpu, error = %e, "cannot pin to this CPU");
    }
}
