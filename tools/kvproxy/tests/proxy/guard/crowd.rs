//! Ten thousand connections.

use crate::stand::{Client, Proxy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CROWD: u64 = 10_000;

#[test]
fn ten_thousand_connections_are_served_and_one_more_is_turned_away() {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(CROWD + 500)), maximum: now.maximum }).unwrap();
    let crowd = CROWD.min(most.saturating_sub(500));
    println!(
        "{crowd} connections{}",
        if crowd < CROWD { ": skipped for 10,000, there are too few file descriptors" } else { "" }
    );
    let proxy = Proxy::start(&["--redis", "127.0.0.1:1", "--connections-max", &crowd.to_string()]);
    let before = proxy.process.memory_kib();
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..crowd {
        // One after the other: a burst would wait in the listener's queue, and be sent again a second later.
        let mut client = proxy.connect();
        client.ask("PING", "+PONG\r\n");
        clients.push(client);
    }
    clients.iter_mut().for_each(|client| client.ask("PING", "+PONG\r\n"));
    let each = (proxy.process.memory_kib() - before) * 1024 / crowd;
    assert!(each < 8192, "{each} bytes for each idle client");
    assert!(proxy.connect().rest().starts_with("-ERR max number of clients reached"));
    clients.truncate(10);
    clients[0].ask("PING", "+PONG\r\n");
}
