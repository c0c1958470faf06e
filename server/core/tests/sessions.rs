//! The session table: every rule of PROTOCOL.md §8, equal bytes for equal entries, and hostile bytes.

use proptest::prelude::*;
use ringkv_core::sessions::{Applied, Check, Sessions};
use ringkv_wire::ids::ClientId;
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::status::Status;

const ALICE: ClientId = ClientId([1; 16]);
const BOB: ClientId = ClientId([2; 16]);

fn table() -> Sessions {
    Sessions::new(1 << 20)
}

/// One entry with one operation.
fn put(table: &mut Sessions, client: ClientId, floor: u64, seq: u64, expiry: u64, now: u64, index: u64) -> Applied {
    table.begin(client, floor, now);
    table.apply_one(client, seq, expiry, now, index)
}

fn ok(version: u64) -> WriteResult {
    WriteResult { status: Status::Ok, version }
}

#[test]
fn a_repeated_operation_is_answered_and_not_run() {
    let mut t = table();
    assert_eq!(t.check(ALICE, 1, 1, 61_000, 1_000), Check::Propose);
    assert_eq!(put(&mut t, ALICE, 1, 1, 61_000, 1_000, 7), Applied::Run);
    assert_eq!(t.check(ALICE, 1, 1, 61_000, 1_500), Check::Answer(ok(7)));
    assert_eq!(put(&mut t, ALICE, 1, 1, 61_000, 2_000, 9), Applied::Repeat(ok(7)));
    assert_eq!(put(&mut t, BOB, 1, 1, 61_000, 2_000, 10), Applied::Run, "another client's sequence is its own");
}

#[test]
fn the_window_is_open_below_and_closed_above() {
    let mut t = table();
    for (expiry, fits) in [(10_000, false), (10_001, true), (130_000, true), (130_001, false), (u64::MAX, false)] {
        let seq = expiry;
        let checked = t.check(ALICE, 0, seq, expiry, 10_000);
        let applied = put(&mut t, ALICE, 0, seq, expiry, 10_000, 5);
        match fits {
            true => assert_eq!((checked, applied), (Check::Propose, Applied::Run)),
            false => assert_eq!(
                (checked, applied),
                (Check::Refuse(Status::ExpiryWindow), Applied::Refused(Status::ExpiryWindow))
            ),
        }
    }
}

#[test]
fn below_the_floor_nothing_runs_and_nothing_is_answered() {
    let mut t = table();
    put(&mut t, ALICE, 1, 5, 50_000, 1_000, 1);
    put(&mut t, ALICE, 6, 6, 50_000, 1_000, 2);
    assert_eq!(t.check(ALICE, 1, 5, 50_000, 1_000), Check::Refuse(Status::BelowFloor));
    assert_eq!(put(&mut t, ALICE, 1, 5, 50_000, 1_000, 3), Applied::Refused(Status::BelowFloor), "a floor never sinks");
    assert_eq!(put(&mut t, ALICE, 9, 8, 50_000, 1_000, 4), Applied::Refused(Status::BelowFloor), "its own floor");
    assert_eq!(put(&mut t, ALICE, 9, 9, 50_000, 1_000, 5), Applied::Run);
}

#[test]
fn an_outcome_goes_with_its_expiry_and_the_record_with_the_highest() {
    let mut t = table();
    put(&mut t, ALICE, 3, 3, 20_000, 1_000, 1);
    put(&mut t, ALICE, 3, 4, 90_000, 1_000, 2);
    assert_eq!(put(&mut t, ALICE, 3, 3, 20_000, 19_999, 3), Applied::Repeat(ok(1)));
    assert_eq!(put(&mut t, ALICE, 3, 3, 20_000, 20_000, 4), Applied::Refused(Status::ExpiryWindow));
    assert_eq!(t.check(ALICE, 0, 2, 100_000, 89_999), Check::Refuse(Status::BelowFloor), "the record still holds");
    assert_eq!(t.check(ALICE, 0, 2, 100_000, 90_000), Check::Propose, "log time has passed its highest expiry");
    t.advance(90_000);
    assert_eq!(t.encode(), {
        let mut empty = table();
        empty.advance(90_000);
        empty.encode()
    });
    t.advance(100_000);
    assert_eq!(t.bytes(), 0, "swept out");
}

#[test]
fn a_refused_operation_leaves_no_record_behind() {
    let mut t = table();
    assert_eq!(put(&mut t, ALICE, 1, 1, u64::MAX, 1_000, 1), Applied::Refused(Status::ExpiryWindow));
    let mut other = table();
    other.advance(1_000);
    assert_eq!(t.encode(), other.encode());
    t.advance(20_000);
    assert_eq!(t.bytes(), 0);
}

#[test]
fn over_its_budget_it_refuses_what_is_new_and_answers_what_is_known() {
    let mut t = Sessions::new(2_000);
    let mut index = 0;
    while t.bytes() < 2_000 {
        assert_eq!(t.wants_tick(), t.bytes() > 1_000);
        index += 1;
        assert_eq!(put(&mut t, ALICE, 1, index, 50_000, 1_000, index), Applied::Run, "apply never refuses for room");
    }
    assert_eq!(t.check(ALICE, 1, index + 1, 50_000, 1_000), Check::Refuse(Status::Busy));
    assert_eq!(t.check(ALICE, 1, 1, 50_000, 1_000), Check::Answer(ok(1)));
    put(&mut t, ALICE, index + 1, index + 1, 50_000, 1_000, index + 1);
    assert_eq!(t.check(ALICE, 1, index + 2, 50_000, 1_000), Check::Propose, "the floor made room");
}

#[test]
fn log_time_never_goes_back() {
    let mut t = table();
    t.advance(50_000);
    assert_eq!(t.check(ALICE, 1, 1, 50_000, 1_000), Check::Refuse(Status::ExpiryWindow));
    assert_eq!(put(&mut t, ALICE, 1, 1, 50_000, 1_000, 1), Applied::Refused(Status::ExpiryWindow));
}

/// (client, floor, sequence, lifetime, time passed)
type Step = (u8, u64, u64, u64, u64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..4u8, 0..20u64, 0..24u64, 0..130_000u64, 0..9_000u64), 0..120)
}

/// Applies steps; `swept`: also as a leader does, that advances by ticks in between.
fn run(table: &mut Sessions, steps: &[Step], mut now: u64, from: u64, ticks: bool) -> (Vec<Applied>, u64) {
    let mut answers = Vec::new();
    for (i, &(client, floor, seq, life, passed)) in steps.iter().enumerate() {
        now += passed;
        if ticks {
            table.advance(now);
        }
        answers.push(put(table, ClientId([client; 16]), floor, seq, now + life, now, from + i as u64));
    }
    (answers, now)
}

proptest! {
    #[test]
    fn a_table_restored_in_between_is_the_same_table(before in steps(), after in steps()) {
        let mut whole = table();
        let (_, now) = run(&mut whole, &before, 0, 1, false);
        let mut restored = Sessions::decode(&whole.encode(), 1 << 20).expect("own bytes");
        prop_assert_eq!(restored.encode(), whole.encode());
        let (a, _) = run(&mut whole, &after, now, 1_000, false);
        let (b, _) = run(&mut restored, &after, now, 1_000, true);
        prop_assert_eq!(a, b);
        prop_assert_eq!(restored.encode(), whole.encode());
        whole.advance(u64::MAX);
        restored.advance(u64::MAX);
        prop_assert_eq!((whole.bytes(), restored.bytes()), (0, 0));
    }

    #[test]
    fn no_operation_runs_twice(all in steps()) {
        // While its outcome may be asked for: with one expiry per sequence, fixed at the first attempt.
        let mut t = table();
        let mut ran = std::collections::BTreeSet::new();
        let mut now = 1_000;
        for (i, &(client, floor, seq, _, passed)) in all.iter().enumerate() {
            now += passed;
            let expiry = 60_000 + seq * 5_000;
            if put(&mut t, ClientId([client; 16]), floor.min(seq), seq, expiry, now, i as u64) == Applied::Run {
                prop_assert!(ran.insert((client, seq)), "sequence {} of {} ran twice", seq, client);
            }
        }
    }

    #[test]
    fn hostile_bytes_are_refused_or_read_and_never_panic(all in steps(), at in any::<usize>(), with in any::<u8>(), cut in any::<usize>()) {
        let mut t = table();
        run(&mut t, &all, 0, 1, false);
        let mut bytes = t.encode();
        let at = at % bytes.len();
        bytes[at] ^= with;
        if let Ok(mut read) = Sessions::decode(&bytes, 1 << 20) {
            prop_assert_eq!(read.encode(), bytes.clone(), "what is read is what was written");
            read.advance(u64::MAX);
        }
        bytes.truncate(cut % (bytes.len() + 1));
        let _ = Sessions::decode(&bytes, 1 << 20);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Sessions::decode(&bytes, 1 << 20);
    }
}
