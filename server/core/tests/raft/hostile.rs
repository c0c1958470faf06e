//! Messages and local inputs that no sound peer would send: a replica may ignore them, never panic on them.

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_core::effects::Effects;
use ringkv_core::raft::{Input, Raft, Restored, Role};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, Now, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;

fn store(n: u32) -> StoreId {
    StoreId::new(n, 0)
}

/// A replica at its very beginning, the first of these.
fn fresh(voters: &[StoreId]) -> Restored {
    Restored {
        me: store(1),
        shard: ShardId(1),
        generation: Generation(1),
        term: 0,
        vote: None,
        floor_index: 0,
        floor_term: 0,
        config: (0, Configuration::of_voters(voters)),
        applied: 0,
        log_time_ms: 0,
        entries: Vec::new(),
    }
}

/// Small numbers that hit something, and absurd ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..8u64, 1 => Just(u64::MAX), 1 => Just(u64::MAX - 1), 1 => Just(1 << 60), 1 => any::<u64>()]
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![Just(EntryKind::Empty), Just(EntryKind::Operations), Just(EntryKind::Configuration)]
}

fn body() -> impl Strategy<Value = Bytes> {
    let config = |voters: &[u32]| {
        let mut out = Vec::new();
        Configuration::of_voters(&voters.iter().map(|&n| store(n)).collect::<Vec<_>>()).encode(&mut out);
        Bytes::from(out)
    };
    prop_oneof![Just(Bytes::new()), Just(Bytes::from_static(b"value")), Just(config(&[1, 2, 3, 4])), Just(config(&[])),]
}

fn entries() -> BoxedStrategy<Vec<Entry>> {
    let any = (number(), number(), number(), kind(), body());
    let chained = (number(), number(), prop::collection::vec((0..2u64, kind(), body()), 0..5));
    prop_oneof![
        prop::collection::vec(any, 0..4).prop_map(|list| {
            list.into_iter().map(|(index, term, time, kind, body)| entry(index, term, time, kind, body)).collect()
        }),
        chained.prop_map(|(first, mut term, list)| {
            let next = |(i, (step, kind, body)): (usize, (u64, EntryKind, Bytes))| {
                term = term.saturating_add(step);
                entry(first.saturating_add(i as u64), term, 5, kind, body)
            };
            list.into_iter().enumerate().map(next).collect()
        }),
    ]
    .boxed()
}

fn entry(index: u64, term: u64, log_time_ms: u64, kind: EntryKind, body: Bytes) -> Entry {
    Entry { shard: ShardId(1), generation: Generation(1), term, index, log_time_ms, kind, body, body_crc: 0 }
}

fn message() -> BoxedStrategy<PeerBody> {
    prop_oneof![
        (number(), number(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| PeerBody::PreVote {
            last_index,
            last_term,
            transfer
        }),
        any::<bool>().prop_map(|granted| PeerBody::PreVoteReply { granted }),
        (number(), number(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| PeerBody::Vote {
            last_index,
            last_term,
            transfer
        }),
        any::<bool>().prop_map(|granted| PeerBody::VoteReply { granted }),
        (number(), number(), number(), number(), entries()).prop_map(
            |(round, prev_index, prev_term, commit, entries)| PeerBody::Append {
                round,
                prev_index,
                prev_term,
                commit,
                entries
            }
        ),
        (number(), any::<bool>(), number(), number(), number()).prop_map(|(round, accepted, index, term, wall_ms)| {
            PeerBody::AppendReply { round, accepted, index, term, wall_ms }
        }),
        (number(), number()).prop_map(|(round, commit)| PeerBody::Heartbeat { round, commit }),
        (number(), any::<bool>(), number()).prop_map(|(round, follows, wall_ms)| PeerBody::HeartbeatReply {
            round,
            follows,
            wall_ms
        }),
        Just(PeerBody::TimeoutNow),
    ]
    .boxed()
}

/// Boxed, else the tree of values takes more stack than a test thread has.
fn input() -> BoxedStrategy<Input> {
    prop_oneof![
        3 => Just(Input::Tick),
        12 => (1..5u32, number(), message()).prop_map(|(from, term, body)| Input::Message {
            from: store(from),
            term,
            body
        }),
        2 => (kind(), body(), 1..100u64).prop_map(|(kind, body, token)| Input::Propose { kind, body, body_crc: 0, token }),
        1 => (1..100u64, any::<bool>()).prop_map(|(token, read_index)| Input::Read { token, read_index }),
        4 => number().prop_map(|ticket| Input::Persisted { ticket }),
        1 => (1..5u32, entries()).prop_map(|(to, entries)| Input::Fetched { to: store(to), entries }),
        1 => number().prop_map(|index| Input::Reclaimed { index }),
        1 => (1..5u32, number()).prop_map(|(to, index)| Input::SnapshotDone { to: store(to), index }),
        1 => prop::option::of(1..5u32).prop_map(|to| Input::Transfer { to: to.map(store) }),
        1 => (number(), number(), number()).prop_map(|(index, term, log_time_ms)| Input::Installed {
            index: index.min(1 << 60),
            term: term.min(1 << 60),
            log_time_ms,
            config: (index.min(1 << 60), Configuration::of_voters(&[store(1), store(2), store(3)])),
        }),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_panics(inputs in prop::collection::vec((input(), 0..200u64, any::<u64>()), 0..120), alone in any::<bool>()) {
        let voters: Vec<_> = if alone { vec![store(1)] } else { vec![store(1), store(2), store(3)] };
        let mut boot_ns = 1_000_000_000;
        let mut raft = Raft::new(fresh(&voters), Now { boot_ns, wall_ms: 0 }, 0);
        let (mut applied, mut term) = (0, 0);
        for (input, ms, random) in inputs {
            boot_ns += ms * 1_000_000;
            let installed = if let Input::Installed { index, .. } = &input { *index } else { 0 };
            let mut out = Effects::default();
            raft.step(Now { boot_ns, wall_ms: random }, random, input, &mut out);
            prop_assert!(raft.term() >= term);
            term = raft.term();
            applied = if raft.commit() == installed && installed > applied { installed } else { applied };
            for committed in &out.apply {
                prop_assert_eq!(committed.entry.index, applied + 1);
                applied += 1;
            }
            prop_assert_eq!(raft.commit(), applied);
            prop_assert!(raft.commit() <= raft.last_index());
            let _ = (raft.status(), raft.next_deadline_ns(), raft.log_time_now(Now { boot_ns, wall_ms: random }));
        }
    }
}

/// Found by `nothing_panics`: the votes of the older term, the own among them, were still counted, and one unasked-for answer in
/// the snapshot's term made a leader whose vote in that term was nowhere.
#[test]
fn a_snapshot_of_a_later_term_ends_a_candidacy() {
    let voters = [store(1), store(2), store(3)];
    let mut now = Now { boot_ns: 1_000_000_000, wall_ms: 0 };
    let (mut raft, mut out) = (Raft::new(fresh(&voters), now, 0), Effects::default());
    let installed = |index, term| Input::Installed {
        index,
        term,
        log_time_ms: 0,
        config: (index, Configuration::of_voters(&voters)),
    };
    let from_second = |term, body| Input::Message { from: store(2), term, body };
    for _ in 0..100 {
        now.boot_ns += 10_000_000;
        raft.step(now, 0, Input::Tick, &mut out);
    }
    assert_eq!(raft.role(), Role::PreCandidate);
    raft.step(now, 0, from_second(raft.term() + 1, PeerBody::PreVoteReply { granted: true }), &mut out);
    assert_eq!((raft.role(), raft.term()), (Role::Candidate, 1));
    raft.step(now, 0, Input::Persisted { ticket: out.ticket }, &mut out);
    raft.step(now, 0, installed(2, 6), &mut out);
    assert_eq!((raft.role(), raft.term()), (Role::Follower, 6));
    raft.step(now, 0, from_second(6, PeerBody::VoteReply { granted: true }), &mut out);
    assert_eq!(raft.role(), Role::Follower);
}
