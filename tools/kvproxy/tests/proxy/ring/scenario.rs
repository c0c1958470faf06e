//! One server dies: its keys, and no others, are served elsewhere. It returns: so do they.

use crate::stand::redis::{Redis, three};
use crate::stand::{Client, PATIENCE, Proxy, wait_until};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const KEYS: usize = 100;

/// Sets and reads the keys through the proxy. A server that has just died may cost errors until that is found out; they
/// must say what became of the command.
fn use_all(client: &mut Client) {
    for key in 0..KEYS {
        for line in [format!("SET key:{key} {key}"), format!("GET key:{key}")] {
            let until = Instant::now() + PATIENCE;
            loop {
                let answer = client.say(&line);
                if let Some(length) = answer.strip_prefix('$') {
                    assert_ne!(length, "-1", "key:{key} was just set");
                    assert_eq!(client.line(), key.to_string());
                    break;
                }
                if answer == "+OK" {
                    break;
                }
                let classified = answer.starts_with("-UNKNOWN ") || answer.starts_with("-NOTAPPLIED ");
                assert!(classified && Instant::now() < until, "{line}: {answer}");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn up(proxy: &Proxy, server: &Redis) -> bool {
    proxy.counted(&format!("kvproxy_server_up{{server=\"{}\"}}", server.address)) == 1.0
}

/// How many commands each server has carried out since `before`.
fn served(servers: &[Redis; 3], before: [u64; 3]) -> [u64; 3] {
    std::array::from_fn(|at| servers[at].served() - before[at])
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn a_server_that_dies_moves_only_its_own_keys_and_they_return_with_it() {
    let (mut servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list, "--metrics", "127.0.0.1:0"]);
    let mut client = proxy.connect();
    use_all(&mut client);
    let held = servers.each_ref().map(Redis::keys);
    assert_eq!(held.iter().sum::<usize>(), KEYS);
    assert!(held.iter().all(|keys| *keys > 10), "100 keys over three servers: {held:?}");
    let before = servers.each_ref().map(Redis::served);
    assert_eq!(before.map(|served| served as usize), held.map(|keys| 2 * keys));

    servers[0].process.kill();
    use_all(&mut client);
    assert!(!up(&proxy, &servers[0]));
    let after = [1, 2].map(|at| servers[at].keys());
    assert_eq!(after[0] + after[1], KEYS, "A's {} keys are in B and C, and nobody else's have moved", held[0]);
    assert!(after[0] >= held[1] && after[1] >= held[2]);

    let port = servers[0].address.port();
    servers[0] = Redis::start_on(port);
    wait_until("A is taken back", || up(&proxy, &servers[0]));
    let before = servers.each_ref().map(Redis::served);
    use_all(&mut client);
    let served = served(&servers, before);
    assert_eq!(served.map(|served| served as usize), held.map(|keys| 2 * keys), "each key is where it was at first");
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn a_server_that_hangs_is_given_up_and_its_open_commands_are_called_unknown() {
    let (servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list, "--metrics", "127.0.0.1:0"]);
    let mut client = proxy.connect();
    use_all(&mut client);
    servers[1].process.signal(Signal::STOP);
    let all: String = (0..KEYS).map(|key| format!("SET key:{key} again\r\n")).collect();
    client.send(all.as_bytes());
    let answers: Vec<String> = (0..KEYS).map(|_| client.line()).collect();
    let unknown = answers.iter().filter(|answer| answer.starts_with("-UNKNOWN ")).count();
    let done = answers.iter().filter(|answer| *answer == "+OK").count();
    assert!(unknown > 10 && done > 10 && unknown + done == KEYS, "{answers:?}");
    assert!(!up(&proxy, &servers[1]));
    use_all(&mut client);
    servers[1].process.signal(Signal::CONT);
    wait_until("it is taken back", || up(&proxy, &servers[1]));
    use_all(&mut client);
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn without_any_server_commands_are_refused_and_the_proxy_lives() {
    let server = Redis::start();
    let address = server.address.to_string();
    let proxy = Proxy::start(&["--redis", &address]);
    let mut client = proxy.connect();
    client.ask("SET a 1", "+OK\r\n");
    drop(server);
    wait_until("a refusal", || client.say("SET a 2").starts_with("-NOTAPPLIED no server is up"));
    client.ask("PING", "+PONG\r\n");
}
