//! The walk over all tables that finds rot before a reader does: a piece every half second, tree after tree.

use super::{Done, Store};
use crate::host::Host;
use ringkv_storage::tree::ScrubPlace;
use ringkv_wire::ids::Now;

/// A walk over all trees begins no sooner than this after the last one began, ns.
const REST_NS: u64 = 60_000_000_000;

/// Where the walk is.
#[derive(Default)]
pub(super) struct Scrub {
    slot: usize,
    place: ScrubPlace,
    /// A job reads.
    running: bool,
    /// When the next walk may begin, boot ns.
    next_ns: u64,
    /// Bytes that may still be read now.
    left: u64,
}

impl<H: Host> Store<H> {
    /// Reads on, as much as half a second allows.
    pub(super) fn scrub_tick(&mut self, now: Now) {
        self.scrub.left = self.config.budgets.scrub_bytes_per_s / 2;
        let begins = self.scrub.slot == 0 && self.scrub.place == ScrubPlace::default();
        if begins && now.boot_ns < self.scrub.next_ns {
            return;
        }
        if begins {
            self.scrub.next_ns = now.boot_ns + REST_NS;
        }
        self.scrub_on();
    }

    fn scrub_on(&mut self) {
        let Some(replica) = self.replicas.get(self.scrub.slot) else { return };
        if self.scrub.left == 0 || self.scrub.running {
            return;
        }
        self.scrub.running = true;
        let scrub = replica.tree.scrub(self.scrub.place, self.scrub.left);
        let mailbox = self.mailbox.clone();
        self.host.spawn(async move {
            let (next, bytes) = scrub.await;
            mailbox.post(Done::Scrubbed { next, bytes });
        });
    }

    pub(super) fn scrubbed(&mut self, now: Now, next: Option<ScrubPlace>, bytes: u64) {
        let slot = self.scrub.slot;
        self.scrub.running = false;
        self.scrub.left = self.scrub.left.saturating_sub(bytes);
        self.scrub.place = next.unwrap_or_default();
        self.look_for_damage(now, slot);
        if next.is_none() {
            self.scrub.slot = (slot + 1) % self.replicas.len();
            if self.scrub.slot == 0 {
                return; // All were walked: a rest.
            }
        }
        self.scrub_on();
    }
}
