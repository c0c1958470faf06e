//! A node is killed while clients write: every error says what became of its command, nothing acknowledged is lost.

use crate::stand::cluster::Cluster;
use redis::{Commands, Connection};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// What is known of a key: the last value acknowledged, and those behind it whose outcome is unknown.
#[derive(Default)]
struct Known {
    acknowledged: u64,
    unknown: Vec<u64>,
}

fn connect(proxy: SocketAddr) -> Connection {
    redis::Client::open(format!("redis://{proxy}")).unwrap().get_connection().unwrap()
}

/// Writes rising numbers to keys of its own until told; what is known of each, and how many errors of either kind came.
fn write(proxy: SocketAddr, writer: usize, until: Instant) -> (BTreeMap<String, Known>, [usize; 2]) {
    let (mut connection, mut known, mut errors) = (connect(proxy), BTreeMap::<String, Known>::new(), [0; 2]);
    for number in 1.. {
        if Instant::now() >= until {
            break;
        }
        let key = format!("w{writer}:{}", number % 50);
        let known = known.entry(key.clone()).or_default();
        let set: redis::RedisResult<()> = connection.set(&key, number);
        match set.as_ref().map_err(|error| error.code()) {
            Ok(()) => *known = Known { acknowledged: number, unknown: Vec::new() },
            Err(Some("NOTAPPLIED")) => errors[0] += 1,
            Err(Some("UNKNOWN")) => {
                errors[1] += 1;
                known.unknown.push(number);
            }
            Err(other) => panic!("an error that says nothing: {other:?} {set:?}"),
        }
    }
    (known, errors)
}

#[test]
fn no_acknowledged_write_is_lost_when_a_node_is_killed() {
    let mut cluster = Cluster::start();
    // Short, so that some calls do fail while there is no leader.
    let proxy = cluster.proxy(&["--timeout-ms", "400"]);
    let (address, until) = (proxy.address, Instant::now() + Duration::from_secs(4));
    let writers: Vec<_> = (0..8).map(|writer| std::thread::spawn(move || write(address, writer, until))).collect();
    std::thread::sleep(Duration::from_millis(1200));
    cluster.kill(0);
    std::thread::sleep(Duration::from_millis(1500));
    cluster.restart(0);
    let results: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let errors = results.iter().fold([0; 2], |sum, (_, errors)| [sum[0] + errors[0], sum[1] + errors[1]]);
    let written = results.iter().flat_map(|(known, _)| known.values()).filter(|known| known.acknowledged > 0).count();
    println!("{written} keys written; {} times not applied, {} times unknown", errors[0], errors[1]);
    assert!(written > 100, "{written} keys");
    let mut connection = connect(address);
    for (key, known) in results.iter().flat_map(|(known, _)| known) {
        let found: Option<u64> = std::iter::repeat_with(|| connection.get(key)).take(50).find_map(Result::ok).unwrap();
        let found = found.unwrap_or(0);
        let allowed = found == known.acknowledged || known.unknown.contains(&found);
        assert!(allowed, "{key} is {found}, {} was acknowledged, then perhaps {:?}", known.acknowledged, known.unknown);
    }
}
