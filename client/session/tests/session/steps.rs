//! Step by step: what the session sends after what it hears.

use crate::world::*;
use bytes::Bytes;
use ringkv_session::{Ask, Call, Cause, Completion, ReadLevel, Status, Value, Written};
use ringkv_wire::entry::OpKind;
use ringkv_wire::frame::Kind;
use ringkv_wire::limits;
use ringkv_wire::msg::client::ReadResult;

#[test]
fn a_put_goes_to_the_leader_of_its_shard() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    assert_eq!(asked.store, w.leader("key"));
    let (header, ops) = asked.write();
    assert_eq!(Some(header.shard), w.map.shard_of(KEYSPACE, b"key").map(|s| s.id));
    assert_eq!((header.attempt, header.epoch, header.deadline_ms), (0, 1, 1000));
    assert_eq!((ops.client, ops.floor), (CLIENT, 1));
    let op = &ops.ops[0];
    assert_eq!((op.seq, op.kind, &op.key[..], &op.value[..]), (1, OpKind::Put, &b"key"[..], &b"10"[..]));
    assert_eq!(op.expiry_ms, w.now.wall_ms + 60_000, "first contact: the own wall clock");
    w.answer_write(&asked, &[Status::Ok]);
    w.turn();
    assert_eq!(w.written(call), Ok(Written { version: 100 }));

    let call = w.submit(Ask::Delete { keyspace: KEYSPACE, key: bytes("key") });
    w.turn();
    let asked = w.ask();
    let (_, ops) = asked.write();
    assert_eq!((ops.ops[0].seq, ops.floor, ops.ops[0].kind), (2, 2, OpKind::Delete));
    w.answer_write(&asked, &[Status::Ok]);
    w.turn();
    assert!(w.written(call).is_ok());
}

#[test]
fn a_get_finds_or_does_not() {
    let mut w = World::ready();
    let (a, b) = (w.get("a"), w.get("b"));
    let c = w.session.submit(w.now, Call { level: Some(ReadLevel::ReadIndex), ..Call::new(get("c")) });
    w.turn();
    for _ in 0..w.asked.len() {
        let asked = w.ask();
        let read = asked.read();
        let wanted = |key: &[u8]| if key == b"c" { ReadLevel::ReadIndex } else { ReadLevel::Linearizable };
        assert!(read.keys.iter().all(|(_, key)| read.level == wanted(key)), "one level to a request");
        let results: Vec<ReadResult> =
            read.keys.iter().map(|(_, k)| if k == b"a" { found("1", 7) } else { ReadResult::Absent }).collect();
        w.answer_read(&asked, &results);
    }
    w.turn();
    assert_eq!(w.got(a), Ok(Some(Value { value: bytes("1"), version: 7 })));
    assert_eq!(w.got(b), Ok(None));
    assert_eq!(w.got(c), Ok(None));
}

fn get(key: &str) -> Ask {
    Ask::Get { keyspace: KEYSPACE, key: bytes(key) }
}

#[test]
fn concurrent_calls_share_a_request() {
    let mut w = World::ready();
    let calls: Vec<_> = (0..100).map(|i| w.put(&format!("key{i}"), "v")).collect();
    w.turn();
    assert_eq!(w.asked.len(), 4, "one request per shard");
    let mut ops = 0;
    while let Some(asked) = w.asked.pop_front() {
        let count = asked.write().1.ops.len();
        ops += count;
        w.answer_write(&asked, &vec![Status::Ok; count]);
    }
    assert_eq!(ops, 100);
    w.turn();
    assert!(calls.into_iter().all(|call| w.written(call).is_ok()));
}

#[test]
fn keys_collect_while_the_window_is_full() {
    let mut w = World::ready();
    for _ in 0..10 {
        w.put("key", "v");
        w.turn();
    }
    assert_eq!(w.asked.len(), 4);
    let first = w.ask();
    w.answer_write(&first, &[Status::Ok]);
    w.turn();
    let sizes: Vec<usize> = w.asked.iter().map(|a| a.write().1.ops.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 6], "what waited travels together");
}

#[test]
fn a_redirect_is_followed_with_the_same_token() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    let (_, first) = asked.write();
    let hint = w.replicas("key")[2];
    w.refuse(&asked, Status::NotLeader, Some(hint));
    assert_eq!(w.session.stats().redirects, 1);
    w.turn();
    let asked = w.ask();
    assert_eq!(asked.store, hint, "at once");
    let (header, again) = asked.write();
    assert_eq!(again, first);
    assert_eq!(header.attempt, 1);
    w.answer_write(&asked, &[Status::Ok]);
    w.turn();
    assert!(w.written(call).is_ok());
    // The hint is remembered.
    w.put("key", "11");
    w.turn();
    assert_eq!(w.ask().store, hint);
}

#[test]
fn without_a_hint_every_replica_is_asked_with_growing_pauses() {
    let mut w = World::ready();
    let call = w.get("key");
    w.turn();
    let mut stores = Vec::new();
    for _ in 0..6 {
        let asked = w.ask();
        stores.push(asked.store);
        w.refuse(&asked, Status::NotLeader, None);
        w.turn();
        assert!(w.asked.is_empty(), "not at once");
        w.pass(200);
    }
    let replicas = w.replicas("key");
    assert_eq!(stores, [&replicas[..], &replicas[..]].concat());
    let asked = w.ask();
    w.answer_read(&asked, &[ReadResult::Absent]);
    w.turn();
    assert_eq!(w.got(call), Ok(None));
}

#[test]
fn hints_in_a_circle_do_not_spin() {
    let mut w = World::ready();
    w.get("key");
    w.turn();
    let mut answered = 0;
    while let Some(asked) = w.asked.pop_front() {
        answered += 1;
        let next = w.replicas("key").into_iter().find(|&r| r != asked.store);
        w.refuse(&asked, Status::NotLeader, next);
        w.turn();
    }
    assert_eq!(answered, 5, "four redirects, then a pause");
}

#[test]
fn a_lost_connection_retries_elsewhere_with_the_same_token() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    let first = asked.write().1;
    w.down.insert(asked.store);
    w.cut(asked.conn);
    w.turn();
    w.pass(200);
    let asked = w.ask();
    assert_ne!(asked.store, w.leader("key"));
    assert_eq!(asked.write().1, first);
    w.answer_write(&asked, &[Status::Ok]);
    w.turn();
    assert_eq!(w.written(call), Ok(Written { version: 100 }));
}

#[test]
fn silence_costs_the_connection_and_all_on_it_moves() {
    let mut w = World::ready();
    let calls: Vec<_> = (0..40).map(|i| w.put(&format!("key{i}"), "v")).collect();
    w.turn();
    let leaders: Vec<_> = w.asked.iter().map(|a| (a.store, a.conn)).collect();
    let (mute, conn) = leaders[0];
    w.mute.insert(mute);
    while let Some(asked) = w.asked.pop_front() {
        if asked.store != mute {
            let count = asked.write().1.ops.len();
            w.answer_write(&asked, &vec![Status::Ok; count]);
        }
    }
    w.pass(1_300);
    assert!(w.closed.contains(&conn));
    assert!(w.asked.iter().all(|a| a.store != mute && a.write().0.attempt == 1));
    while let Some(asked) = w.asked.pop_front() {
        let count = asked.write().1.ops.len();
        w.answer_write(&asked, &vec![Status::Ok; count]);
    }
    w.turn();
    assert!(calls.into_iter().all(|call| w.written(call).is_ok()));
}

#[test]
fn many_keys_come_back_in_their_order_each_with_its_own_result() {
    let mut w = World::ready();
    let keys: Vec<Bytes> = (0..3_000).map(|i| bytes(&format!("k{i}"))).collect();
    let call = w.submit(Ask::GetMany { keyspace: KEYSPACE, keys: keys.clone() });
    w.turn();
    while let Some(asked) = w.asked.pop_front() {
        let read = asked.read();
        assert!(read.keys.len() <= limits::OPERATIONS_MAX);
        let answer = |key: &[u8]| match key.last() {
            Some(b'1') => ReadResult::Absent,
            Some(b'2') if read.header.attempt == 0 => ReadResult::AskAgain,
            Some(b'3') => ReadResult::Unreadable,
            _ => ReadResult::Found { value: Bytes::copy_from_slice(key), version: 1 },
        };
        w.answer_read(&asked, &read.keys.iter().map(|(_, k)| answer(k)).collect::<Vec<_>>());
        w.pass(200);
    }
    w.turn();
    let Some(Completion::GotMany(results)) = w.done.remove(&call) else { panic!("not done") };
    assert_eq!(results.len(), keys.len());
    for (key, result) in keys.iter().zip(results) {
        match key.last() {
            Some(b'1') => assert_eq!(result, Ok(None)),
            Some(b'3') => {
                let cause = result.expect_err("unreadable").failure().map(|f| (f.attempts, f.cause));
                assert_eq!(cause, Some((3, Cause::Answered(Status::Unreadable))));
            }
            _ => assert_eq!(result, Ok(Some(Value { value: key.clone(), version: 1 }))),
        }
    }
}

#[test]
fn a_big_put_many_is_cut_by_count_and_bytes() {
    let mut w = World::ready();
    let value = Bytes::from(vec![7; 300 << 10]);
    let pairs = (0..40).map(|i| (bytes(&format!("k{i}")), value.clone())).collect();
    w.submit(Ask::PutMany { keyspace: KEYSPACE, pairs });
    let large = w.submit(Ask::Put { keyspace: KEYSPACE, key: bytes("x"), value: Bytes::from(vec![7; 16 << 20]) });
    let mut seen = 0;
    for _ in 0..100 {
        w.turn();
        while let Some(asked) = w.asked.pop_front() {
            let count = asked.write().1.ops.len();
            assert!(
                asked.body.len() <= (1 << 20) + 100 || count == 1,
                "{} bytes, {count} operations",
                asked.body.len()
            );
            seen += count;
            w.answer_write(&asked, &vec![Status::Ok; count]);
        }
    }
    assert_eq!(seen, 41);
    assert!(w.written(large).is_ok());
}

#[test]
fn nonsense_costs_the_connection_and_the_call_goes_on() {
    let nonsense: [fn(&mut World, &Asked); 5] = [
        |w, asked| {
            w.session.received(
                w.now,
                asked.conn,
                Bytes::from_static(b"this is not a frame, but it is long enough to be one"),
            )
        },
        |w, asked| w.answer_write(asked, &[Status::Ok, Status::Ok]),
        |w, asked| w.answer(asked, Kind::WriteReply, b"short"),
        |w, asked| w.answer_read(asked, &[ReadResult::Absent]),
        |w, asked| w.answer(asked, Kind::Peer, b""),
    ];
    for nonsense in nonsense {
        let mut w = World::ready();
        let call = w.put("key", "10");
        w.turn();
        let asked = w.ask();
        nonsense(&mut w, &asked);
        w.turn();
        assert_eq!(w.closed.last(), Some(&asked.conn));
        w.pass(500);
        let asked = w.ask();
        assert_eq!(asked.write().0.attempt, 1);
        w.answer_write(&asked, &[Status::Ok]);
        w.turn();
        assert!(w.written(call).is_ok());
    }
}

#[test]
fn late_answers_and_unknown_connections_are_ignored() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.turn();
    let asked = w.ask();
    w.answer_write(&asked, &[Status::Ok]);
    w.answer_write(&asked, &[Status::Busy]);
    w.session.received(w.now, ringkv_session::ConnKey(999), Bytes::from_static(b"?"));
    w.session.closed(w.now, ringkv_session::ConnKey(999));
    w.turn();
    assert!(w.written(call).is_ok());
    assert!(!w.closed.contains(&asked.conn));
}

#[test]
fn a_cancelled_call_is_not_sent_and_not_answered() {
    let mut w = World::ready();
    let call = w.put("key", "10");
    w.session.cancel(call);
    w.turn();
    assert!(w.asked.is_empty());
    let call = w.put("key", "10");
    w.turn();
    w.session.cancel(call);
    w.pass(20_000);
    assert!(w.done.is_empty());
    assert_eq!(w.asked.len(), 1, "and not sent again");
}

#[test]
fn the_retry_budget_slows_a_storm() {
    let mut w = World::ready_with(|c| {
        c.retries_per_s = 10;
        c.call_timeout_ms = 60_000;
    });
    for i in 0..64 {
        w.get(&format!("k{i}"));
    }
    let mut requests = 0;
    for _ in 0..1_000 {
        w.turn();
        while let Some(asked) = w.asked.pop_front() {
            requests += usize::from(asked.kind == Kind::Read);
            w.refuse(&asked, Status::Busy, None);
        }
        w.pass(10);
    }
    assert!((80..=130).contains(&requests), "{requests} requests in 10 s");
}

#[test]
fn the_time_of_answered_keys_is_told_by_stages() {
    let mut w = World::ready();
    let call = w.get("a");
    w.pass(3);
    w.turn();
    let asked = w.ask();
    w.now.boot_ns += 5_000_000;
    // The store says that it took two of these five.
    w.answer_read(&asked, &[found("1", 7)]);
    w.turn();
    assert!(w.got(call).is_ok());
    let stages = w.session.stats().stages;
    assert_eq!((stages.keys, stages.away_ns, stages.store_ns), (1, 5_000_000, 2_000_000));
    assert!(stages.queued_ns <= 3_000_000);
    let refused = w.get("a");
    w.turn();
    let asked = w.ask();
    w.refuse(&asked, Status::Busy, None);
    w.turn();
    assert_eq!(w.session.stats().stages.keys, 1, "a refusal answers nothing");
    w.session.cancel(refused);
}
