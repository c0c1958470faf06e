//! What a call is told when it did not succeed: applied, not applied, or unknown.

use crate::world::*;
use bytes::Bytes;
use ringkv_session::{Advice, Ask, Cause, Completion, Error, Outcome, Status, Written};
use ringkv_wire::frame::Kind;
use ringkv_wire::limits;

#[test]
fn a_write_whose_deadline_passes_is_unknown_once_sent() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    w.asked.clear();
    w.pass(10_001);
    let error = w.written(call).expect_err("nobody answered");
    assert_eq!((error.outcome(), error.advice()), (Outcome::Unknown, Advice::Check));
    let failure = error.failure().expect("what was last heard");
    assert!(failure.attempts > 3, "{failure:?}");
    assert_eq!(failure.shard, w.map.shard_of(KEYSPACE, b"key").map(|s| s.id));
    let stats = w.session.stats();
    assert_eq!((stats.unknown, stats.redirects), (1, 0));
    assert!(stats.retries >= 3 && stats.lost >= 3, "{stats:?}");
    // What is given up is never sent again, and the floor passes it.
    w.asked.clear();
    w.pass(3_000);
    assert!(w.asked.is_empty());
    w.put("key", "11");
    w.pass(1_000);
    let (_, ops) = w.ask().write();
    assert_eq!((ops.floor, ops.ops[0].seq, ops.ops.len()), (2, 2, 1));
}

#[test]
fn a_write_that_was_only_refused_is_not_applied() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    for _ in 0..2_000 {
        w.turn();
        while let Some(asked) = w.asked.pop_front() {
            w.refuse(&asked, Status::Busy, None);
        }
        w.pass(10);
    }
    let error = w.written(call).expect_err("refused throughout");
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Retry));
    assert_eq!(error.failure().map(|f| f.cause), Some(Cause::Answered(Status::Busy)));
    assert!(error.failure().is_some_and(|f| f.attempts < 300), "{error}");
    assert_eq!(w.session.stats().unknown, 0);
}

#[test]
fn a_write_with_no_store_to_reach_is_not_applied() {
    let mut w = World::ready();
    let replicas = w.replicas("key");
    w.down.extend(replicas);
    let open: Vec<_> = w.open.keys().copied().collect();
    open.into_iter().for_each(|c| w.cut(c));
    let call = w.put("key", "10");
    w.pass(10_001);
    let error = w.written(call).expect_err("nobody there");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(error.failure().map(|f| (f.attempts, f.cause)), Some((0, Cause::NotSent)));
}

#[test]
fn a_new_expiry_only_when_every_attempt_was_refused() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    w.now.wall_ms += 500_000;
    w.answer_write(&asked, &[Status::ExpiryWindow]);
    w.turn();
    let asked = w.ask();
    let op = asked.write().1.ops[0].clone();
    assert_eq!((op.seq, op.expiry_ms), (1, w.now.wall_ms + 60_000), "the same sequence, by the log time of the reply");
    // Now one attempt stays undecided.
    w.cut(asked.conn);
    w.turn();
    w.pass(200);
    let asked = w.ask();
    assert_eq!(asked.write().1.ops[0], op);
    w.answer_write(&asked, &[Status::ExpiryWindow]);
    w.turn();
    let error = w.written(call).expect_err("nobody can tell");
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[test]
fn a_refusal_after_an_undecided_attempt_is_unknown() {
    for status in [Status::BelowFloor, Status::TooLarge, Status::Malformed] {
        let mut w = World::ready();
        let call = w.put("key", "10");
        w.turn();
        let asked = w.ask();
        w.answer_write(&asked, &[Status::Unknown]);
        w.turn();
        w.pass(200);
        let asked = w.ask();
        w.answer_write(&asked, &[status]);
        w.turn();
        assert_eq!(w.written(call).map_err(|e| e.outcome()), Err(Outcome::Unknown), "{status:?}");
    }
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    w.answer_write(&asked, &[Status::TooLarge]);
    w.turn();
    let error = w.written(call).expect_err("refused");
    assert_eq!((error.outcome(), error.advice()), (Outcome::NotApplied, Advice::Fix));
}

#[test]
fn an_answer_gone_is_applied() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    w.answer_write(&asked, &[Status::AnswerGone]);
    w.turn();
    assert_eq!(w.written(call).map_err(|e| (e.outcome(), e.advice())), Err((Outcome::Applied, Advice::GoOn)));
}

#[test]
fn limits_are_checked_before_anything_is_sent() {
    let mut w = World::ready();
    let long_key = Bytes::from(vec![0; limits::KEY_BYTES_MAX + 1]);
    let long_value = Bytes::from(vec![0; limits::VALUE_BYTES_MAX + 1]);
    let empty = w.get("");
    let key = w.submit(Ask::Get { keyspace: KEYSPACE, key: long_key.clone() });
    let value = w.submit(Ask::Put { keyspace: KEYSPACE, key: bytes("k"), value: long_value });
    let nowhere = w.submit(Ask::Get { keyspace: ringkv_session::KeyspaceId(77), key: bytes("k") });
    let pairs = vec![(bytes("ok"), bytes("1")), (long_key, bytes("2"))];
    let many = w.submit(Ask::PutMany { keyspace: KEYSPACE, pairs });
    w.turn();
    assert_eq!(w.got(empty), Err(Error::KeySize { bytes: 0 }));
    assert_eq!(w.got(key), Err(Error::KeySize { bytes: 65_536 }));
    assert_eq!(w.written(value), Err(Error::ValueSize { bytes: (16 << 20) + 1 }));
    assert!(matches!(w.got(nowhere), Err(Error::NoKeyspace(_))));
    let sent: Vec<_> = std::mem::take(&mut w.asked).into_iter().filter(|a| a.kind != Kind::Map).collect();
    assert_eq!(sent.len(), 1, "the one good key");
    w.answer_write(&sent[0], &[Status::Ok]);
    w.turn();
    let Some(Completion::WrittenMany(results)) = w.done.remove(&many) else { panic!("not done") };
    assert_eq!(results, [Ok(Written { version: 100 }), Err(Error::KeySize { bytes: 65_536 })]);
}

#[test]
fn results_within_one_reply_differ() {
    let mut w = World::ready();
    let pairs = (0..3).map(|_| (bytes("key"), bytes("v"))).collect();
    let call = w.submit(Ask::PutMany { keyspace: KEYSPACE, pairs });
    w.turn();
    let asked = w.ask();
    w.answer_write(&asked, &[Status::Ok, Status::Busy, Status::TooLarge]);
    w.turn();
    w.pass(100);
    let asked = w.ask();
    let ops = asked.write().1;
    assert_eq!((ops.ops.len(), ops.ops[0].seq, ops.floor), (1, 2, 2), "only the one that was refused for now");
    w.answer_write(&asked, &[Status::Ok]);
    w.turn();
    let Some(Completion::WrittenMany(results)) = w.done.remove(&call) else { panic!("not done") };
    assert!(results[0].is_ok() && results[1].is_ok());
    assert!(matches!(&results[2], Err(Error::Refused(f)) if f.cause == Cause::Answered(Status::TooLarge)));
}

#[test]
fn what_is_held_is_bounded() {
    let mut w = World::new(|c| c.held_bytes_max = 1_000);
    let (a, b) = (w.put("a", "small"), w.submit(put_large(1_000)));
    w.turn();
    assert!(matches!(w.written(b), Err(Error::Overloaded { limit: 1_000, .. })));
    assert!(!w.done.contains_key(&a));
    w.session.cancel(a);
    let c = w.submit(put_large(500));
    w.turn();
    assert!(!w.done.contains_key(&c), "there is room again");
    let held = w.session.held();
    assert_eq!((held.calls, held.waiting_keys, held.queued_keys), (1, 1, 1), "there is no map: it waits");
    assert!((500..=1_000).contains(&held.bytes), "{held:?}");
}

fn put_large(length: usize) -> Ask {
    Ask::Put { keyspace: KEYSPACE, key: bytes("k"), value: Bytes::from(vec![0; length]) }
}

#[test]
fn shutting_ends_every_call() {
    let mut w = World::ready();
    let sent = w.put("key", "10");
    w.turn();
    let (queued, read) = (w.put("key", "11"), w.get("key"));
    w.session.shut();
    w.turn();
    assert_eq!(w.written(sent), Err(Error::Closed { outcome: Outcome::Unknown }));
    assert_eq!(w.written(queued), Err(Error::Closed { outcome: Outcome::NotApplied }));
    assert_eq!(w.got(read), Err(Error::Closed { outcome: Outcome::NotApplied }));
}
