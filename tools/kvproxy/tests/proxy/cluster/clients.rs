//! Real clients, unchanged.

use crate::stand::cluster::Cluster;
use std::process::{Command, Output};

fn run(program: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = Command::new(program).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&stderr));
    text
}

fn script(name: &str) -> String {
    format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
#[cfg_attr(not(have_redis), ignore = "redis-cli and redis-benchmark are not installed")]
fn redis_cli_and_redis_benchmark() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&[]);
    let port = proxy.address.port().to_string();
    let cli = |args: &[&str]| run("redis-cli", &[&["-p", &port], args].concat()).trim().to_owned();
    assert_eq!(cli(&["set", "a", "b c"]), "OK");
    assert_eq!(cli(&["-3", "get", "a"]), "b c");
    assert_eq!(cli(&["mset", "x", "1", "y", "2"]), "OK");
    assert_eq!(cli(&["--raw", "mget", "x", "y"]), "1\n2");
    assert_eq!(cli(&["del", "a", "x", "y"]), "3");
    assert!(cli(&["info"]).contains("mode:cluster"));
    let tests = ["-t", "set,get,mset,ping", "-n", "2000", "-c", "10", "-P", "16", "-r", "1000", "-q", "-p", &port];
    let figures = run("redis-benchmark", &tests);
    for test in ["PING_INLINE", "PING_MBULK", "SET", "GET", "MSET (10 keys)"] {
        assert!(figures.contains(&format!("{test}: ")) && figures.contains("requests per second"), "{test}: {figures}");
    }
}

#[test]
#[cfg_attr(not(have_python_redis), ignore = "Debian's python3-redis and python3-hiredis are not installed")]
fn redis_py_with_and_without_hiredis() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&[]);
    for parser in ["python", "hiredis"] {
        let said = run("/usr/bin/python3", &[&script("basics.py"), &proxy.address.port().to_string(), parser]);
        assert_eq!(said.trim(), "all is well");
    }
}

#[test]
#[cfg_attr(not(have_ioredis), ignore = "ioredis is not installed (npm install --prefix target/peers ioredis)")]
fn ioredis() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&[]);
    let modules = format!("{}/../../target/peers/node_modules/ioredis", env!("CARGO_MANIFEST_DIR"));
    let said = run("node", &[&script("basics.js"), &proxy.address.port().to_string(), &modules]);
    assert_eq!(said.trim(), "all is well");
}

#[test]
fn redis_rs() {
    let cluster = Cluster::start();
    let proxy = cluster.proxy(&[]);
    for protocol in ["", "?protocol=resp3"] {
        let client = redis::Client::open(format!("redis://{}/{protocol}", proxy.address)).unwrap();
        let mut connection = client.get_connection().unwrap();
        let all: (String, Option<String>, Vec<Option<String>>, usize) = redis::pipe()
            .cmd("SET")
            .arg("a")
            .arg("1")
            .ignore()
            .cmd("PING")
            .cmd("GET")
            .arg("a")
            .cmd("MGET")
            .arg("a")
            .arg("none")
            .cmd("DEL")
            .arg("a")
            .arg("none")
            .query(&mut connection)
            .unwrap();
        assert_eq!(all, ("PONG".into(), Some("1".into()), vec![Some("1".into()), None], 1));
        let error = redis::cmd("INCR").arg("a").query::<i64>(&mut connection).unwrap_err();
        assert!(error.to_string().contains("unknown command"), "{error}");
    }
}
