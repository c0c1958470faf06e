//! Finding the cluster, and keeping up with its map.

use crate::world::*;
use ringkv_session::{Ask, Cause, Completion, Error, Status, StoreId};
use ringkv_wire::frame::Kind;
use ringkv_wire::msg::client::ReadResult;

#[test]
fn seeds_are_tried_until_one_gives_a_map() {
    let mut w = World::new(|_| {});
    w.down.extend([StoreId::new(1, 0), StoreId::new(2, 0)]);
    w.mute.insert(StoreId::new(3, 0));
    let call = w.get("key");
    w.pass(3_000);
    assert!(w.asked.is_empty());
    w.down.clear();
    w.pass(2_500);
    let asked = w.ask();
    w.refuse(&asked, Status::Starting, None);
    w.pass(2_000);
    let asked = w.ask();
    w.maps_answered = true;
    let map = w.submit(Ask::Map);
    w.answer_map(&asked);
    w.turn();
    assert_eq!(w.done.remove(&map), Some(Completion::Map(Ok(w.map.clone().into()))));
    assert_eq!(w.ask().read().keys.len(), 1);
    w.pass(10_000);
    assert!(w.got(call).is_err());

    let mut w = World::new(|c| c.call_timeout_ms = 500);
    w.mute.extend((1..=3).map(|n| StoreId::new(n, 0)));
    let call = w.get("key");
    w.pass(501);
    let error = w.got(call).expect_err("no map");
    assert_eq!(error.failure().map(|f| f.cause), Some(Cause::NoMap));
}

#[test]
fn moved_or_a_newer_epoch_brings_a_newer_map() {
    let mut w = World::ready();
    w.maps_answered = false;
    w.get("key");
    w.turn();
    let asked = w.ask();
    w.refuse(&asked, Status::Moved, None);
    w.pass(100);
    let asked = w.asked.iter().position(|a| a.kind == Kind::Map).and_then(|at| w.asked.remove(at)).expect("a request");
    w.map.epoch = 2;
    for shard in &mut w.map.shards {
        shard.generation.0 = 5;
        shard.replicas.reverse();
    }
    w.answer_map(&asked);
    w.pass(100);
    assert_eq!(w.session.map().map(|m| m.epoch), Some(2));
    w.asked.clear();
    w.get("other");
    w.turn();
    let read = w.ask().read();
    assert_eq!((read.header.generation.0, read.header.epoch), (5, 2));

    // Another cluster's map is not taken.
    let mut w = World::ready();
    w.maps_answered = false;
    w.map.epoch = 9;
    w.get("key");
    w.turn();
    let asked = w.ask();
    w.answer_read(&asked, &[ReadResult::Absent]);
    w.pass(60);
    let asked = w.ask();
    assert_eq!(asked.kind, Kind::Map, "the reply carried a newer epoch");
    w.map.cluster.0 = [9; 16];
    w.answer_map(&asked);
    assert_eq!(w.session.map().map(|m| m.epoch), Some(1));
}

#[test]
fn status_of_a_store() {
    let mut w = World::ready();
    let call = w.submit(Ask::Status { store: StoreId::new(2, 1) });
    let nobody = w.submit(Ask::Status { store: StoreId::new(9, 0) });
    w.turn();
    let asked = w.ask();
    assert_eq!((asked.store, asked.kind), (StoreId::new(2, 1), Kind::Status));
    let mut body = Vec::new();
    ringkv_wire::msg::node::encode_status_reply(&w.header(Status::Ok), "{\"ok\":1}", &mut body);
    w.answer(&asked, Kind::StatusReply, &body);
    w.turn();
    assert_eq!(w.done.remove(&call), Some(Completion::Status(Ok("{\"ok\":1}".into()))));
    assert!(matches!(w.done.remove(&nobody), Some(Completion::Status(Err(Error::Refused(_))))));
}
