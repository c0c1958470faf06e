//! The time, for a session that never asks.

use ringkv_session::Now;
use rustix::time::{ClockId, clock_gettime};

/// What the clocks show: boot time, and the wall clock.
pub(crate) fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let wall = clock_gettime(ClockId::Realtime);
    Now {
        boot_ns: boot.tv_sec as u64 * 1_000_000_000 + boot.tv_nsec as u64,
        wall_ms: wall.tv_sec as u64 * 1_000 + wall.tv_nsec as u64 / 1_000_000,
    }
}
