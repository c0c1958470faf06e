//! The clocks of this machine.

use ringkv_wire::ids::Now;
use rustix::time::{ClockId, clock_gettime};

/// The time: since boot with suspend counted, and by the wall.
pub fn now() -> Now {
    let boot = clock_gettime(ClockId::Boottime);
    let wall = clock_gettime(ClockId::Realtime);
    let whole = |n: i64| u64::try_from(n).unwrap_or(0);
    Now {
        boot_ns: whole(boot.tv_sec) * 1_000_000_000 + whole(boot.tv_nsec),
        wall_ms: whole(wall.tv_sec) * 1000 + whole(wall.tv_nsec) / 1_000_000,
    }
}
