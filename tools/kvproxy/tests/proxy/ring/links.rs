//! What happens to commands on their way to a server, played by the test.

use crate::stand::fake::Fake;
use crate::stand::{Client, Proxy, wait_until};
use std::time::Duration;

fn fake() -> (Fake, Proxy) {
    let fake = Fake::start();
    let proxy = Proxy::start(&["--redis", &fake.address.to_string(), "--metrics", "127.0.0.1:0"]);
    (fake, proxy)
}

fn up(fake: &Fake, proxy: &Proxy) -> bool {
    proxy.counted(&format!("kvproxy_server_up{{server=\"{}\"}}", fake.address)) == 1.0
}

/// A command in the array form.
fn array(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

/// The server is asked this.
fn asked(link: &mut Client, line: &str) {
    link.expect(&array(line));
}

#[test]
fn what_was_in_flight_when_a_connection_is_lost_is_unknown_and_never_sent_again() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    client.send(b"INCR a\r\nINCR b\r\nGET c\r\nPING\r\n");
    let mut link = fake.link();
    for line in ["INCR a", "INCR b", "GET c"] {
        asked(&mut link, line);
    }
    link.send(b":1\r\n$10\r\nhalf");
    client.expect(":1\r\n");
    drop(link);
    for _ in 0..2 {
        assert!(client.line().starts_with("-UNKNOWN the connection to "));
    }
    client.expect("+PONG\r\n");
    client.send(b"GET d\r\n");
    let mut link = fake.link();
    asked(&mut link, "GET d");
    link.send(b"$1\r\nx\r\n");
    client.expect("$1\r\nx\r\n");
    assert!(fake.is_left_alone());
    assert_eq!(proxy.counted("kvproxy_errors_total{kind=\"unknown\"}"), 2.0);
}

#[test]
fn a_client_that_leaves_in_the_middle_takes_nobody_elses_answer_with_it() {
    let (fake, proxy) = fake();
    let (mut leaves, mut stays) = (proxy.connect(), proxy.connect());
    leaves.send(b"GET a\r\nGET b\r\n*2\r\n$3\r\nGET\r\n$100\r\nhalf");
    let mut link = fake.link();
    asked(&mut link, "GET a");
    asked(&mut link, "GET b");
    drop(leaves);
    stays.send(b"GET c\r\n");
    asked(&mut link, "GET c");
    link.send(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    stays.expect("$1\r\nc\r\n");
    stays.ask("PING", "+PONG\r\n");
}

#[test]
fn a_change_of_version_waits_for_the_commands_before_it() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    client.send(b"SET a 1\r\nHELLO 3\r\nGET a\r\n");
    let mut two = fake.link();
    asked(&mut two, "SET a 1");
    assert!(fake.is_left_alone(), "the GET on another connection could be there before the SET");
    two.send(b"+OK\r\n");
    client.expect("+OK\r\n%7\r\n");
    (0..25).for_each(|_| drop(client.line()));
    let mut three = fake.link();
    asked(&mut three, "HELLO 3");
    asked(&mut three, "GET a");
    three.send(b"%0\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:5\r\n$1\r\n1\r\n");
    client.expect("|1\r\n+ttl\r\n:5\r\n$1\r\n1\r\n");
}

#[test]
fn a_server_that_returns_is_talked_to_on_a_new_connection() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    client.send(b"GET a\r\n");
    let mut old = fake.link();
    asked(&mut old, "GET a");
    old.send(b"_\r\n");
    client.expect("_\r\n");
    fake.answer_probes(None);
    assert_eq!(old.rest(), "", "nothing waited on it, and it ends all the same");
    wait_until("it is down", || client.say("GET a").starts_with("-NOTAPPLIED no server is up"));
    fake.answer_probes(Some("+PONG"));
    wait_until("it is up", || up(&fake, &proxy));
    client.send(b"GET a\r\n");
    let mut new = fake.link();
    asked(&mut new, "GET a");
    new.send(b"$1\r\na\r\n");
    client.expect("$1\r\na\r\n");
}

#[test]
fn a_client_that_waits_for_a_server_is_not_idle() {
    let fake = Fake::start();
    let proxy = Proxy::start(&["--redis", &fake.address.to_string(), "--idle-s", "1"]);
    let mut client = proxy.connect();
    client.send(b"GET a\r\n");
    let mut link = fake.link();
    asked(&mut link, "GET a");
    std::thread::sleep(Duration::from_millis(2500));
    link.send(b"$1\r\na\r\n");
    client.expect("$1\r\na\r\n");
}

#[test]
fn a_connection_that_is_silent_while_its_server_is_well_is_given_up() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    client.send(b"GET a\r\n");
    let mut dead = fake.link();
    asked(&mut dead, "GET a");
    assert!(client.line().starts_with("-UNKNOWN the connection to "));
    assert!(up(&fake, &proxy));
    client.send(b"GET b\r\n");
    let mut link = fake.link();
    asked(&mut link, "GET b");
    link.send(b"$1\r\nb\r\n");
    client.expect("$1\r\nb\r\n");
}

#[test]
fn an_answer_that_comes_slowly_is_waited_for() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    client.send(b"GET a\r\n");
    let mut link = fake.link();
    asked(&mut link, "GET a");
    link.send(b"$20\r\n");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(400));
        link.send(b"x");
    }
    link.send(b"\r\n");
    client.expect(&format!("$20\r\n{}\r\n", "x".repeat(20)));
}

#[test]
fn long_commands_wait_until_those_before_them_are_answered() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    let set = array(&format!("SET a {}", "x".repeat(5 << 20)));
    let mut writer = client.0.try_clone().unwrap();
    let sets = set.repeat(3);
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, sets.as_bytes()).unwrap());
    let mut link = fake.link();
    link.expect(&set.repeat(2));
    link.hears_nothing();
    link.send(b"+OK\r\n");
    link.hears_nothing();
    link.send(b"+OK\r\n");
    link.expect(&set);
    link.send(b"+OK\r\n");
    client.expect("+OK\r\n+OK\r\n+OK\r\n");
    sender.join().unwrap();
}

#[test]
fn a_server_that_cannot_serve_yet_is_not_asked() {
    let (fake, proxy) = fake();
    fake.answer_probes(Some("-LOADING Redis is loading the dataset in memory"));
    wait_until("it is down", || !up(&fake, &proxy));
    assert!(proxy.connect().say("GET a").starts_with("-NOTAPPLIED no server is up"));
    fake.answer_probes(Some("+PONG"));
    wait_until("it is up", || up(&fake, &proxy));
}

#[test]
fn a_server_that_talks_nonsense_costs_its_connection_and_no_client() {
    let (fake, proxy) = fake();
    let mut client = proxy.connect();
    let deep = "*1\r\n".repeat(100_000);
    for nonsense in ["?\r\n", "$5\r\nabcdefgh\r\n", "*-7\r\n", "$99999999999999999999\r\n", "\0\0\r\n", &deep] {
        client.send(b"GET a\r\n");
        let mut link = fake.link();
        asked(&mut link, "GET a");
        // It may be hung up on while it speaks.
        let _ = std::io::Write::write_all(&mut link.0, nonsense.as_bytes());
        assert!(client.line().starts_with("-UNKNOWN "), "{nonsense:.20}");
        link.rest();
    }
    client.send(b"GET a\r\n");
    let mut link = fake.link();
    asked(&mut link, "GET a");
    link.send(b"$1\r\na\r\n:5\r\n");
    client.expect("$1\r\na\r\n");
    assert_eq!(link.rest(), "", "an answer that nobody asked for: which is whose is not known any more");
}

/// What is said of a split command when one server answers its part, and the other's connection is lost.
fn half_lost(line: &str, answer: &str) -> String {
    let (one, two) = (Fake::start(), Fake::start());
    let proxy = Proxy::start(&["--redis", &format!("{},{}", one.address, two.address)]);
    let mut client = proxy.connect();
    client.send(format!("{line}\r\nPING\r\n").as_bytes());
    let [mut answers, dies] = [one.link(), two.link()];
    answers.send(answer.as_bytes());
    drop(dies);
    let said = client.line();
    client.expect("+PONG\r\n");
    said
}

#[test]
fn a_split_command_of_which_one_part_is_lost_says_so() {
    let words = |of: &str| (0..40).map(|key| format!(" k{key}{of}")).collect::<String>();
    for (line, answer) in [(format!("MSET{}", words(" v")), "+OK\r\n"), (format!("DEL{}", words("")), ":1\r\n")] {
        let said = half_lost(&line, answer);
        let half_done = "-UNKNOWN 1 of the 2 servers have done their part, others may have been: ";
        assert!(said.starts_with(half_done), "{line}: {said}");
    }
    let said = half_lost(&format!("EXISTS{}", words("")), ":1\r\n");
    assert!(said.starts_with("-UNKNOWN the connection to "), "nothing was to be done: {said}");
}
