//! One thread's turns: futures that wait for its disk are asked again when something happened.

use crate::db::driver::give_way;
use crate::disk::uring::ring::Ring;
use crate::error::{DiskError, StorageError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

/// While something is in flight, the mailbox is looked at so often.
const NAP: Duration = Duration::from_millis(1);
/// When nothing is.
const PARK: Duration = Duration::from_millis(50);

/// Tells that a future wants to be asked again.
struct Bell {
    rung: AtomicBool,
    thread: Thread,
}

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Bell>) {
        // From this thread most of the time: nobody sleeps then.
        if !self.rung.swap(true, Ordering::AcqRel) && thread::current().id() != self.thread.id() {
            self.thread.unpark();
        }
    }
}

/// The turns of the thread that made it.
pub(crate) struct Turning {
    ring: Option<Ring>,
    bell: Arc<Bell>,
    pub waker: Waker,
}

impl Turning {
    /// Of this thread, with its ring when it has one.
    pub fn new(ring: Option<Ring>) -> Turning {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), thread: thread::current() });
        Turning { ring, waker: bell.clone().into(), bell }
    }

    /// Whether a future wants to be asked again since this was last asked.
    pub fn take_rung(&self) -> bool {
        self.bell.rung.swap(false, Ordering::AcqRel)
    }

    /// Hands out what completed. When nobody wants to be asked, sleeps until something may have happened; jobs are not heard of
    /// while the disk works, for a moment at most.
    pub fn turn(&self, may_sleep: bool) -> Result<(), StorageError> {
        let broken = |error| DiskError::io("", "turn the ring", std::io::Error::other(error));
        let idle = may_sleep && !self.bell.rung.load(Ordering::Acquire);
        match &self.ring {
            Some(ring) => {
                ring.turn().map_err(broken)?;
                if idle && !self.bell.rung.load(Ordering::Acquire) {
                    match ring.in_flight() {
                        0 => thread::park_timeout(PARK),
                        _ => drop(ring.nap(NAP).map_err(broken)?),
                    }
                }
            }
            None if idle => thread::park_timeout(PARK),
            None => {}
        }
        if !idle {
            // A writer that wakes beside a busy thread waits for its next tick else, which is up to 4 ms.
            give_way();
        }
        Ok(())
    }
}
