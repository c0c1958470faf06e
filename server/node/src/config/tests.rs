use super::*;
use clap::Parser;

fn load(args: &str) -> Result<Config, ConfigError> {
    Config::load(Flags::try_parse_from(std::iter::once("kvnode").chain(args.split_whitespace())).unwrap())
}

fn refused(args: &str) -> String {
    load(args).unwrap_err().to_string()
}

const BASE: &str = "--data-dir /nowhere --listen 127.0.0.1:7000 --node-id 1";
const ID: &str = "000102030405060708090a0b0c0d0e0f";

#[test]
fn the_least_there_is() {
    let config = load(BASE).unwrap();
    assert_eq!(config.node, NodeId(1));
    assert_eq!((config.pin, config.host, config.spin), (Pin::Auto, HostChoice::Auto, Duration::ZERO));
    assert_eq!(config.keyspaces[0].name, "default");
    assert_eq!(config.pools[0].replicas, 3);
    assert!(config.members.is_empty() && config.cluster.is_none());
}

#[test]
fn members_by_flags() {
    let config = load(&format!(
        "{BASE} --cluster {ID} --member 1@127.0.0.1:7000/2 --member 2@127.0.0.1:7100 --replicas 2 --shard-bits 6"
    ))
    .unwrap();
    assert_eq!(config.members.len(), 2);
    assert_eq!(config.members[0].stores[1], "127.0.0.1:7002".parse().unwrap());
    assert_eq!(config.members[1].stores, ["127.0.0.1:7101".parse().unwrap()]);
    assert_eq!(config.cluster.unwrap().to_string(), ID);
    assert_eq!((config.pools[0].replicas, config.pools[0].shard_bits), (2, 6));
}

#[test]
fn a_file_and_flags_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let text = format!(
        r#"
        node = 2
        data_dir = "/nowhere"
        listen = "127.0.0.1:7100"
        stores = 2
        cores = "0,2-3"
        pin = "none"
        spin_us = 5
        host = "plain"
        cluster = "{ID}"
        [[member]]
        id = 1
        address = "127.0.0.1:7000"
        rack = "a"
        [[member]]
        id = 2
        address = "127.0.0.1:7100"
        store_addresses = ["127.0.0.1:9001", "127.0.0.1:9002"]
        [[pool]]
        id = 3
        replicas = 2
        shard_bits = 5
        [[keyspace]]
        id = 4
        name = "users"
        pool = 3
        routing = "prefix:/"
        [memory]
        cache_mib = 8
        [tables]
        compression = "zstd"
        "#
    );
    std::fs::write(&path, text).unwrap();
    let config = load(&format!("--config {} --spin-us 7 --cores 4", path.display())).unwrap();
    assert_eq!((config.node, config.stores, config.spin), (NodeId(2), Some(2), Duration::from_micros(7)));
    assert_eq!((config.cores, config.pin, config.host), (Some(Cores::Count(4)), Pin::None, HostChoice::Plain));
    assert_eq!(config.members[1].stores[1].port(), 9002);
    assert_eq!(config.budgets.cache_bytes, 8 << 20);
    assert_eq!(config.budgets.compression, ringkv_storage::sst::compress::Compression::Zstd);
    assert_eq!(config.keyspaces[0].routing, ringkv_wire::ring::hash::Routing::Prefix(b'/'));
    let config = load(&format!("--config {}", path.display())).unwrap();
    assert_eq!(config.cores, Some(Cores::Cpus(vec![0, 2, 3])));
}

#[test]
fn refusals_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, "nods = 2").unwrap();
    for (args, says) in [
        ("--listen 127.0.0.1:7000 --node-id 1".to_owned(), "data-dir is missing"),
        ("--data-dir /nowhere --node-id 1".to_owned(), "listen is missing"),
        ("--data-dir /nowhere --listen 127.0.0.1:0 --node-id 1".to_owned(), "needs a port"),
        ("--data-dir /nowhere --listen 0.0.0.0:7000 --node-id 1".to_owned(), "--insecure"),
        ("--data-dir /nowhere --listen 127.0.0.1:7000 --node-id 0".to_owned(), "count from 1"),
        (format!("{BASE} --member 1@127.0.0.1:7000"), "needs a cluster id"),
        (format!("{BASE} --cluster {ID} --member 2@127.0.0.1:7000"), "not among the members"),
        (format!("{BASE} --cluster {ID} --member 1@127.0.0.1:7000 --member 1@127.0.0.1:8000"), "listed twice"),
        (format!("{BASE} --cluster {ID} --member 1-127.0.0.1:7000"), "ID@HOST:PORT"),
        (format!("{BASE} --cluster {ID} --member 1@127.0.0.1:65535/2"), "do not fit"),
        (format!("{BASE} --cluster xyz"), "32 hex"),
        (format!("{BASE} --cores 0"), "1 to 1024"),
        (format!("{BASE} --cores 3-1"), "no list of CPUs"),
        (format!("{BASE} --pin 1,1"), "no list of CPUs"),
        (format!("{BASE} --host epoll"), "none of auto"),
        (format!("{BASE} --replicas 0"), "replicas"),
        (format!("{BASE} --config {}", path.display()), "nods"),
        (format!("{BASE} --config /nowhere/at/all"), "/nowhere/at/all"),
    ] {
        let said = refused(&args);
        assert!(said.contains(says), "{args}: {said}");
    }
}

#[test]
fn the_example_is_a_configuration() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/example.toml");
    for (node, listen) in [(1, 7100), (2, 7200), (3, 7300)] {
        let args = format!("--config {path} --node-id {node} --listen 127.0.0.1:{listen} --data-dir data/{node}");
        let config = load(&args).unwrap();
        let own = config.members.iter().find(|m| m.id == config.node).unwrap();
        assert_eq!((own.address, own.stores.len()), (config.listen, 2));
    }
}
