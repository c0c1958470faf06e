//! Memory, log and queues stay bounded, whatever happens to a store or a client.

use ringkv_session::{Held, SessionConfig};
use ringkv_shard::config::{Budgets, Queues, StoreView};
use ringkv_wire::limits::MESSAGE_BYTES_MAX;

/// Entries of one replica in memory: what is not committed (32 MiB, and the entry that a leader always takes), and the
/// window for followers that are a little behind (4 MiB).
const RAFT_BYTES: usize = (32 << 20) + MESSAGE_BYTES_MAX + (4 << 20);
/// What one replica may still apply after writes are refused for what memtables take: its uncommitted entries, twice over for what the memtable adds
/// to each.
const MEMTABLE_REST_BYTES: usize = 2 * RAFT_BYTES;
/// A session table over its budget refuses new operations; those of one entry in flight may still come.
const SESSION_REST_BYTES: usize = 1 << 20;
/// Answers that a connection has not taken: beyond 8 MiB it is told `busy`; one answer may have been begun below that.
const UNREAD_BYTES: usize = (8 << 20) + MESSAGE_BYTES_MAX;
/// Reads of one store that wait for the disk.
const DISK_READS: usize = 128;

/// Commits of one replica on their way to the log. As a leader it proposes nothing once its log has not answered for 500 ms; as
/// a follower it is sent 64 appends that it does not answer, by each leader that it meets meanwhile; it votes once a term.
const COMMITS: usize = 512;
/// Segments of a log at rest beyond what is kept for followers: the one that takes batches, two that are ready, one that is
/// being made a new one.
const SEGMENTS: u64 = 4;
/// Keys of calls that have ended since a session last swept its queues: ten times a second.
const SWEPT_KEYS: usize = 1_024;
/// A session's connections beside one to each store: three seeds at a time, and one that was given up and not yet closed.
const OTHER_CONNS: usize = 4;
/// A session's requests on one connection: its window of 64, and those for map and status.
const REQUESTS: usize = 64 + 2;

/// Says that a log takes too much of its disk at rest.
pub fn log_beyond(bytes: u64, budgets: &Budgets) -> Option<String> {
    let most = budgets.log_keep_bytes + SEGMENTS * budgets.segment_bytes;
    (bytes > most).then(|| format!("unbounded: {bytes} bytes of log on a disk at rest, at most {most}"))
}

/// What of a session is beyond its bound; `asked`: of its calls so many are waited for. `stores`: of the whole cluster.
pub fn session_beyond(held: &Held, asked: usize, stores: usize) -> Vec<String> {
    let usual = SessionConfig::new(Vec::new(), Default::default());
    let all = [
        ("calls that nobody waits for", held.calls, asked),
        ("bytes of calls", held.bytes, usual.held_bytes_max),
        ("queued keys", held.queued_keys, held.waiting_keys + SWEPT_KEYS),
        ("connections", held.conns, stores + OTHER_CONNS),
        ("requests on one connection", held.requests, REQUESTS),
        ("bytes of requests on one connection", held.request_bytes, usual.window_bytes + MESSAGE_BYTES_MAX),
    ];
    let beyond = all.into_iter().filter(|(_, got, most)| got > most);
    beyond.map(|(what, got, most)| format!("a client: unbounded: {got} {what}, at most {most}")).collect()
}

/// What is beyond its bound.
pub fn beyond(view: &StoreView, budgets: &Budgets) -> Vec<String> {
    let Queues { unanswered, unread_bytes, disk_reads, commits, snapshots, .. } = view.queues;
    let replicas = view.shards.len();
    let memtables = budgets.memtables_most_bytes() + replicas * MEMTABLE_REST_BYTES;
    let mut all = vec![
        ("bytes in memtables", view.memtable_bytes, memtables),
        // The one beyond is refused at once, in the same turn.
        ("unanswered requests of a connection", unanswered, budgets.inflight_requests + 1),
        ("bytes of answers that a connection has not taken", unread_bytes, UNREAD_BYTES),
        ("reads that wait for the disk", disk_reads, DISK_READS),
        ("commits on their way to the log", commits, replicas * COMMITS),
        // One in, and one out to each of four other replicas, of each shard.
        ("snapshots under way", snapshots, replicas * 5),
    ];
    for shard in &view.shards {
        all.push(("bytes of entries in memory", shard.raft_bytes, RAFT_BYTES));
        all.push(("bytes of a session table", shard.session_bytes, budgets.session_bytes + SESSION_REST_BYTES));
    }
    let beyond = all.into_iter().filter(|(_, got, most)| got > most);
    beyond.map(|(what, got, most)| format!("{}: unbounded: {got} {what}, at most {most}", view.id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_core::raft::Role;
    use ringkv_shard::config::ShardView;
    use ringkv_wire::ids::{Generation, ShardId, StoreId};

    fn view() -> StoreView {
        let shard = ShardView {
            shard: ShardId(1),
            generation: Generation(1),
            role: Role::Follower,
            term: 1,
            leader: None,
            commit: 0,
            applied: 0,
            last_index: 0,
            log_time_ms: 0,
            session_bytes: 0,
            raft_bytes: 0,
        };
        let (id, queues) = (StoreId::new(1, 0), Queues::default());
        StoreView { id, admitted: true, failed: false, memtable_bytes: 0, queues, shards: vec![shard] }
    }

    #[test]
    fn what_grows_without_bound_is_named() {
        let budgets = Budgets::default();
        assert_eq!(beyond(&view(), &budgets), Vec::<String>::new());
        type Grow = fn(&mut StoreView);
        let cases: [(&str, Grow); 8] = [
            ("memtables", |view| view.memtable_bytes = 1 << 30),
            ("unanswered", |view| view.queues.unanswered = 5_000),
            ("has not taken", |view| view.queues.unread_bytes = 1 << 28),
            ("wait for the disk", |view| view.queues.disk_reads = 129),
            ("on their way to the log", |view| view.queues.commits = 513),
            ("snapshots", |view| view.queues.snapshots = 6),
            ("entries in memory", |view| view.shards[0].raft_bytes = 1 << 28),
            ("session table", |view| view.shards[0].session_bytes = 10 << 20),
        ];
        for (word, grow) in cases {
            let mut view = view();
            grow(&mut view);
            let wrong = beyond(&view, &budgets);
            assert!(wrong.len() == 1 && wrong[0].contains(word), "{word}: {wrong:?}");
        }
    }

    #[test]
    fn what_grows_without_bound_in_a_session_is_named() {
        let fine =
            Held { calls: 3, bytes: 900, waiting_keys: 5, queued_keys: 5, conns: 4, requests: 64, request_bytes: 1 };
        assert_eq!(session_beyond(&fine, 3, 3), Vec::<String>::new());
        let cases: [(&str, Held); 6] = [
            ("nobody waits for", Held { calls: 4, ..fine }),
            ("bytes of calls", Held { bytes: 1 << 30, ..fine }),
            ("queued keys", Held { queued_keys: 1_030, ..fine }),
            ("connections", Held { conns: 8, ..fine }),
            ("requests on one", Held { requests: 67, ..fine }),
            ("bytes of requests", Held { request_bytes: 1 << 30, ..fine }),
        ];
        for (word, held) in cases {
            let wrong = session_beyond(&held, 3, 3);
            assert!(wrong.len() == 1 && wrong[0].contains(word), "{word}: {wrong:?}");
        }
    }

    #[test]
    fn a_log_at_rest_keeps_what_it_is_told_and_four_segments() {
        let budgets = Budgets { segment_bytes: 2 << 20, log_keep_bytes: 1 << 20, ..Budgets::default() };
        assert_eq!(log_beyond(9 << 20, &budgets), None);
        assert!(log_beyond(11 << 20, &budgets).is_some_and(|what| what.contains("unbounded")));
    }
}
