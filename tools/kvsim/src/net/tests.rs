use super::*;
use crate::clock::MachineClock;
use crate::dice::{Dice, Stream};
use crate::exec::{Executor, Group};
use crate::host::{Parts, VirtualHost};
use bytes::Bytes;
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_storage::disk::fault::FaultDisk;
use ringkv_wire::hello::{ANY_STORE, Hello};
use ringkv_wire::ids::{ClientId, StoreId};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

mod patience;

const MS: u64 = 1_000_000;

struct World {
    exec: Executor,
    net: Net,
    seed: u64,
    server: Machine,
    client: Machine,
}

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7000))
}

impl World {
    fn new(seed: u64) -> World {
        let exec = Executor::new(seed);
        let net = Net::new(exec.clone(), seed, Quality::LAN);
        let (server, client) = (net.machine(), net.machine());
        World { exec, net, seed, server, client }
    }

    fn host(&self, machine: Machine) -> VirtualHost {
        VirtualHost::new(Parts {
            exec: self.exec.clone(),
            net: self.net.clone(),
            machine,
            group: self.exec.group(),
            clock: Rc::new(MachineClock::new(0, 0, 0)),
            disk: FaultDisk::new(self.seed),
            dice: Dice::new(self.seed, Stream::Store, machine.0 as u64),
        })
    }

    /// A server that sends back what it gets.
    fn echo(&self) -> Group {
        let host = self.host(self.server);
        let port = host.port();
        let group = port.group();
        self.net.listen(address(), group, [(0, port)]);
        let held = host.clone();
        host.spawn(async move {
            let mut events = Vec::new();
            loop {
                held.wait(u64::MAX).await;
                held.take_events(&mut events);
                for event in events.drain(..) {
                    match event {
                        NetEvent::Opened { conn, hello, inbound } => {
                            assert!(inbound);
                            held.send(conn, Bytes::copy_from_slice(&hello.encode()));
                        }
                        NetEvent::Received { conn, bytes } => held.send(conn, bytes),
                        NetEvent::Closed { .. } => {}
                    }
                }
            }
        });
        group
    }

    fn client(&self) -> (VirtualHost, ConnId) {
        let host = self.host(self.client);
        let hello = Hello::client(ClientId([7; 16]), StoreId::new(0, ANY_STORE));
        let conn = host.connect(address(), hello);
        (host, conn)
    }

    fn run(&self, until_ns: u64) {
        loop {
            self.exec.drain();
            self.net.flush();
            if !self.exec.advance(until_ns) {
                return;
            }
        }
    }
}

/// What a client saw: opened, bytes, closed.
fn seen(host: &VirtualHost) -> (bool, Vec<u8>, bool) {
    let mut events = Vec::new();
    host.take_events(&mut events);
    let (mut opened, mut got, mut closed) = (false, Vec::new(), false);
    for event in events {
        match event {
            NetEvent::Opened { inbound, .. } => opened = !inbound,
            NetEvent::Received { bytes, .. } => got.extend_from_slice(&bytes),
            NetEvent::Closed { .. } => closed = true,
        }
    }
    (opened, got, closed)
}

#[test]
fn bytes_come_back_in_order() {
    for seed in 0..50 {
        let world = World::new(seed);
        world.echo();
        let (host, conn) = world.client();
        world.run(10 * MS);
        let sent: Vec<u8> = (0..200).collect();
        for byte in &sent {
            host.send(conn, Bytes::copy_from_slice(&[*byte]));
            world.run(world.exec.now_ns() + MS / 10);
        }
        world.run(2_000 * MS);
        assert_eq!(seen(&host), (true, sent, false), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let world = World::new(seed);
        world.echo();
        let (host, conn) = world.client();
        host.send(conn, Bytes::from_static(b"hello, echo"));
        world.run(1_000 * MS);
        assert_eq!(seen(&host).1, b"hello, echo");
        world.exec.trace()
    };
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

#[test]
fn nobody_there_closes_the_connection() {
    let world = World::new(1);
    let (host, _) = world.client();
    world.run(10_000 * MS);
    assert_eq!(seen(&host), (false, Vec::new(), true), "no such address");
    assert_eq!(world.net.connections(), 0);

    let group = world.echo();
    world.net.process_died(group, false);
    world.exec.kill(group);
    let (host, _) = world.client();
    world.run(10_100 * MS);
    assert_eq!(seen(&host), (false, Vec::new(), true), "refused at once");
}

#[test]
fn close_comes_after_what_was_sent() {
    let world = World::new(9);
    let host = world.host(world.server);
    let port = host.port();
    world.net.listen(address(), port.group(), [(0, port)]);
    let (client, conn) = world.client();
    world.run(50 * MS);
    client.send(conn, Bytes::from_static(b"last words"));
    client.close(conn);
    client.send(conn, Bytes::from_static(b"too late"));
    world.run(1_000 * MS);
    let (_, got, closed) = seen(&host);
    assert_eq!((got, closed), (b"last words".to_vec(), true));
    assert!(seen(&client).2);
    assert_eq!(world.net.connections(), 0);
}

#[test]
fn wait_ends_by_time_by_wake_and_by_events() {
    let world = World::new(4);
    let host = world.host(world.server);
    let log = Rc::new(RefCell::new(Vec::new()));
    let (held, seen) = (host.clone(), log.clone());
    host.spawn(async move {
        for until_ms in [10, 1_000, 2_000] {
            held.wait(until_ms * MS).await;
            seen.borrow_mut().push(held.now().boot_ns / MS);
        }
    });
    world.run(100 * MS);
    host.wake();
    world.run(200 * MS);
    let port = host.port();
    port.event(NetEvent::Closed { conn: ConnId(1) });
    world.run(300 * MS);
    assert_eq!(log.borrow()[..2], [10, 100]);
    assert!((200..231).contains(&log.borrow()[2]), "{:?}", log.borrow());
}

#[test]
fn a_link_that_alters_changes_one_byte_of_a_send() {
    let world = World::new(6);
    world.echo();
    let (host, conn) = world.client();
    world.run(50 * MS);
    assert!(seen(&host).0);
    world.net.set_quality(world.client, world.server, Some(Quality { alters: 10_000, ..Quality::LAN }));
    host.send(conn, Bytes::from(vec![7; 100]));
    world.run(2_000 * MS);
    let (_, got, closed) = seen(&host);
    assert_eq!((got.len(), got.iter().filter(|byte| **byte != 7).count(), closed), (100, 1, false));
}
