//! What an installed snapshot leaves of the log.

use bytes::Bytes;
use ringkv_core::effects::{Effects, Persist};
use ringkv_core::raft::{Input, Raft, Restored};
use ringkv_wire::entry::{Entry, EntryKind};
use ringkv_wire::ids::{Generation, Now, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;

use crate::replica::SHARD;

fn config() -> Configuration {
    Configuration::of_voters(&[1, 2, 3].map(|n| StoreId::new(n, 0)))
}

fn entry(index: u64, term: u64) -> Entry {
    let (generation, kind, body) = (Generation(1), EntryKind::Operations, Bytes::new());
    Entry { shard: SHARD, generation, term, index, log_time_ms: index, kind, body, body_crc: 0 }
}

/// A follower in term 2 with entries 1..=5 of term 1, durable, none known to be committed.
fn follower() -> Raft {
    let restored = Restored {
        me: StoreId::new(1, 0),
        shard: SHARD,
        generation: Generation(1),
        term: 2,
        vote: None,
        floor_index: 0,
        floor_term: 0,
        config: (0, config()),
        applied: 0,
        log_time_ms: 0,
        entries: (1..=5).map(|index| entry(index, 1)).collect(),
    };
    Raft::new(restored, Now { boot_ns: 1, wall_ms: 1 }, 0)
}

fn install(raft: &mut Raft, index: u64, term: u64) -> Effects {
    let mut out = Effects::default();
    let input = Input::Installed { index, term, log_time_ms: index, config: (0, config()) };
    raft.step(Now { boot_ns: 2, wall_ms: 2 }, 0, input, &mut out);
    out
}

#[test]
fn what_follows_the_snapshot_is_kept_and_written_again() {
    let mut raft = follower();
    assert!(!raft.needs_snapshot(3, 1), "the log holds that entry");
    let out = install(&mut raft, 3, 1);
    assert_eq!(out.persist, [entry(4, 1), entry(5, 1)].map(Persist::Entry));
    assert_eq!((raft.floor(), raft.commit(), raft.last_index()), ((3, 1), 3, 5));
    assert_eq!(raft.status().durable_index, 3, "durable once it is written again");
}

#[test]
fn what_contradicts_the_snapshot_goes() {
    let mut raft = follower();
    assert!(raft.needs_snapshot(3, 2));
    let out = install(&mut raft, 3, 2);
    assert!(out.persist.is_empty() && out.apply.is_empty());
    assert_eq!((raft.floor(), raft.commit(), raft.last_index()), ((3, 2), 3, 3));
    assert_eq!(raft.status().uncommitted_bytes, 0);
}

#[test]
fn a_snapshot_behind_the_commit_index_changes_nothing() {
    let mut raft = follower();
    let mut out = Effects::default();
    let body = PeerBody::Heartbeat { round: 1, commit: 4 };
    let input = Input::Message { from: StoreId::new(2, 0), term: 2, body };
    raft.step(Now { boot_ns: 2, wall_ms: 2 }, 0, input, &mut out);
    assert_eq!(out.apply.len(), 4);
    assert!(!raft.needs_snapshot(4, 2));
    install(&mut raft, 4, 2);
    assert_eq!((raft.floor(), raft.last_index()), ((0, 0), 5));
}

#[test]
fn a_restored_state_that_contradicts_itself_never_votes() {
    for damage in [
        |r: &mut Restored| drop(r.entries.remove(1)),
        |r: &mut Restored| r.applied = 9,
        |r: &mut Restored| {
            r.entries[4].term = 0;
        },
    ] {
        let mut restored = Restored {
            me: StoreId::new(1, 0),
            shard: SHARD,
            generation: Generation(1),
            term: 2,
            vote: None,
            floor_index: 0,
            floor_term: 0,
            config: (0, config()),
            applied: 0,
            log_time_ms: 0,
            entries: (1..=5).map(|index| entry(index, 1)).collect(),
        };
        damage(&mut restored);
        let mut raft = Raft::new(restored, Now { boot_ns: 1, wall_ms: 1 }, 0);
        let mut out = Effects::default();
        let body = PeerBody::Vote { last_index: 9, last_term: 2, transfer: false };
        let input = Input::Message { from: StoreId::new(2, 0), term: 3, body };
        raft.step(Now { boot_ns: 1_000_000_000, wall_ms: 1 }, 0, input, &mut out);
        assert_eq!(out, Effects::default());
        assert!(raft.status().retired && raft.next_deadline_ns() == u64::MAX);
    }
}
