//! What one seed means: shape of the cluster, its machines, its load, and which faults it may meet.
//!
//! Not every run meets every fault (Groce and others, "Swarm testing", 2012): a fault that dominates would hide the others.

use crate::dice::{Dice, Stream};
pub use crate::kind::FaultKind;
use crate::load::Load;
use crate::net::Quality;
use crate::ordinals::Ordinals;
use clap::ValueEnum;
use ringkv_shard::config::Budgets;

const MS: u64 = 1_000_000;

/// What the caller fixes; the seed decides the rest.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Nodes.
    pub nodes: Option<usize>,
    /// Shards: rounded up to a power of two.
    pub shards: Option<usize>,
    /// Virtual seconds of load and faults, 120 when not given; what comes after is not counted.
    pub seconds: Option<u64>,
    /// Operations per virtual second of all clients together.
    pub ops_per_s: Option<u64>,
    /// Kinds of faults that happen, instead of those that the seed chooses.
    pub faults: Option<Vec<FaultKind>>,
    /// Faults that are left out, by their ordinals; the others stay as they are.
    pub skip_faults: Ordinals,
    /// At most so many clients.
    pub clients: Option<usize>,
    /// No faults at all.
    pub calm: bool,
    /// Also faults beyond what is promised: then answers may be errors, never wrong, and shards may stay silent.
    pub beyond: bool,
    /// Says every virtual second how the stores are.
    pub verbose: bool,
    /// Tells each event as it happens, through `tracing`.
    pub follow: bool,
    /// Says nothing of itself before this virtual time, ns.
    pub quiet_ns: u64,
    /// Ends the run at this virtual time, says how the stores are then, and judges no history; ns.
    pub until_ns: Option<u64>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: usize,
    /// Stores on each.
    pub stores: usize,
    /// log2 of the number of shards.
    pub shard_bits: u8,
    /// Replicas of each shard.
    pub replicas: u8,
    /// How long load and faults last, ns.
    pub load_ns: u64,
    /// What clients ask.
    pub load: Load,
    /// Faults that may happen; empty: none.
    pub faults: Vec<FaultKind>,
    /// Faults that are left out.
    pub skip_faults: Ordinals,
    /// Faults may go beyond the promise.
    pub beyond: bool,
    /// Shortest and longest time between two faults, ns.
    pub fault_gap_ns: (u64, u64),
    /// The network when nothing is wrong.
    pub lan: Quality,
    /// The stores' sizes: small, so that segments switch, memtables flush, followers fall behind the log.
    pub budgets: Budgets,
    /// Most that a boot-time clock runs too fast or too slow at first, ppm.
    pub drift_ppm: u64,
}

impl Plan {
    /// What `seed` means under `options`.
    pub fn new(seed: u64, options: &Options) -> Plan {
        let dice = Dice::new(seed, Stream::Plan, 0);
        let nodes = options.nodes.unwrap_or(*dice.pick(&[3, 3, 3, 4, 5])).max(1);
        let replicas = if nodes >= 5 { *dice.pick(&[3, 5]) } else { nodes.min(3) as u8 };
        let bits = *dice.pick(&[0, 1, 1, 2, 3]);
        let shard_bits = options.shards.map_or(bits, |n| n.max(1).next_power_of_two().trailing_zeros() as u8);
        let beyond = options.beyond || options.faults.iter().flatten().any(|kind| kind.is_beyond());
        let load = Load { no_lease: beyond, ..Load::new(&Dice::new(seed, Stream::Plan, 2), options) };
        Plan {
            seed,
            nodes,
            stores: *dice.pick(&[1, 1, 2]),
            shard_bits,
            replicas,
            load_ns: options.seconds.unwrap_or(120) * 1_000 * MS,
            load,
            faults: chosen(options, &dice),
            skip_faults: options.skip_faults.clone(),
            beyond,
            fault_gap_ns: (200 * MS, 1_000 * MS * *dice.pick(&[2, 4, 8])),
            lan: lan(&dice),
            budgets: budgets(&dice),
            drift_ppm: *dice.pick(&[0, 100, 10_000]),
        }
    }
}

/// What is asked for is drawn as well: so it changes nothing else.
fn chosen(options: &Options, dice: &Dice) -> Vec<FaultKind> {
    let share = *dice.pick(&[2, 4, 8]);
    let allowed = FaultKind::value_variants().iter().copied().filter(|kind| options.beyond || !kind.is_beyond());
    let some = allowed.filter(|_| dice.chance(share, 10)).collect();
    if options.calm { Vec::new() } else { options.faults.clone().unwrap_or(some) }
}

fn lan(dice: &Dice) -> Quality {
    let mut lan = Quality::LAN;
    if dice.chance(1, 4) {
        lan.delay_ns = (500_000, 8 * MS);
    }
    lan.stalls = *dice.pick(&[0, 2, 20]);
    lan
}

fn budgets(dice: &Dice) -> Budgets {
    Budgets {
        memtable_bytes: *dice.pick(&[16 << 10, 64 << 10, 256 << 10, 1 << 20]),
        cache_bytes: *dice.pick(&[16 << 10, 1 << 20]),
        table_bytes: *dice.pick(&[4 << 10, 16 << 10, 8 << 20]),
        segment_bytes: *dice.pick(&[2 << 20, 2 << 20, 4 << 20]),
        log_keep_bytes: *dice.pick(&[0, 64 << 10, 8 << 20]),
        ..Budgets::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_and_many_shapes_occur() {
        let plans: Vec<Plan> = (0..200).map(|seed| Plan::new(seed, &Options::default())).collect();
        for kind in FaultKind::value_variants().iter().filter(|kind| !kind.is_beyond()) {
            let n = plans.iter().filter(|plan| plan.faults.contains(kind)).count();
            assert!((20..180).contains(&n), "{kind:?}: {n} of 200");
        }
        assert!(plans.iter().any(|p| p.load.hot) && plans.iter().any(|p| p.load.keys >= 1_000));
        assert!(plans.iter().any(|p| p.nodes == 5 && p.replicas == 5));
        assert!(plans.iter().any(|p| p.nodes == 5 && p.replicas == 3));
    }

    #[test]
    fn what_is_fixed_changes_nothing_else() {
        let free = Plan::new(7, &Options::default());
        let faults = vec![FaultKind::Pause];
        let fixed = Options { ops_per_s: Some(99), faults: Some(faults.clone()), ..Options::default() };
        let fixed = Plan::new(7, &fixed);
        assert_eq!((fixed.load.ops_per_s, &fixed.faults), (99, &faults));
        assert_eq!((fixed.nodes, fixed.stores, fixed.load.keys), (free.nodes, free.stores, free.load.keys));
        assert_eq!(fixed.fault_gap_ns, free.fault_gap_ns);
    }
}
