//! Memory, log and queues stay bounded, whatever happens to a store.

use ringkv_shard::config::{Budgets, Queues, StoreView};
use ringkv_wire::limits::MESSAGE_BYTES_MAX;

/// Entries of one replica in memory: what is not committed (32 MiB, and the entry that a leader always takes), and the
/// window for followers that are a little behind (4 MiB).
const RAFT_BYTES: usize = (32 << 20) + MESSAGE_BYTES_MAX + (4 << 20);
/// Memtables beyond which nothing new is taken in, as a multiple of their budget; what was proposed by then still comes.
const MEMTABLE_BUDGETS: usize = 4;
/// What one replica may still apply after writes are refused: its uncommitted entries, twice over for what the memtable adds
/// to each.
const MEMTABLE_REST_BYTES: usize = 2 * RAFT_BYTES;
/// A session table over its budget refuses new operations; those of one entry in flight may still come.
const SESSION_REST_BYTES: usize = 1 << 20;
/// Answers that a connection has not taken: beyond 8 MiB it is told `busy`; one answer may have been begun below that.
const UNREAD_BYTES: usize = (8 << 20) + MESSAGE_BYTES_MAX;
/// Reads of one store that wait for the disk.
const DISK_READS: usize = 128;

/// What is beyond its bound.
pub fn beyond(view: &StoreView, budgets: &Budgets) -> Vec<String> {
    let Queues { unanswered, unread_bytes, disk_reads, snapshots, .. } = view.queues;
    let replicas = view.shards.len();
    let memtables = MEMTABLE_BUDGETS * budgets.memtable_bytes + replicas * MEMTABLE_REST_BYTES;
    let mut all = vec![
        ("bytes in memtables", view.memtable_bytes, memtables),
        // The one beyond is refused at once, in the same turn.
        ("unanswered requests of a connection", unanswered, budgets.inflight_requests + 1),
        ("bytes of answers that a connection has not taken", unread_bytes, UNREAD_BYTES),
        ("reads that wait for the disk", disk_reads, DISK_READS),
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
        let cases: [(&str, Grow); 7] = [
            ("memtables", |view| view.memtable_bytes = 1 << 30),
            ("unanswered", |view| view.queues.unanswered = 5_000),
            ("has not taken", |view| view.queues.unread_bytes = 1 << 28),
            ("wait for the disk", |view| view.queues.disk_reads = 129),
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
}
