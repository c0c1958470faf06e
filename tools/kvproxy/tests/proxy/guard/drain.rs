//! SIGTERM: who has asked is answered, who comes later finds nobody.

use crate::stand::Proxy;
use rustix::process::Signal;
use std::net::TcpStream;

#[test]
fn a_proxy_that_is_told_to_end_answers_what_it_was_asked() {
    let mut proxy = Proxy::start(&["--redis", "127.0.0.1:1"]);
    let (mut busy, mut idle) = (proxy.connect(), proxy.connect());
    idle.ask("PING", "+PONG\r\n");
    let text = "x".repeat(1 << 20);
    for _ in 0..8 {
        busy.send(format!("*2\r\n$4\r\nECHO\r\n${}\r\n{text}\r\n", text.len()).as_bytes());
    }
    busy.expect("$1048576\r\n");
    proxy.process.signal(Signal::TERM);
    assert_eq!(idle.rest(), "", "an idle client is let go");
    busy.expect(&text);
    let rest = busy.rest();
    assert!(rest.ends_with("x\r\n") && rest.len() % (text.len() + 12) == 2, "whole answers: {} bytes", rest.len());
    assert_eq!(proxy.process.wait(), Some(0));
    assert!(TcpStream::connect(proxy.address).is_err());
}

#[test]
fn a_client_that_does_not_take_its_answers_does_not_hold_up_the_end() {
    let mut proxy = Proxy::start(&["--redis", "127.0.0.1:1", "--drain-s", "1"]);
    let mut client = proxy.connect();
    let text = "x".repeat(1 << 20);
    for _ in 0..16 {
        client.send(format!("*2\r\n$4\r\nECHO\r\n${}\r\n{text}\r\n", text.len()).as_bytes());
    }
    proxy.process.signal(Signal::TERM);
    assert_eq!(proxy.process.wait(), Some(0));
}
