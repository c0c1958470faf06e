//! Real processes, attacked from outside: killed, stopped, restarted, fed with rubbish.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

use crate::nodes::{Cluster, Probe, Raw, Shape, decode_read};
use ringkv_wire::frame::Kind;
use ringkv_wire::hello::HELLO_BYTES;
use ringkv_wire::ids::StoreId;
use ringkv_wire::msg::client::{ReadResult, decode_write_reply};
use ringkv_wire::status::Status;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Rounds of the long tests: `RINGKV_ROUNDS=50 cargo test -p kvnode --test cluster`.
fn rounds() -> u32 {
    std::env::var("RINGKV_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(1)
}

/// Seconds that a leader is stopped in each round.
fn pause() -> Duration {
    let seconds = std::env::var("RINGKV_PAUSE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    Duration::from_secs(seconds)
}

fn stopped_leader_serves_no_stale_read(host: &'static str) {
    let cluster = Cluster::start(Shape { host, ..Shape::default() });
    let mut probe = Probe::new(&cluster, 1);
    for round in 0..rounds() {
        let key = format!("key-{round}");
        let key = key.as_bytes();
        probe.put(key, b"old", None);
        let leader = probe.leader(key, None);
        let mut waiting = probe.connect(leader).unwrap();
        cluster.pause(leader.node.0);
        let (body, without) = (probe.read_body(key), Some(leader.node.0));
        let began = std::time::Instant::now();
        probe.put(key, b"new", without);
        // Asked after "new" was acknowledged, and lies in the stopped leader's socket when it wakes.
        waiting.send(Kind::Read, &body).unwrap();
        std::thread::sleep(pause().saturating_sub(began.elapsed()));
        cluster.resume(leader.node.0);
        // A refusal or a closed connection is as good: only a served read can be stale.
        if let Some((_, results)) = waiting.receive().ok().and_then(decode_read) {
            let ReadResult::Found { value, .. } = &results[0] else { panic!("round {round}: {results:?}") };
            assert_eq!(&value[..], b"new", "round {round}: a stale read from {leader}");
        }
        assert_eq!(probe.get(key, None).as_deref(), Some(&b"new"[..]));
    }
    eprintln!("{host}: {} rounds, no stale read", rounds());
}

#[test]
fn a_stopped_leader_serves_no_stale_read_on_host_plain() {
    stopped_leader_serves_no_stale_read("plain");
}

#[test]
fn a_stopped_leader_serves_no_stale_read_on_the_best_host() {
    stopped_leader_serves_no_stale_read("auto");
}

#[test]
fn what_was_acknowledged_survives_kill_nine_of_all_nodes_in_turn_and_at_once() {
    let mut cluster = Cluster::start(Shape::default());
    let mut probe = Probe::new(&cluster, 2);
    let put = |probe: &mut Probe, from: u32, without| {
        for n in from..from + 50 {
            probe.put(format!("k{n}").as_bytes(), format!("v{n}").as_bytes(), without);
        }
    };
    put(&mut probe, 0, None);
    for node in 1..=3 {
        cluster.kill(node);
        put(&mut probe, node * 50, Some(node));
        cluster.boot(node, None);
    }
    (1..=3).for_each(|node| cluster.kill(node));
    (1..=3).for_each(|node| cluster.boot(node, None));
    let mut probe = Probe::new(&cluster, 3);
    for n in 0..200 {
        let value = probe.get(format!("k{n}").as_bytes(), None);
        assert_eq!(value.as_deref(), Some(format!("v{n}").as_bytes()), "k{n}");
    }
}

#[test]
fn sigterm_ends_with_zero_and_a_restart_on_half_and_twice_the_cores_finds_all() {
    let mut cluster = Cluster::start(Shape { stores: 2, shard_bits: 3, ..Shape::default() });
    let mut probe = Probe::new(&cluster, 4);
    for (round, cores) in [2, 1, 4].into_iter().enumerate() {
        let key = |n: usize| format!("r{round}-{n}");
        for n in 0..20 {
            probe.put(key(n).as_bytes(), b"v", None);
        }
        for node in 1..=3 {
            let status = cluster.end(node);
            assert!(status.success(), "{status}\n{}", cluster.log(node));
        }
        (1..=3).for_each(|node| cluster.boot(node, Some(cores)));
        probe = Probe::new(&cluster, 5 + round as u8);
        (0..20).for_each(|n| assert!(probe.get(key(n).as_bytes(), None).is_some(), "{}", key(n)));
    }
}

#[test]
fn rubbish_on_the_port_costs_its_own_connection_and_nothing_else() {
    let mut cluster = Cluster::start(Shape { nodes: 1, replicas: 1, ..Shape::default() });
    let mut probe = Probe::new(&cluster, 9);
    probe.put(b"key", b"value", None);
    let store = StoreId::new(1, 0);
    let address = probe.map.address(store).unwrap();
    let closed = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        // A reset is as good as an end.
        let _ = stream.read_to_end(&mut rest);
        rest.len()
    };
    for port in [address, cluster.address(1)] {
        let mut garbage = TcpStream::connect(port).unwrap();
        garbage.write_all(&[0x5a; HELLO_BYTES]).unwrap();
        assert!(closed(garbage) <= HELLO_BYTES);
        let silent = TcpStream::connect(port).unwrap();
        assert_eq!(closed(silent), 0, "who says nothing is not kept");
    }
    let mut wrong = probe.connect(store).unwrap();
    wrong.stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(closed(wrong.stream), 0);
    let mut flipped = probe.connect(store).unwrap();
    let mut bytes = Vec::new();
    ringkv_wire::frame::encode(Kind::Read, 1, &probe.read_body(b"key"), &mut bytes);
    *bytes.last_mut().unwrap() ^= 1;
    flipped.stream.write_all(&bytes).unwrap();
    assert_eq!(closed(flipped.stream), 0, "a bad checksum ends the connection");
    assert!(Raw::connect(address, StoreId::new(1, 7), Default::default()).is_err(), "a store that is not there");
    assert!(Raw::connect(address, StoreId::new(2, 0), Default::default()).is_err(), "a node that is not there");
    malformed_requests(&mut probe, store);
    assert_eq!(probe.get(b"key", None).as_deref(), Some(&b"value"[..]));
    assert!(cluster.alive(1));
}

/// Well-framed messages that make no sense are refused, each by its name.
fn malformed_requests(probe: &mut Probe, store: StoreId) {
    let refused = |probe: &mut Probe, kind, body: &[u8]| {
        let message = probe.at(store, kind, body).unwrap();
        assert_eq!(message.kind, Kind::Refused);
        decode_write_reply(message.body).unwrap().0.status
    };
    let write = probe.write_body(b"key", b"never");
    for cut in [0, 10, 31, 40, write.len() - 1] {
        assert_eq!(refused(probe, Kind::Write, &write[..cut]), Status::Malformed, "cut to {cut}");
    }
    let read = probe.read_body(b"key");
    assert_eq!(refused(probe, Kind::Read, &read[..read.len() - 1]), Status::Malformed);
    let mut generation = write.clone();
    generation[4] ^= 1;
    assert_eq!(refused(probe, Kind::Write, &generation), Status::Moved);
    let mut shard = write.clone();
    shard[0] ^= 0x40;
    assert_eq!(refused(probe, Kind::Write, &shard), Status::Moved);
    let mut keyspace = read.clone();
    keyspace[32] = 9;
    assert_eq!(refused(probe, Kind::Read, &keyspace), Status::UnknownKeyspace);
    let mut late = write;
    late[16..20].fill(0);
    assert_eq!(refused(probe, Kind::Write, &late), Status::Expired);
}
