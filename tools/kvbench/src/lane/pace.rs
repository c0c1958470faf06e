//! The pacer of an open loop: waits until the next call is due, and lets it out. The runtime's timers count milliseconds, which
//! would be felt in every latency; so it has a timer of the kernel.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use super::feed::Feed;
use super::shift::Shift;

/// Calls that are closer to each other are let out together: setting a timer takes microseconds, most of all on a virtual
/// machine, and one for each call would be most of what a fast load does.
const GRAIN: Duration = Duration::from_micros(50);

/// Lets calls out at their times, to the end.
pub async fn pace(shift: Rc<Shift>) {
    let Feed::Open(gate) = &shift.feed else { return };
    let timer = Timer::new();
    while let Some(next) = gate.open(Instant::now()) {
        timer.wait(next).await;
    }
    if let Some(ends) = gate.ends() {
        timer.wait(ends).await;
    }
    gate.close();
}

/// A timer of the kernel, or the runtime's where there is none.
struct Timer(Option<AsyncFd<OwnedFd>>);

impl Timer {
    fn new() -> Timer {
        let made = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        // SAFETY: the descriptor is open, and is owned by the `AsyncFd` that it is moved into until that is dropped.
        Timer(made.ok().and_then(|fd| unsafe { AsyncFd::register(fd) }.ok()))
    }

    async fn wait(&self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Others are due.
            tokio::task::yield_now().await;
        } else if self.wait_for(left.max(GRAIN)).await.is_none() {
            tokio::time::sleep(left.max(GRAIN)).await;
        }
    }

    /// `None` when the timer does not work.
    async fn wait_for(&self, left: Duration) -> Option<()> {
        let fd = self.0.as_ref()?;
        let value = Timespec { tv_sec: left.as_secs().try_into().ok()?, tv_nsec: left.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(fd.get_ref(), TimerfdTimerFlags::empty(), &once).ok()?;
        let mut expirations = [0; 8];
        loop {
            let mut ready = fd.readable().await.ok()?;
            let read = ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut expirations)?));
            match read {
                Ok(read) => return read.ok().map(drop),
                Err(_not_yet) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_waits_and_not_for_long() {
        let timer = Timer::new();
        assert!(timer.0.is_some(), "this kernel has such timers");
        for us in [0, 1, 300, 2_000] {
            let until = Instant::now() + Duration::from_micros(us);
            timer.wait(until).await;
            assert!(us == 0 || Instant::now() >= until);
        }
    }
}
