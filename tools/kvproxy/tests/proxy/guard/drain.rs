//! SIGTERM: who has asked is answered, who comes later finds nobody. And every other end that leaves answers on their way.

use crate::stand::fake::Fake;
use crate::stand::{Client, Proxy, wait_until};
use rustix::net::sockopt::set_socket_recv_buffer_size;
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

/// Of answers that their client does not read yet: longer than what lies in its socket, shorter than what the proxy's takes at once.
const ANSWERS_BYTES: usize = 1 << 20;

/// A client in whose socket there is little room: what it is answered stays in the proxy's until it reads.
fn narrow(proxy: &Proxy) -> Client {
    let client = proxy.connect();
    set_socket_recv_buffer_size(&client.0, ANSWERS_BYTES / 16).unwrap();
    client
}

/// It reads at last: these answers, and then the end.
fn reads(mut client: Client, answers: &str) {
    set_socket_recv_buffer_size(&client.0, ANSWERS_BYTES).unwrap();
    client.expect(answers);
    assert_eq!(client.0.peek(&mut [0]).unwrap(), 0);
}

#[test]
fn a_client_that_ends_gets_its_answers_though_it_goes_on_talking() {
    let proxy = Proxy::start(&["--redis", "127.0.0.1:1", "--metrics", "127.0.0.1:0"]);
    let text = "x".repeat(ANSWERS_BYTES);
    // What follows is never read as commands, and would reset a connection that is closed on it.
    let more = "PING\r\n".repeat(20_000);
    for (n, end, last) in [(1.0, "QUIT", "+OK"), (2.0, "*-5", "-ERR Protocol error: invalid multibulk length")] {
        let mut client = narrow(&proxy);
        client.send(format!("*2\r\n$4\r\nECHO\r\n${ANSWERS_BYTES}\r\n{text}\r\n{end}\r\n{more}").as_bytes());
        wait_until("the proxy has it", || proxy.counted("kvproxy_connections_total") == n);
        wait_until("the proxy is done with it", || proxy.counted("kvproxy_clients ") == 0.0);
        reads(client, &format!("${ANSWERS_BYTES}\r\n{text}\r\n{last}\r\n"));
    }
}

#[test]
fn a_drained_client_gets_its_answers_though_it_has_sent_more() {
    let fake = Fake::start();
    let mut proxy = Proxy::start(&["--redis", &fake.address.to_string()]);
    let mut client = narrow(&proxy);
    // More than the proxy lets wait: the rest stays in the socket, unread.
    client.send(&b"GET a\r\n".repeat(12_000));
    let mut link = fake.link();
    link.expect(&"*2\r\n$3\r\nGET\r\n$1\r\na\r\n".repeat(1024));
    link.hears_nothing();
    proxy.process.signal(Signal::TERM);
    wait_until("it has heard", || TcpStream::connect(proxy.address).is_err());
    let answer = format!("$100\r\n{}\r\n", "x".repeat(100));
    // Everything that was taken as a command is answered, in the server's good time.
    let taken = answer_all(&mut link, &answer);
    assert_eq!(proxy.process.wait(), Some(0), "everything is on its way, and nothing has been read");
    reads(client, &answer.repeat(taken));
}

/// Answers what was asked and what is still asked, until the proxy hangs up; how many.
fn answer_all(link: &mut Client, answer: &str) -> usize {
    let mut taken = 1024;
    link.send(answer.repeat(taken).as_bytes());
    let next = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
    let mut asked = vec![0; next.len()];
    while std::io::Read::read_exact(&mut link.0, &mut asked).is_ok() {
        assert_eq!(String::from_utf8_lossy(&asked), next);
        link.send(answer.as_bytes());
        taken += 1;
    }
    taken
}
