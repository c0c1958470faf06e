//! Keys and values at their limits and beyond, strange frames, and tables that rot under a running node.

use crate::nodes::{Cluster, PATIENCE, Probe, Shape, decode_read};
use ringkv_wire::frame::{self, Kind};
use ringkv_wire::hello::{HELLO_BYTES, Hello};
use ringkv_wire::ids::StoreId;
use ringkv_wire::limits::{FRAME_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX, VERSION};
use ringkv_wire::msg::client::{ReadResult, decode_write_reply};
use ringkv_wire::status::Status;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const STORE: StoreId = StoreId::new(1, 0);

fn one_node(extra: &str) -> Cluster {
    Cluster::start(Shape { nodes: 1, replicas: 1, shard_bits: 0, extra: extra.to_owned(), ..Shape::default() })
}

#[test]
fn keys_and_values_at_their_limits_are_kept_and_beyond_them_refused() {
    let cluster = Cluster::start(Shape::default());
    let mut probe = Probe::new(&cluster, 1);
    let long: Vec<u8> = (0..KEY_BYTES_MAX).map(|n| n as u8).collect();
    let large: Vec<u8> = (0..VALUE_BYTES_MAX).map(|n| (n * 7) as u8).collect();
    let pairs: [(&[u8], &[u8]); 4] = [(&[0], &[]), (&[0xff; 300], &[0; 1]), (&long, b"v"), (b"large", &large)];
    for (key, value) in pairs {
        probe.put(key, value, None);
    }
    for (key, value) in pairs {
        assert!(probe.get(key, None).as_deref() == Some(value), "a key of {} bytes", key.len());
    }
    // An empty key: the length of the one key in a valid request, and its byte, taken away.
    let leader = probe.leader(b"k", None);
    let mut empty = probe.read_body(b"k");
    let length = empty.len() - 3;
    empty[length..length + 2].fill(0);
    empty.pop();
    assert_eq!(refused(&mut probe, leader, Kind::Read, &empty), Status::Malformed);
    // A value one byte too long: the announced length of a valid request, made larger.
    let mut body = probe.write_body(b"k", b"value");
    let length = body.len() - b"value".len() - 1 - 8;
    body[length..length + 4].copy_from_slice(&(VALUE_BYTES_MAX as u32 + 1).to_le_bytes());
    assert_eq!(refused(&mut probe, leader, Kind::Write, &body), Status::Malformed);
}

fn refused(probe: &mut Probe, store: StoreId, kind: Kind, body: &[u8]) -> Status {
    let message = probe.at(store, kind, body).unwrap();
    assert_eq!(message.kind, Kind::Refused);
    decode_write_reply(message.body).unwrap().0.status
}

#[test]
fn frames_of_another_version_or_beyond_the_limit_end_their_connection() {
    let mut cluster = one_node("");
    let mut probe = Probe::new(&cluster, 2);
    probe.put(b"key", b"value", None);
    let address = probe.map.address(STORE).unwrap();
    let mut newer = Hello::client(Default::default(), STORE);
    newer.versions = (VERSION + 1, VERSION + 9);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&newer.encode()).unwrap();
    assert!(drained(stream) <= HELLO_BYTES, "a newer hello is refused");
    let mut valid = Vec::new();
    frame::encode(Kind::Read, 1, &probe.read_body(b"key"), &mut valid);
    for (what, at, bytes) in [
        ("version", 4, &[9u8][..]),
        ("frame length", 8, &(FRAME_BYTES_MAX as u32).to_le_bytes()),
        ("message length", 12, &u32::MAX.to_le_bytes()),
        ("kind", 5, &[99]),
        ("flags", 6, &[0x80]),
    ] {
        let mut wrong = valid.clone();
        wrong[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = ringkv_wire::checksum(&wrong[..28]);
        wrong[28..32].copy_from_slice(&crc.to_le_bytes());
        let mut raw = probe.connect(STORE).unwrap();
        raw.stream.write_all(&wrong).unwrap();
        assert_eq!(drained(raw.stream), 0, "{what}");
    }
    let mut cut = probe.connect(STORE).unwrap();
    cut.stream.write_all(&valid[..valid.len() - 1]).unwrap();
    cut.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(drained(cut.stream), 0, "a frame cut short gets no answer");
    assert_eq!(probe.get(b"key", None).as_deref(), Some(&b"value"[..]));
    assert!(cluster.alive(1));
}

/// Bytes that still come until the other side closes.
fn drained(mut stream: TcpStream) -> usize {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest.len()
}

fn tables(dir: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(dir.join("store-0000/tables")) else { return Vec::new() };
    found.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "sst")).collect()
}

#[test]
fn a_table_that_rots_under_a_running_node_gives_errors_never_wrong_data() {
    let mut cluster = one_node("[memory]\nmemtable_mib = 1\ncache_mib = 1\n");
    let mut probe = Probe::new(&cluster, 3);
    let value = |n: usize| format!("{n}-").repeat(2_000 / (n.to_string().len() + 1)).into_bytes();
    let (began, mut count) = (Instant::now(), 0);
    while tables(&cluster.data_dir(1)).is_empty() || count < 2_000 {
        probe.put(format!("k{count}").as_bytes(), &value(count), None);
        count += 1;
        assert!(began.elapsed() < PATIENCE, "no table after {count} puts");
    }
    // Every data block of every table: the first three quarters of each file, one byte in each 512.
    for path in tables(&cluster.data_dir(1)) {
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() / 4 * 3;
        bytes[..end].iter_mut().step_by(512).for_each(|byte| *byte ^= 0x10);
        let mut file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
    }
    let (mut unreadable, mut right) = (0, 0);
    for n in 0..count {
        let body = probe.read_body(format!("k{n}").as_bytes());
        let message = probe.at(STORE, Kind::Read, &body).unwrap();
        match &decode_read(message).expect("the node serves").1[0] {
            ReadResult::Unreadable => unreadable += 1,
            ReadResult::Found { value: found, .. } => {
                assert!(found[..] == value(n)[..], "k{n}: wrong data");
                right += 1;
            }
            other => panic!("k{n}: {other:?}"),
        }
    }
    assert!(unreadable > 0 && right > 0, "{unreadable} unreadable, {right} right");
    assert!(cluster.alive(1));
    assert!(cluster.log(1).contains("damaged at offset"), "the damage is reported with its place");
    probe.put(b"still", b"here", None);
    assert_eq!(probe.get(b"still", None).as_deref(), Some(&b"here"[..]));
}
