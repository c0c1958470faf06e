//! Commands through the ring: split and joined, passed through, refused.

use crate::stand::Proxy;
use crate::stand::redis::{Redis, three};

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn split_commands_come_back_as_one() {
    let (servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list]);
    let mut client = proxy.connect();
    let pairs: Vec<String> = (0..30).map(|key| format!("k{key} v{key}")).collect();
    let names: Vec<String> = (0..30).map(|key| format!("k{key}")).collect();
    client.ask(&format!("MSET {}", pairs.join(" ")), "+OK\r\n");
    assert!(servers.iter().all(|server| server.keys() > 0), "they are in all three");
    let values: String = (0..30).map(|key| format!("${}\r\nv{key}\r\n", format!("v{key}").len())).collect();
    client.ask(&format!("MGET {} none", names.join(" ")), &format!("*31\r\n{values}$-1\r\n"));
    client.ask(&format!("EXISTS {} none k0", names.join(" ")), ":31\r\n");
    client.ask(&format!("TOUCH {}", names.join(" ")), ":30\r\n");
    client.ask("DEL k0 k1 k2 k3 k4 none", ":5\r\n");
    client.ask(&format!("UNLINK {}", names.join(" ")), ":25\r\n");
    assert_eq!(servers.each_ref().map(Redis::keys), [0, 0, 0]);
    client.ask("MSET a", "-ERR wrong number of arguments for 'mset' command\r\n");
    let odd = format!("MSET {} odd", pairs.join(" "));
    client.ask(&odd, "-ERR wrong number of arguments for 'mset' command\r\n");
    assert_eq!(servers.each_ref().map(Redis::keys), [0, 0, 0]);
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn a_pipeline_is_answered_in_order_whatever_server_is_first() {
    let (_servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list]);
    let mut client = proxy.connect();
    let (mut asked, mut answers) = (String::new(), String::new());
    for n in 0..3000 {
        let (key, value) = (format!("key:{n}"), format!("value {n}"));
        asked += &format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
        asked += &format!("GET {key}\r\nMGET {key} other{n}\r\nECHO {n}\r\n");
        let bulk = format!("${}\r\n{value}\r\n", value.len());
        answers += &format!("+OK\r\n{bulk}*2\r\n{bulk}$-1\r\n${}\r\n{n}\r\n", n.to_string().len());
    }
    let mut writer = client.0.try_clone().unwrap();
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, asked.as_bytes()).unwrap());
    client.expect(&answers);
    sender.join().unwrap();
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn single_key_commands_pass_and_what_has_no_server_is_refused() {
    let (_servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list]);
    let mut client = proxy.connect();
    client.ask("INCR n", ":1\r\n");
    client.ask("LPUSH l a b", ":2\r\n");
    client.ask("LRANGE l 0 -1", "*2\r\n$1\r\nb\r\n$1\r\na\r\n");
    client.ask("INCR l", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
    client.ask("SADD {t}a 1 2", ":2\r\n");
    client.ask("SADD {t}b 2 3", ":2\r\n");
    client.ask("SINTER {t}a {t}b", "*1\r\n$1\r\n2\r\n");
    client.ask("RENAME {t}a {t}c", "+OK\r\n");
    let keys: Vec<String> = (0..20).map(|key| format!("s{key}")).collect();
    assert!(client.say(&format!("SUNION {}", keys.join(" "))).starts_with("-CROSSSLOT "));
    for refused in
        ["KEYS *", "MULTI", "BLPOP l 0", "SUBSCRIBE c", "EVAL x 0", "FLUSHALL", "WAIT 1 0", "XREAD STREAMS a 0"]
    {
        let answer = client.say(refused);
        assert!(answer.starts_with("-ERR ") && answer.contains("not possible"), "{refused}: {answer}");
    }
    assert!(client.say("NONSENSE a").starts_with("-ERR unknown command 'NONSENSE'"));
    assert!(client.say("GET").starts_with("-ERR wrong number of arguments"));
    client.ask("GET n", "$1\r\n1\r\n");
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn both_versions_of_the_protocol_are_spoken_side_by_side() {
    let (_servers, list) = three();
    let proxy = Proxy::start(&["--redis", &list]);
    let (mut two, mut three) = (proxy.connect(), proxy.connect());
    assert_eq!(three.say("HELLO 3"), "%7");
    (0..25).for_each(|_| drop(three.line()));
    three.ask("PING", "+PONG\r\n");
    three.ask("HSET h a 1", ":1\r\n");
    three.ask("HGETALL h", "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
    two.ask("HGETALL h", "*2\r\n$1\r\na\r\n$1\r\n1\r\n");
    three.ask("GET none", "_\r\n");
    two.ask("GET none", "$-1\r\n");
    three.ask("MGET none1 none2 none3 none4", "*4\r\n_\r\n_\r\n_\r\n_\r\n");
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-server is not installed")]
fn weights_count() {
    let servers = [(); 2].map(|()| Redis::start());
    let list = format!("{}*300,{}", servers[0].address, servers[1].address);
    let proxy = Proxy::start(&["--redis", &list]);
    let pairs: String = (0..1000).map(|key| format!(" key:{key} x")).collect();
    proxy.connect().ask(&format!("MSET{pairs}"), "+OK\r\n");
    let [heavy, light] = servers.each_ref().map(Redis::keys);
    assert!((650..850).contains(&heavy) && heavy + light == 1000, "{heavy} and {light}");
}
