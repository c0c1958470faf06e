//! Chance, from one seed. Each use has its own stream, so that a draw more in one place changes nothing in another.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::cell::RefCell;

/// What a stream of chance is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Order of tasks that are ready at one instant.
    Tasks = 1,
    /// Delays and breaks of connections.
    Net,
    /// Shape of the cluster and of its settings.
    Plan,
    /// Delays and faults of disks; add the machine.
    Disk = 1 << 8,
    /// Random bits that a store asks for; add the machine.
    Store = 1 << 16,
    /// What a client does; add the client.
    Client = 1 << 24,
    /// One fault: when, which, where, how long; add its ordinal. So a fault that is left out changes no other.
    Fault = 1 << 40,
}

/// One stream of chance.
pub struct Dice(RefCell<ChaCha8Rng>);

impl Dice {
    /// Stream `stream` of `seed`, number `n` where a use has several.
    pub fn new(seed: u64, stream: Stream, n: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64 + n);
        Dice(RefCell::new(rng))
    }

    /// A stream of its own for something that begins here.
    pub fn split(&self) -> Dice {
        Dice(RefCell::new(ChaCha8Rng::seed_from_u64(self.bits())))
    }

    /// 64 random bits.
    pub fn bits(&self) -> u64 {
        self.0.borrow_mut().next_u64()
    }

    /// A number below `n`, which is not 0.
    pub fn below(&self, n: u64) -> u64 {
        assert!(n > 0, "nothing is below 0");
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True `n` times in `of`.
    pub fn chance(&self, n: u64, of: u64) -> bool {
        self.below(of) < n
    }

    /// One of these.
    pub fn pick<'t, T>(&self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len() as u64) as usize]
    }
}
