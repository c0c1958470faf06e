//! The clocks of one machine: how virtual time looks from there.

use ringkv_wire::ids::Now;
use std::cell::Cell;

/// Wall clock at virtual time 0, ms: any date will do.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// A boot-time clock that runs at its own rate, and a wall clock that may be wrong and may jump.
pub struct MachineClock {
    /// Virtual time of the last boot, and what the boot-time clock showed then.
    booted: Cell<(u64, u64)>,
    /// Nanoseconds gained per million.
    drift_ppm: Cell<i64>,
    wall_offset_ms: Cell<i64>,
}

impl MachineClock {
    /// A machine booted `uptime_ns` ago. `drift_ppm`: ns gained per million, above -1,000,000. `wall_offset_ms`: how far the
    /// wall clock is ahead.
    pub fn new(uptime_ns: u64, drift_ppm: i64, wall_offset_ms: i64) -> MachineClock {
        assert!(drift_ppm > -1_000_000, "a clock goes forward");
        MachineClock {
            booted: Cell::new((0, uptime_ns)),
            drift_ppm: Cell::new(drift_ppm),
            wall_offset_ms: Cell::new(wall_offset_ms),
        }
    }

    /// What this machine's clocks show at virtual time `at_ns`.
    pub fn now(&self, at_ns: u64) -> Now {
        let (booted_at, shown) = self.booted.get();
        let boot_ns = shown.saturating_add(self.scale(at_ns - booted_at, 1_000_000 + self.drift_ppm.get(), 1_000_000));
        let wall_ms = (EPOCH_MS + at_ns / 1_000_000).saturating_add_signed(self.wall_offset_ms.get());
        Now { boot_ns, wall_ms }
    }

    /// The first virtual time at which the boot-time clock shows `boot_ns` or more; 0 when it long has.
    pub fn virtual_ns(&self, boot_ns: u64) -> u64 {
        let (booted_at, shown) = self.booted.get();
        let Some(ahead) = boot_ns.checked_sub(shown) else { return 0 };
        let at = booted_at.saturating_add(self.scale(ahead, 1_000_000, 1_000_000 + self.drift_ppm.get()));
        // Rounding goes down twice: step over it.
        (at..at.saturating_add(4)).find(|&at| self.now(at).boot_ns >= boot_ns).unwrap_or(at.saturating_add(4))
    }

    /// How much virtual time passes while the boot-time clock shows `ns` more, at its present rate.
    pub fn lasts_ns(&self, ns: u64) -> u64 {
        self.scale(ns, 1_000_000, 1_000_000 + self.drift_ppm.get())
    }

    fn scale(&self, ns: u64, by: i64, of: i64) -> u64 {
        u64::try_from(u128::from(ns) * by as u128 / of as u128).unwrap_or(u64::MAX)
    }

    /// The machine boots: its boot-time clock starts again.
    pub fn reboot(&self, at_ns: u64) {
        self.booted.set((at_ns, 1_000_000_000));
    }

    /// The boot-time clock runs at another rate from now on: `drift_ppm` ns gained per million.
    pub fn set_drift(&self, at_ns: u64, drift_ppm: i64) {
        assert!(drift_ppm > -1_000_000, "a clock goes forward");
        self.booted.set((at_ns, self.now(at_ns).boot_ns));
        self.drift_ppm.set(drift_ppm);
    }

    /// The boot-time clock jumps ahead, as after a suspend that it was told of late.
    pub fn leap(&self, at_ns: u64, by_ns: u64) {
        self.booted.set((at_ns, self.now(at_ns).boot_ns.saturating_add(by_ns)));
    }

    /// The wall clock is set to be ahead by this much.
    pub fn set_wall(&self, offset_ms: i64) {
        self.wall_offset_ms.set(offset_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_shows_more_and_wakes_earlier() {
        let clock = MachineClock::new(5_000, 10_000, -3);
        let now = clock.now(1_000_000_000);
        assert_eq!(now.boot_ns, 5_000 + 1_010_000_000);
        assert_eq!(now.wall_ms, EPOCH_MS + 1000 - 3);
        assert!(clock.virtual_ns(now.boot_ns) <= 1_000_000_000);
    }

    #[test]
    fn a_time_reached_is_shown() {
        for ppm in [-50_000, -7, 0, 13, 50_000] {
            let clock = MachineClock::new(123, ppm, 0);
            for boot_ns in (123..100_000).step_by(977) {
                let at = clock.virtual_ns(boot_ns);
                assert!(clock.now(at).boot_ns >= boot_ns, "{ppm} {boot_ns}");
                assert!(at == 0 || clock.now(at - 1).boot_ns < boot_ns, "{ppm} {boot_ns}");
            }
        }
        assert_eq!(MachineClock::new(500, 0, 0).virtual_ns(u64::MAX), u64::MAX - 500);
    }

    #[test]
    fn a_clock_that_changes_its_rate_goes_on_from_where_it_was() {
        let clock = MachineClock::new(5_000, 0, 0);
        clock.set_drift(1_000_000, 100_000);
        assert_eq!(clock.now(1_000_000).boot_ns, 1_005_000);
        assert_eq!(clock.now(2_000_000).boot_ns, 2_105_000);
        clock.leap(2_000_000, 7);
        assert_eq!(clock.now(2_000_000).boot_ns, 2_105_007);
        assert!(clock.virtual_ns(3_205_007) >= 3_000_000);
    }

    #[test]
    fn a_reboot_starts_the_boot_clock_again() {
        let clock = MachineClock::new(1 << 50, 0, 0);
        clock.reboot(1_000);
        assert_eq!(clock.now(2_000).boot_ns, 1_000_001_000);
    }
}
