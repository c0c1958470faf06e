//! A leader of three: what 64 entries cost it from proposal to commit: `cargo bench -p ringkv-benches --bench raft`.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringkv_benches::operations;
use ringkv_core::effects::{Effects, Outgoing};
use ringkv_core::raft::{Input, Raft, Restored, Role};
use ringkv_wire::entry::EntryKind;
use ringkv_wire::ids::{Generation, Now, ShardId, StoreId};
use ringkv_wire::msg::config::Configuration;
use ringkv_wire::msg::peer::PeerBody;

/// Proposals of one turn.
const ENTRIES: u64 = 64;

/// A leader, and what it wants done.
struct Leader {
    raft: Raft,
    now: Now,
    out: Effects,
}

/// What a follower says to a message that it agrees with.
fn agree(told: &PeerBody) -> Option<PeerBody> {
    Some(match told {
        PeerBody::PreVote { .. } => PeerBody::PreVoteReply { granted: true },
        PeerBody::Vote { .. } => PeerBody::VoteReply { granted: true },
        PeerBody::Append { round, prev_index, entries, .. } => {
            let index = prev_index + entries.len() as u64;
            PeerBody::AppendReply { round: *round, accepted: true, index, term: 0, wall_ms: 0 }
        }
        PeerBody::Heartbeat { round, .. } => PeerBody::HeartbeatReply { round: *round, follows: true, wall_ms: 0 },
        _ => return None,
    })
}

impl Leader {
    fn elected() -> Leader {
        let stores = [1, 2, 3].map(|node| StoreId::new(node, 0));
        let restored = Restored {
            me: stores[0],
            shard: ShardId(1),
            generation: Generation(1),
            term: 0,
            vote: None,
            floor_index: 0,
            floor_term: 0,
            config: (0, Configuration::of_voters(&stores)),
            applied: 0,
            log_time_ms: 0,
            entries: Vec::new(),
        };
        let now = Now { boot_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 };
        let mut leader = Leader { raft: Raft::new(restored, now, 7), now, out: Effects::default() };
        leader.now.boot_ns = leader.raft.next_deadline_ns();
        leader.step(Input::Tick);
        for _ in 0..10 {
            leader.turn();
        }
        assert_eq!(leader.raft.role(), Role::Leader);
        leader.out.apply.clear();
        leader
    }

    fn step(&mut self, input: Input) {
        self.raft.step(self.now, 7, input, &mut self.out);
    }

    /// The disk and the followers do what they are asked to.
    fn turn(&mut self) {
        self.out.persist.clear();
        let mut messages = std::mem::take(&mut self.out.send);
        messages.append(&mut self.out.after_persist);
        self.step(Input::Persisted { ticket: self.out.ticket });
        for (from, Outgoing { term, body }) in &messages {
            if let Some(body) = agree(body) {
                self.step(Input::Message { from: *from, term: *term, body });
            }
        }
    }
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("leader");
    group.throughput(Throughput::Elements(ENTRIES));
    let mut body = Vec::new();
    operations(1).encode(&mut body);
    let (body, body_crc) = (Bytes::from(body.clone()), ringkv_wire::checksum(&body));
    let mut leader = Leader::elected();
    let mut token = 0;
    group.bench_function("64 proposals to commit", |b| {
        b.iter(|| {
            for _ in 0..ENTRIES {
                token += 1;
                leader.step(Input::Propose { kind: EntryKind::Operations, body: body.clone(), body_crc, token });
            }
            while leader.out.apply.len() < ENTRIES as usize {
                leader.turn();
            }
            let applied = leader.out.apply.len();
            leader.out.apply.clear();
            let index = leader.raft.commit();
            leader.step(Input::Reclaimed { index });
            applied
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("a read by the lease", |b| {
        b.iter(|| {
            token += 1;
            leader.step(Input::Read { token, read_index: false });
            leader.out.reads.drain(..).count()
        });
    });
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
