//! What the simulator found, each with its seed.
//!
//! A seed means another run whenever plan, load or faults change: the number says where it was found, the small direct test
//! beside the code is what keeps it from coming back. Here the seed is run as it is now, for a short while.

use kvsim::plan::Options;
use kvsim::sim::run;

fn clean(seed: u64) {
    clean_for(seed, 10);
}

fn clean_for(seed: u64, seconds: u64) {
    let options = Options { seconds: Some(seconds), ..Options::default() };
    assert_eq!(run(seed, &options).wrong, Vec::<String>::new(), "seed {seed}");
}

/// A follower that held a snapshot's last entry, not yet applied, said that it had installed what it had applied: below the
/// leader's floor. It was offered the same snapshot for ever.
#[test]
fn a_follower_that_holds_the_snapshots_last_entry_goes_on_behind_it() {
    clean(1054);
}

/// The log was poisoned while a snapshot was being installed: the store then raised its applied index past a Raft that had
/// retired, and said that it had installed.
#[test]
fn a_store_that_failed_while_installing_acknowledges_nothing() {
    clean(2119);
}

/// The log was poisoned while a snapshot was being installed: the tree was new and the index old, and the digest of both was taken
/// for a state. Nobody was served from it.
#[test]
fn a_store_that_failed_while_installing_is_not_digested() {
    clean_for(2_002_682, 31);
}

/// A follower was killed while it fetched a snapshot. Started again it knew of no offer, and its leader took it for a slow
/// one: for 11 s it got neither entries nor tables.
#[test]
fn a_follower_that_starts_again_is_offered_its_snapshot_again() {
    clean_for(200_018, 60);
}
