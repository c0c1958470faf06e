//! Commands of the cluster.

use crate::stand::cluster::Cluster;
use crate::stand::{Client, wait_until};
use rustix::process::Signal;
use std::io::Write;

#[test]
fn commands_do_what_redis_does_or_say_that_they_do_not_exist() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&["--metrics", "127.0.0.1:0"]);
    let mut client = proxy.connect();
    client.ask("SET a 1", "+OK\r\n");
    client.ask("GET a", "$1\r\n1\r\n");
    client.ask("GET none", "$-1\r\n");
    client.ask("MSET b 22 c 333", "+OK\r\n");
    client.ask("MGET c none b a c", "*5\r\n$3\r\n333\r\n$-1\r\n$2\r\n22\r\n$1\r\n1\r\n$3\r\n333\r\n");
    client.ask("STRLEN c", ":3\r\n");
    client.ask("EXISTS a b none a", ":3\r\n");
    client.ask("DEL a none a", ":1\r\n");
    client.ask("UNLINK b c a", ":2\r\n");
    client.ask("EXISTS a b c", ":0\r\n");
    client.ask("SET e \"\"", "+OK\r\n");
    client.ask("GET e", "$0\r\n\r\n");
    for unknown in ["INCR a", "EXPIRE a 5", "SETNX a 1", "KEYS *", "MULTI"] {
        assert!(client.say(unknown).starts_with("-ERR unknown command"), "{unknown}");
    }
    assert!(client.say("SET a 1 NX").starts_with("-ERR SET: the option 'NX' does not exist"));
    assert!(client.say("SET '' 1").starts_with("-ERR a key of 0 bytes"));
    connection_commands(&mut client);
    assert!(client.say_all("INFO").contains("mode:cluster"));
    pipelines(&mut proxy.connect());
    let batches = proxy.counted("kvproxy_batches_total");
    proxy.connect().ask(&"GET a\r\n".repeat(64), &"$-1\r\n".repeat(64));
    assert!(proxy.counted("kvproxy_batches_total") - batches <= 2.0, "64 GETs that came together");
}

#[test]
fn commands_of_one_pipeline_are_answered_in_the_version_that_was_spoken_then() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&[]);
    let mut client = proxy.connect();
    client.send(b"GET none\r\nHELLO 3\r\nGET none\r\nRESET\r\nGET none\r\n");
    client.expect("$-1\r\n%7\r\n");
    (0..25).for_each(|_| drop(client.line()));
    client.expect("_\r\n+RESET\r\n$-1\r\n");
}

#[test]
fn a_key_that_is_named_often_is_not_told_without_end() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&["--output-mib", "4"]);
    let mut client = proxy.connect();
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1048576\r\n{}\r\n", "x".repeat(1 << 20)).as_bytes());
    client.expect("+OK\r\n");
    let answer = client.say(&format!("MGET {}", "a ".repeat(1000)));
    assert!(answer.starts_with("-ERR the answers are longer together"), "{answer}");
    client.ask("MGET b b", "*2\r\n$-1\r\n$-1\r\n");
    let five = (0..5).map(|at| format!(" a{at} ")).collect::<String>();
    for key in five.split_whitespace() {
        client.send(format!("*3\r\n$3\r\nSET\r\n$2\r\n{key}\r\n$1048576\r\n{}\r\n", "x".repeat(1 << 20)).as_bytes());
        client.expect("+OK\r\n");
    }
    let more = (0..1500).map(|at| format!(" none{at}")).collect::<String>();
    let answer = client.say(&format!("EXISTS{five}{more}"));
    assert!(answer.starts_with("-ERR the answers are longer together"), "what is fetched is bounded too: {answer}");
    assert!(proxy.process.memory_kib() < 100 << 10, "{} KiB", proxy.process.memory_kib());
}

#[test]
fn commands_on_their_way_count_for_all() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&["--total-mib", "24", "--timeout-ms", "3000"]);
    cluster.signal(Signal::STOP);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4194304\r\n{}\r\n", "x".repeat(4 << 20));
    let mut clients: Vec<Client> = (0..20).map(|_| proxy.connect()).collect();
    // Who is cut off while it still sends was refused as well.
    clients.iter_mut().for_each(|client| drop(client.0.write_all(set.as_bytes())));
    let answers: Vec<String> = clients.iter_mut().map(Client::rest_of_line).collect();
    cluster.signal(Signal::CONT);
    let taken = answers.iter().filter(|answer| answer.contains("deadline passed")).count();
    assert!((1..=6).contains(&taken), "{taken} of 20: {answers:?}");
    wait_until("it goes on", || proxy.connect().say("SET b 1") == "+OK");
}

fn connection_commands(client: &mut Client) {
    client.ask("PING", "+PONG\r\n");
    client.ask("PING hi", "$2\r\nhi\r\n");
    client.ask("ECHO hi", "$2\r\nhi\r\n");
    client.ask("SELECT 0", "+OK\r\n");
    assert!(client.say("SELECT 1").starts_with("-ERR DB index is out of range"));
    client.ask("CLIENT GETNAME", "$-1\r\n");
    client.ask("CLIENT SETNAME me", "+OK\r\n");
    assert!(
        client.say(&format!("CLIENT SETNAME {}", "n".repeat(257))).starts_with("-ERR a connection's name is short")
    );
    assert!(client.say("CLIENT SETNAME 'a b'").starts_with("-ERR a connection's name is short"));
    client.ask("CLIENT GETNAME", "$2\r\nme\r\n");
    client.ask("CLIENT SETINFO LIB-NAME x", "+OK\r\n");
    assert!(client.say("CLIENT ID").starts_with(':'));
    assert!(client.say("CLIENT KILL x").starts_with("-ERR unknown subcommand"));
    client.ask("COMMAND COUNT", ":0\r\n");
    client.ask("COMMAND DOCS", "*0\r\n");
    client.ask("CONFIG GET save none", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.ask("CONFIG GET none", "*0\r\n");
    assert_eq!(client.say("CONFIG GET *"), "*6");
    (0..12).for_each(|_| drop(client.line()));
    assert!(client.say("CONFIG SET a b").starts_with("-ERR "));
    assert_eq!(client.say("HELLO 4"), "-NOPROTO unsupported protocol version");
    assert!(client.say("HELLO 3 AUTH a b").starts_with("-ERR HELLO"));
    assert_eq!(client.say("HELLO 3"), "%7");
    (0..25).for_each(|_| drop(client.line()));
    client.ask("GET none", "_\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("GET none", "$-1\r\n");
}

/// What depends on what came before is answered as if it had been asked alone.
fn pipelines(client: &mut Client) {
    let (mut asked, mut answers) = (String::new(), String::new());
    for n in 0..200 {
        asked += &format!(
            "SET p{n} {n}\r\nGET p{n}\r\nPING\r\nSET p{n} again\r\nMGET p{n} none\r\nDEL p{n}\r\nDEL p{n}\r\n"
        );
        let length = n.to_string().len();
        answers += &format!("+OK\r\n${length}\r\n{n}\r\n+PONG\r\n+OK\r\n*2\r\n$5\r\nagain\r\n$-1\r\n:1\r\n:0\r\n");
    }
    client.send(asked.as_bytes());
    client.expect(&answers);
    let large = "x".repeat(3 << 20);
    client
        .send(format!("*3\r\n$3\r\nSET\r\n$1\r\nl\r\n${}\r\n{large}\r\nSTRLEN l\r\nGET l\r\n", large.len()).as_bytes());
    client.expect(&format!("+OK\r\n:{0}\r\n${0}\r\n{large}\r\n", large.len()));
}
