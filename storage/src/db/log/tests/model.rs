//! Any life of a log, opened again at any point, holds what was written.

use super::power::Machine;
use super::rig::Owned;
use crate::sst::NEVER_MS;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Owned>),
    Sync,
    Flush(u8),
    Reopen,
    Crash(u64),
}

fn op() -> impl Strategy<Value = Owned> {
    let value = prop_oneof![8 => 0..200_usize, 2 => 0..5000_usize, 1 => 0..40_000_usize];
    let value = proptest::option::weighted(0.8, (value, any::<u8>()));
    let expiry = prop_oneof![Just(NEVER_MS), any::<u64>()];
    (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40), value, expiry).prop_map(
        |(keyspace, key, value, expiry)| {
            let expiry_ms = if value.is_some() { expiry } else { NEVER_MS };
            Owned { keyspace, key, value: value.map(|(bytes, fill)| vec![fill; bytes]), expiry_ms }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => proptest::collection::vec(op(), 0..5).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => any::<u8>().prop_map(Step::Flush),
        2 => Just(Step::Reopen),
        1 => any::<u64>().prop_map(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_found(steps in proptest::collection::vec(step(), 1..50)) {
        let mut machine = Machine::new();
        for step in steps {
            match step {
                Step::Append(ops) => machine.append(&ops),
                Step::Sync => machine.sync(),
                Step::Flush(part) => {
                    let seq = machine.written.len() as u64 * u64::from(part) / 255;
                    machine.flush(seq);
                }
                Step::Reopen => machine = machine.kill(),
                Step::Crash(seed) => machine = machine.crash(&mut ChaCha8Rng::seed_from_u64(seed)),
            }
        }
        machine.kill();
    }
}
