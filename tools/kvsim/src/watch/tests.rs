//! Each check can say no: a history that is right passes, and one wrong step in it is named.

use super::look::{Look, Seen};
use super::platter::Platter;
use super::{Group, Life, State, wire};
use ringkv_core::raft::Role;
use ringkv_storage::wal::HardState;
use ringkv_storage::wal::shadow::Held;
use ringkv_wire::entry::{Entry, EntryKind, OpKind, Operation, Operations};
use ringkv_wire::ids::{ClientId, Generation, KeyspaceId, ShardId, StoreId};
use ringkv_wire::msg::client::WriteResult;
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::{PeerBody, PeerMessage};
use ringkv_wire::status::Status;

const SHARD: ShardId = ShardId::new(1, 0);

fn store(n: u32) -> StoreId {
    StoreId::new(n, 0)
}

/// A replica as it might be.
#[derive(Clone)]
struct Fake {
    role: Role,
    hard: (u64, Option<StoreId>),
    commit: u64,
    floor: (u64, u64),
    /// Term and checksum of each entry behind the floor.
    log: Vec<(u64, u32)>,
    config: Configuration,
}

impl Fake {
    fn new(role: Role, term: u64, vote: u32, commit: u64, log: &[(u64, u32)]) -> Fake {
        let config = Configuration::of_voters(&[store(1), store(2), store(3)]);
        let vote = (vote != 0).then(|| store(vote));
        Fake { role, hard: (term, vote), commit, floor: (0, 0), log: log.to_vec(), config }
    }
}

impl Look for Fake {
    fn seen(&self) -> Seen {
        let last = self.floor.0 + self.log.len() as u64;
        let last = (last, self.term_at(last).unwrap_or_default());
        Seen { role: self.role, hard: self.hard, commit: self.commit, floor: self.floor, last }
    }
    fn term_at(&self, index: u64) -> Option<u64> {
        match index.checked_sub(self.floor.0)? {
            0 => Some(self.floor.1),
            at => self.log.get(at as usize - 1).map(|entry| entry.0),
        }
    }
    fn crc_at(&self, index: u64) -> Option<u32> {
        self.log.get((index - self.floor.0) as usize - 1).map(|entry| entry.1)
    }
    fn config(&self) -> &Configuration {
        &self.config
    }
}

/// Three stores whose disks hold what they say.
struct World(State);

impl World {
    /// Store 1 leads term 1 with three entries, of which two are committed; 2 has them all, 3 only the first.
    fn new() -> World {
        let mut world = World(State::default());
        for n in 1..=3 {
            world.0.platters.insert(store(n), Platter::new([0; 16]));
            assert_eq!(world.open(n, &Fake::new(Role::Follower, 0, 0, 0, &[])), Vec::<String>::new());
        }
        let log = [(1, 11), (1, 12), (1, 13)];
        world.durable(1, (1, 1), &[1, 1, 1]);
        world.durable(2, (1, 1), &[1, 1, 1]);
        world.durable(3, (1, 0), &[1]);
        let right = [
            (1, Fake::new(Role::Candidate, 1, 1, 0, &[])),
            (1, Fake::new(Role::Leader, 1, 1, 0, &log[..1])),
            (1, Fake::new(Role::Leader, 1, 1, 0, &log)),
            (2, Fake::new(Role::Follower, 1, 1, 0, &log)),
            (3, Fake::new(Role::Follower, 1, 0, 0, &log[..1])),
            (1, Fake::new(Role::Leader, 1, 1, 2, &log)),
            (2, Fake::new(Role::Follower, 1, 1, 2, &log)),
        ];
        for (n, fake) in &right {
            assert_eq!(world.step(*n, fake), Vec::<String>::new());
        }
        world
    }

    fn life(n: u32) -> Life {
        (store(n), 0)
    }

    fn open(&mut self, n: u32, fake: &Fake) -> Vec<String> {
        self.0.opened(World::life(n), SHARD, fake)
    }

    fn step(&mut self, n: u32, fake: &Fake) -> Vec<String> {
        let (group, platters) = self.0.group(SHARD);
        group.stepped(World::life(n), fake, platters)
    }

    fn durable(&mut self, n: u32, (term, vote): (u64, u32), terms: &[u64]) {
        let hard = HardState { term, vote: (vote != 0).then(|| store(vote)) };
        let held = Held::new(hard, (0, 0), terms.iter().copied());
        self.0.platters.get_mut(&store(n)).unwrap().recovered(SHARD, held);
    }

    fn says(&self, n: u32, to: u32, term: u64, body: PeerBody) -> Option<String> {
        let message = PeerMessage { shard: SHARD, generation: Generation(1), term, body };
        let (platter, group) = (&self.0.platters[&store(n)], &self.0.groups[&SHARD]);
        wire::judge(store(n), store(to), &message, platter, group)
    }
}

#[test]
fn one_wrong_step_is_named() {
    use Role::{Candidate, Follower, Leader};
    let all = [(1, 11), (1, 12), (1, 13)];
    let cases: [(&str, u32, Fake); 17] = [
        ("Election Safety", 2, Fake::new(Leader, 1, 1, 2, &all)),
        ("without a majority's durable votes", 2, Fake::new(Leader, 2, 2, 2, &[all[0], all[1], all[2], (2, 21)])),
        ("Leader Append-Only", 1, Fake::new(Leader, 1, 1, 2, &all[..2])),
        ("Log Matching", 3, Fake::new(Follower, 1, 0, 0, &[all[0], (1, 99)])),
        ("no leader made it", 3, Fake::new(Follower, 1, 0, 0, &[all[0], all[1], all[2], (1, 14)])),
        ("Leader Completeness", 3, Fake::new(Leader, 2, 3, 0, &[all[0], (2, 21)])),
        ("was committed, and is dropped", 2, Fake::new(Follower, 2, 0, 2, &all[..1])),
        ("durable on less than a majority", 1, Fake::new(Leader, 1, 1, 4, &[all[0], all[1], all[2], (1, 14)])),
        ("no leader has committed", 2, Fake::new(Follower, 1, 1, 3, &all)),
        ("term went back", 2, Fake::new(Follower, 0, 0, 2, &all)),
        ("its vote changed", 2, Fake::new(Follower, 1, 3, 2, &all)),
        ("its vote changed", 2, Fake::new(Follower, 1, 0, 2, &all)),
        ("commit went back", 2, Fake::new(Follower, 1, 1, 1, &all)),
        ("does not hold", 3, Fake::new(Follower, 1, 0, 2, &all[..1])),
        ("it commits entry 2", 3, Fake::new(Follower, 2, 0, 2, &[all[0], (2, 22)])),
        ("follows one of term", 3, Fake::new(Candidate, 1, 3, 0, &[all[0], (2, 22)])),
        ("a log begins behind", 2, Fake { floor: (2, 9), ..Fake::new(Follower, 1, 1, 2, &all[2..]) }),
    ];
    for (word, n, fake) in cases {
        let wrong = World::new().step(n, &fake);
        assert!(wrong.iter().any(|w| w.contains(word)), "{word}: {wrong:?}");
    }
}

#[test]
fn right_steps_pass() {
    use Role::{Follower, Leader};
    let all = [(1, 11), (1, 12), (1, 13)];
    let mut world = World::new();
    // An uncommitted tail is replaced by the leader of a later term; a log is reclaimed below the commit index.
    world.durable(3, (2, 3), &[1, 1, 2]);
    world.durable(2, (2, 3), &[1, 1, 2]);
    let right = [
        (3, Fake::new(Follower, 1, 0, 2, &all[..2])),
        (3, Fake::new(Leader, 2, 3, 2, &[all[0], all[1], (2, 21)])),
        (2, Fake::new(Follower, 2, 3, 2, &[all[0], all[1], (2, 21)])),
        (3, Fake::new(Leader, 2, 3, 3, &[all[0], all[1], (2, 21)])),
        (2, Fake { floor: (2, 1), ..Fake::new(Follower, 2, 3, 3, &[(2, 21)]) }),
    ];
    for (n, fake) in &right {
        assert_eq!(world.step(*n, fake), Vec::<String>::new());
    }
    // What counted as committed then must not be missed by a leader of a later term; that of the lower one may lack it.
    assert_eq!(world.step(1, &Fake::new(Follower, 2, 3, 2, &all)), Vec::<String>::new());
    world.durable(1, (3, 1), &[1, 1, 1]);
    world.durable(2, (3, 1), &[1, 1, 2]);
    let wrong = world.step(1, &Fake::new(Leader, 3, 1, 2, &all));
    assert!(wrong.iter().any(|w| w.contains("Leader Completeness")), "{wrong:?}");
}

#[test]
fn what_was_promised_must_be_found_again() {
    let all = [(1, 11), (1, 12), (1, 13)];
    let cases = [
        ("durable, and now", Fake::new(Role::Follower, 1, 0, 2, &all)),
        ("entry 2 of term 1 was durable", Fake::new(Role::Follower, 1, 1, 1, &all[..1])),
        ("Log Matching", Fake::new(Role::Follower, 1, 1, 2, &[all[0], (1, 99), all[2]])),
        ("no leader has committed", Fake::new(Role::Follower, 1, 1, 3, &all)),
        ("its tables held 2", Fake::new(Role::Follower, 1, 1, 1, &all)),
    ];
    let reopened = |fake: &Fake, damaged: bool| {
        let mut world = World::new();
        let platter = world.0.platters.get_mut(&store(2)).unwrap();
        platter.flushed(SHARD, 2);
        platter.damaged = damaged;
        platter.begins();
        world.open(2, fake)
    };
    for (word, fake) in &cases {
        let wrong = reopened(fake, false);
        assert!(wrong.iter().any(|w| w.contains(word)), "{word}: {wrong:?}");
    }
    assert_eq!(reopened(&Fake::new(Role::Follower, 1, 1, 2, &all), false), Vec::<String>::new());
    // A damaged disk may lose what it promised; it may not make things up.
    assert_eq!(reopened(&cases[1].1, true), Vec::<String>::new());
    assert!(!reopened(&cases[2].1, true).is_empty());
}

#[test]
fn what_is_said_must_be_durable() {
    let world = World::new();
    let ack = |index| PeerBody::AppendReply { round: 1, accepted: true, index, term: 0, wall_ms: 0 };
    let vote = |last_index| PeerBody::Vote { last_index, last_term: 1, transfer: false };
    let wrong = [
        world.says(3, 1, 1, ack(2)),
        world.says(2, 1, 2, ack(3)),
        world.says(2, 3, 1, PeerBody::VoteReply { granted: true }),
        world.says(3, 1, 2, PeerBody::VoteReply { granted: true }),
        world.says(3, 1, 1, vote(1)),
        world.says(1, 2, 1, vote(4)),
    ];
    for (at, wrong) in wrong.iter().enumerate() {
        assert!(wrong.as_ref().is_some_and(|w| w.starts_with("Durable before answered")), "case {at}: {wrong:?}");
    }
    let right = [
        world.says(2, 1, 1, ack(3)),
        world.says(3, 1, 1, ack(1)),
        world.says(2, 1, 1, PeerBody::VoteReply { granted: true }),
        world.says(3, 1, 9, PeerBody::VoteReply { granted: false }),
        world.says(1, 2, 1, vote(3)),
        world.says(1, 2, 1, vote(2)),
        world.says(2, 1, 0, ack(9)),
    ];
    assert_eq!(right.map(|wrong| wrong.is_some()), [false; 7], "somebody is accused wrongly");
}

/// Found by seed 10056: the question was made with a log that the winner of the election has replaced since.
#[test]
fn a_candidacy_that_leaves_after_it_was_lost_is_no_lie() {
    let mut world = World::new();
    let vote = PeerBody::Vote { last_index: 4, last_term: 1, transfer: false };
    world.durable(2, (1, 2), &[1, 1, 1]);
    assert_eq!(world.says(2, 3, 1, vote.clone()), None);
    // Nobody has won: then it is one.
    world.durable(2, (2, 2), &[1, 1, 1]);
    assert!(world.says(2, 3, 2, vote).is_some());
}

/// An acknowledged entry is the leader's own, not just any entry in its place.
#[test]
fn another_entry_in_its_place_is_no_acknowledgement() {
    let mut world = World::new();
    world.durable(3, (1, 0), &[1, 0]);
    let ack = PeerBody::AppendReply { round: 1, accepted: true, index: 2, term: 0, wall_ms: 0 };
    assert!(world.says(3, 1, 1, ack).is_some());
}

#[test]
fn promises_are_found_among_other_messages() {
    use ringkv_wire::frame::{Kind, encode};
    let message = |body| PeerMessage { shard: SHARD, generation: Generation(1), term: 4, body };
    let vote = message(PeerBody::VoteReply { granted: true });
    let mut body = Vec::new();
    message(PeerBody::Heartbeat { round: 3, commit: 9 }).encode(&mut body);
    vote.encode(&mut body);
    let (mut frames, mut whole) = (Vec::new(), Vec::new());
    encode(Kind::Snapshot, 0, &[3; 100], &mut frames);
    encode(Kind::Peer, 0, &body, &mut frames);
    encode(Kind::Peer, 0, &body, &mut whole);
    frames.extend_from_slice(&whole);
    assert_eq!(wire::promises(&frames.clone().into()), [vote.clone(), vote]);
    // Bytes that are no frames are no promise, and no panic.
    (0..frames.len()).for_each(|cut| drop(wire::promises(&frames[cut..].to_vec().into())));
}

fn entry(index: u64, term: u64, seq: u64) -> Entry {
    let op = Operation {
        kind: OpKind::Put,
        seq,
        expiry_ms: 9_000,
        keyspace: KeyspaceId(1),
        key: "k".into(),
        value: "v".into(),
    };
    let mut body = Vec::new();
    Operations { client: ClientId([5; 16]), floor: 0, ops: vec![op] }.encode(&mut body);
    let body_crc = ringkv_wire::checksum(&body);
    let (generation, kind) = (Generation(1), EntryKind::Operations);
    Entry { shard: SHARD, generation, term, index, log_time_ms: 100 + term, kind, body: body.into(), body_crc }
}

fn ran(index: u64) -> [WriteResult; 1] {
    [WriteResult { status: Status::Ok, version: index }]
}

#[test]
fn what_is_applied_is_equal_everywhere_and_once() {
    type Case<'a> = (&'a str, &'a [(u32, Entry, [WriteResult; 1])]);
    let cases: [Case; 7] = [
        ("State Machine Safety", &[(1, entry(1, 1, 1), ran(1)), (2, entry(1, 2, 1), ran(1))]),
        ("State Machine Safety", &[(1, entry(1, 1, 1), ran(1)), (2, entry(1, 1, 2), ran(1))]),
        // One replica ran what the other had run before: it forgot.
        ("State Machine Safety", &[(1, entry(9, 1, 1), ran(9)), (2, entry(9, 1, 1), ran(4))]),
        ("Exactly-once", &[(1, entry(1, 1, 1), ran(1)), (1, entry(2, 1, 1), ran(2))]),
        ("go back", &[(1, entry(1, 2, 1), ran(1)), (1, entry(2, 1, 2), ran(2))]),
        ("again", &[(1, entry(1, 1, 1), ran(1)), (1, entry(1, 1, 1), ran(1))]),
        ("", &[(1, entry(1, 1, 1), ran(1)), (1, entry(2, 1, 1), ran(1)), (2, entry(1, 1, 1), ran(1))]),
    ];
    for (word, applied) in cases {
        let mut state = State::default();
        let wrong: Vec<String> =
            applied.iter().flat_map(|(n, entry, results)| state.applied(store(*n), entry, results)).collect();
        let right = if word.is_empty() { wrong.is_empty() } else { wrong.iter().any(|w| w.contains(word)) };
        assert!(right, "{word}: {wrong:?}");
    }
}

#[test]
fn a_group_knows_what_is_committed_from_its_first_index() {
    let mut group = Group::new(SHARD);
    group.committed = vec![(1, 1), (3, 3)];
    assert_eq!([0, 1, 2, 3].map(|index| group.committed(index)), [None, Some(1), Some(3), None]);
}
