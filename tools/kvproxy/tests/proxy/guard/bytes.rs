//! Bytes that are no commands, or never become one.

use crate::stand::{Client, PATIENCE, Proxy, wait_until};
use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

const CUT_FOR_MEMORY: &str = "kvproxy_cut_total{reason=\"memory\"}";
const BYTES_IN: &str = "kvproxy_bytes_in_total";

/// In front of nobody: what is asked here needs no server.
fn proxy(more: &[&str]) -> Proxy {
    Proxy::start(&[&["--redis", "127.0.0.1:1", "--metrics", "127.0.0.1:0"], more].concat())
}

#[test]
fn nonsense_gets_an_error_and_costs_its_own_connection() {
    let proxy = proxy(&[]);
    let mut neighbour = proxy.connect();
    let deep = "*1\r\n".repeat(100_000);
    for (nonsense, answer) in [
        ("*-5\r\n", "-ERR Protocol error: invalid multibulk length"),
        ("*1048577\r\n", "-ERR Protocol error: invalid multibulk length"),
        ("*99999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length"),
        ("*abc\r\n", "-ERR Protocol error: invalid multibulk length"),
        ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length"),
        ("*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length"),
        ("*1\r\n$x\r\n", "-ERR Protocol error: invalid bulk length"),
        ("*1\r\n$3\r\nabcdef\r\n", "-ERR Protocol error: expected the end of a line"),
        ("*1\r\n+PING\r\n", "-ERR Protocol error: expected '$', got '+'"),
        (deep.as_str(), "-ERR Protocol error: expected '$', got '*'"),
        ("SET a \"b\r\n", "-ERR Protocol error: unbalanced quotes in request"),
        ("PING\r\n*1\r\n$-7\r\n", "+PONG\r\n-ERR Protocol error: invalid bulk length"),
    ] {
        let mut client = proxy.connect();
        // The other side may hang up while much is still being sent.
        let sent = client.0.write_all(nonsense.as_bytes());
        assert!(sent.is_ok() || nonsense.len() > 1000, "{sent:?}");
        let said = client.rest();
        assert!(said.starts_with(answer), "{nonsense:.20}: {said}");
        neighbour.ask("PING", "+PONG\r\n");
    }
    assert!(proxy.counted("kvproxy_cut_total{reason=\"protocol\"}") >= 11.0);
}

#[test]
fn binary_garbage_breaks_nothing() {
    let proxy = proxy(&[]);
    let mut state = 1u64;
    for _ in 0..200 {
        let garbage: Vec<u8> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let mut client = proxy.connect();
        client.send(&garbage);
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        client.rest();
    }
    proxy.connect().ask("PING", "+PONG\r\n");
    assert!(proxy.process.memory_kib() < 50 << 10, "{} KiB", proxy.process.memory_kib());
}

#[test]
fn a_byte_now_and_then_does_not_keep_a_connection() {
    let proxy = proxy(&["--idle-s", "2"]);
    let (mut slow, mut fair) = (proxy.connect(), proxy.connect());
    let started = Instant::now();
    for byte in b"*2\r\n$4\r\nECHO\r\n$1000\r\n".iter().chain(std::iter::repeat(&b'x')) {
        fair.ask("PING", "+PONG\r\n");
        if slow.0.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it is still connected");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(started.elapsed() > Duration::from_secs(1));
    assert!(proxy.counted("kvproxy_cut_total{reason=\"idle\"}") >= 1.0);
}

#[test]
fn half_a_command_takes_no_more_memory_than_its_bytes() {
    let proxy = proxy(&[]);
    proxy.connect().ask("PING", "+PONG\r\n");
    let before = proxy.process.memory_kib();
    let mut clients: Vec<Client> = (0..200).map(|_| proxy.connect()).collect();
    let (read, half) = (proxy.counted(BYTES_IN), b"*65536\r\n$3\r\nSET\r\n$33554432\r\nabc");
    clients.iter_mut().for_each(|client| client.send(half));
    wait_until("all is read", || proxy.counted(BYTES_IN) >= read + (200 * half.len()) as f64);
    let grown = proxy.process.memory_kib().saturating_sub(before);
    assert!(grown < 20 << 10, "{grown} KiB for 200 clients that announced 6 GiB");
}

#[test]
fn a_client_that_never_reads_is_cut_off_at_its_limit() {
    let proxy = proxy(&["--output-mib", "2"]);
    let mut client = proxy.connect();
    client.0.set_write_timeout(Some(PATIENCE)).unwrap();
    let echo = echo(100_000);
    let sent = (0..5000).try_for_each(|_| client.0.write_all(&echo));
    let error = sent.expect_err("500 MB were taken").kind();
    assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    assert!(proxy.process.memory_kib() < 50 << 10, "{} KiB", proxy.process.memory_kib());
    proxy.connect().ask("PING", "+PONG\r\n");
    wait_until("its end is counted", || proxy.counted(CUT_FOR_MEMORY) >= 1.0);
}

/// Asks for an answer of so many bytes.
fn echo(bytes: usize) -> Vec<u8> {
    format!("*2\r\n$4\r\nECHO\r\n${bytes}\r\n{}\r\n", "x".repeat(bytes)).into_bytes()
}

#[test]
fn what_clients_that_never_read_are_owed_has_a_limit_for_all() {
    let proxy = proxy(&["--total-mib", "24"]);
    let mut owed: Vec<Client> = Vec::new();
    let echo = echo(8 << 20);
    for _ in 0..40 {
        let mut client = proxy.connect();
        // One that is cut off may be so while it still asks.
        let _ = client.0.write_all(&echo);
        owed.push(client);
    }
    wait_until("most are cut off", || proxy.counted(CUT_FOR_MEMORY) >= 36.0);
    assert!(proxy.process.memory_kib() < 128 << 10, "{} KiB", proxy.process.memory_kib());
    proxy.connect().ask("PING", "+PONG\r\n");
    drop(owed);
    wait_until("all is given back", || proxy.connect().say_all("INFO").contains("held_bytes:0\r\n"));
}

#[test]
fn a_scraper_that_says_nothing_does_not_keep_the_next_one_out() {
    let proxy = proxy(&[]);
    let _silent = Client::connect(proxy.metrics.unwrap());
    let started = Instant::now();
    assert_eq!(proxy.counted("kvproxy_connections_total"), 0.0);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn all_clients_together_have_a_limit() {
    let proxy = proxy(&["--total-mib", "8"]);
    let head = b"*2\r\n$4\r\nECHO\r\n$30000000\r\n";
    let mut clients: Vec<Client> = (0..10).map(|_| proxy.connect()).collect();
    let mut gone = 0;
    for client in &mut clients {
        let sent = client.0.write_all(head).and_then(|()| client.0.write_all(&vec![b'x'; 4 << 20]));
        gone += usize::from(sent.is_err());
    }
    assert!(proxy.process.memory_kib() < 100 << 10, "{} KiB", proxy.process.memory_kib());
    wait_until("some are cut off", || proxy.counted(CUT_FOR_MEMORY) + gone as f64 >= 5.0);
    proxy.connect().ask("PING", "+PONG\r\n");
}
