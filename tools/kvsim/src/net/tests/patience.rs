//! Cuts, deaths and silence: what is sent again, what is given up, and who learns of it when.

use super::*;

/// A world with an open connection.
fn opened(seed: u64) -> (World, Group, VirtualHost, ConnId) {
    let world = World::new(seed);
    let group = world.echo();
    let (host, conn) = world.client();
    world.run(50 * MS);
    assert!(seen(&host).0);
    (world, group, host, conn)
}

impl World {
    fn cut(&self, there: bool, back: bool) {
        self.net.set_cut(self.client, self.server, there);
        self.net.set_cut(self.server, self.client, back);
    }
}

const NOTHING: (bool, Vec<u8>, bool) = (false, Vec::new(), false);

#[test]
fn a_cut_holds_bytes_back_and_the_next_attempt_delivers_them() {
    for (there, back) in [(true, false), (false, true), (true, true)] {
        let (world, _, host, conn) = opened(5);
        world.cut(there, back);
        host.send(conn, Bytes::from_static(b"old"));
        world.run(1_050 * MS);
        assert_eq!(seen(&host), NOTHING);
        world.cut(false, false);
        // Attempts come 0.2, 0.6, 1.4 and 3 s after the first.
        world.run(1_440 * MS);
        host.send(conn, Bytes::from_static(b", new"));
        assert_eq!(seen(&host), NOTHING, "what is sent after the heal does not overtake");
        world.run(1_800 * MS);
        assert_eq!(seen(&host), (false, b"old, new".to_vec(), false));
        world.run(60_000 * MS);
        assert_eq!(seen(&host), NOTHING, "all is acknowledged");
    }
}

#[test]
fn what_is_not_acknowledged_for_long_ends_the_connection() {
    // A cut on the way there, on the way back, one that heals when no attempt is left.
    for (there, back, heals_ms) in
        [(true, false, 9_000), (false, true, 9_000), (true, true, 9_000), (true, true, 4_000)]
    {
        let (world, _, host, conn) = opened(6);
        world.cut(there, back);
        host.send(conn, Bytes::from_static(b"old"));
        world.run(heals_ms.min(5_040) * MS);
        assert_eq!(seen(&host), NOTHING);
        if heals_ms < 5_000 {
            world.cut(false, false);
        }
        world.run(5_040 * MS);
        assert_eq!(seen(&host), NOTHING);
        world.run(5_070 * MS);
        assert_eq!(seen(&host), (false, Vec::new(), true), "{there} {back} {heals_ms}");
        world.run(heals_ms * MS);
        world.cut(false, false);
        world.run(30_000 * MS);
        assert_eq!(world.net.connections(), 0, "the other side learns of it too");
    }
}

#[test]
fn the_time_is_that_of_the_sender() {
    let world = World::new(3);
    world.echo();
    let host = VirtualHost::new(Parts {
        exec: world.exec.clone(),
        net: world.net.clone(),
        machine: world.client,
        group: world.exec.group(),
        clock: Rc::new(MachineClock::new(0, 1_000_000, 0)),
        disk: FaultDisk::new(0),
        dice: Dice::new(3, Stream::Store, 9),
    });
    let conn = host.connect(address(), Hello::client(ClientId([7; 16]), StoreId::new(0, ANY_STORE)));
    world.run(50 * MS);
    assert!(seen(&host).0);
    world.cut(true, true);
    host.send(conn, Bytes::from_static(b"quick"));
    world.run(2_540 * MS);
    assert_eq!(seen(&host), NOTHING);
    world.run(2_560 * MS);
    assert_eq!(seen(&host), (false, Vec::new(), true), "its clock runs twice as fast");
}

#[test]
fn a_slow_link_that_carries_is_no_reason_to_end() {
    let (world, _, host, conn) = opened(8);
    let slow = Quality { bytes_per_s: 10_000, ..Quality::LAN };
    world.net.set_quality(world.client, world.server, Some(slow));
    host.send(conn, Bytes::from(vec![1; 100_000]));
    host.send(conn, Bytes::from_static(b"!"));
    world.run(11_000 * MS);
    let (_, got, closed) = seen(&host);
    assert_eq!((got.len(), closed), (100_001, false));

    // But one whose bytes are under way for longer is, though they arrive.
    let late = Quality { delay_ns: (6_000 * MS, 6_000 * MS), ..Quality::LAN };
    world.net.set_quality(world.client, world.server, Some(late));
    host.send(conn, Bytes::from_static(b"late"));
    world.run(15_950 * MS);
    assert_eq!(seen(&host), NOTHING);
    world.run(16_050 * MS);
    assert_eq!(seen(&host), (false, Vec::new(), true));
    world.run(24_000 * MS);
    assert_eq!(world.net.connections(), 0, "the echo is answered by a reset");
}

#[test]
fn slow_acknowledgements_count_when_they_come() {
    for (back_ms, ends) in [(4_000, false), (6_000, true)] {
        let (world, _, host, conn) = opened(11);
        let back = Quality { delay_ns: (back_ms * MS, back_ms * MS), ..Quality::LAN };
        world.net.set_quality(world.server, world.client, Some(back));
        host.send(conn, Bytes::from_static(b"?"));
        world.run(5_500 * MS);
        assert_eq!(seen(&host).2, ends, "{back_ms}");
    }
}

#[test]
fn a_dead_process_is_noticed_and_a_dead_machine_is_given_up() {
    for power in [false, true] {
        let (world, group, host, conn) = opened(2);
        world.net.process_died(group, power);
        world.exec.kill(group);
        world.net.set_up(world.server, !power);
        host.send(conn, Bytes::from_static(b"anybody?"));
        world.run(1_000 * MS);
        assert_eq!(seen(&host).2, !power, "power {power}");
        world.run(5_060 * MS);
        assert_eq!(seen(&host).2, power, "power {power}");
        assert_eq!(world.net.connections(), 0);
    }
}

#[test]
fn a_machine_that_is_up_again_answers_with_a_reset() {
    let (world, group, host, conn) = opened(2);
    world.net.process_died(group, true);
    world.exec.kill(group);
    world.net.set_up(world.server, false);
    host.send(conn, Bytes::from_static(b"anybody?"));
    world.run(900 * MS);
    world.net.set_up(world.server, true);
    world.run(1_440 * MS);
    assert_eq!(seen(&host), NOTHING, "until the next attempt");
    world.run(1_800 * MS);
    assert_eq!(seen(&host), (false, Vec::new(), true));
    assert_eq!(world.net.connections(), 0);
}

#[test]
fn a_store_finds_out_that_an_idle_client_is_gone_and_a_client_does_not() {
    for client_dies in [true, false] {
        let (world, server, host, _) = opened(12);
        let (group, machine) = if client_dies { (host.port().group(), world.client) } else { (server, world.server) };
        world.net.process_died(group, true);
        world.exec.kill(group);
        world.net.set_up(machine, false);
        world.run(14_900 * MS);
        assert_eq!(world.net.connections(), 1);
        world.run(15_100 * MS);
        assert_eq!(world.net.connections(), usize::from(!client_dies));
    }
}

#[test]
fn a_half_open_connection_is_silent_and_then_over() {
    let (mut told, mut reset) = (0, 0);
    for seed in 0..40 {
        let (world, _, host, conn) = opened(seed);
        let silent_ms = if seed % 2 == 0 { 2_000 } else { 9_000 };
        world.net.half_open(world.client, world.server, silent_ms * MS);
        host.send(conn, Bytes::from_static(b"is anybody there"));
        world.run(1_900 * MS);
        let (_, got, closed) = seen(&host);
        assert_eq!(got, b"", "seed {seed}: nobody answers");
        if closed {
            told += 1; // It was the client's side that forgot.
            continue;
        }
        let ends_ms = if seed % 2 == 0 { 3_500 } else { 5_060 };
        world.run(ends_ms * MS);
        assert_eq!(seen(&host), (false, Vec::new(), true), "seed {seed}");
        reset += 1;
    }
    assert!(told > 0 && reset > 0, "{told} {reset}");
}

#[test]
fn what_a_killed_process_had_sent_still_arrives_unless_it_takes_too_long() {
    for (heals_ms, arrives) in [(2_000, 1..20), (6_000, 0..1)] {
        let arrived = (0..20).filter(|seed| {
            let (world, group, host, conn) = opened(*seed);
            world.net.set_cut(world.server, world.client, true);
            host.send(conn, Bytes::from_static(b"old"));
            world.run(1_000 * MS);
            world.exec.kill(group);
            world.net.process_died(group, false);
            world.run(heals_ms * MS);
            world.net.set_cut(world.server, world.client, false);
            world.run(20_000 * MS);
            let (_, got, closed) = seen(&host);
            assert!(closed, "then it ends");
            assert_eq!(world.net.connections(), 0);
            got == b"old"
        });
        assert!(arrives.contains(&arrived.count()), "{heals_ms}");
    }
}

#[test]
fn a_store_reads_on_for_a_second_when_it_closes() {
    for (later_ms, resets) in [(500, false), (1_500, true)] {
        let world = World::new(4);
        let server = world.host(world.server);
        world.net.listen(address(), server.port().group(), [(0, server.port())]);
        let (client, conn) = world.client();
        world.run(10 * MS);
        let mut events = Vec::new();
        server.take_events(&mut events);
        let Some(NetEvent::Opened { conn: theirs, hello, .. }) = events.first() else { panic!("{events:?}") };
        server.send(*theirs, Bytes::copy_from_slice(&hello.encode()));
        world.run(20 * MS);
        // The FIN is lost, so that only a reset can end the client's side.
        world.net.set_cut(world.server, world.client, true);
        server.close(*theirs);
        world.run((later_ms + 20) * MS);
        client.send(conn, Bytes::from_static(b"you still there?"));
        world.net.set_cut(world.server, world.client, false);
        let (_, _, closed) = seen(&client);
        assert!(!closed);
        world.run((later_ms + 30) * MS);
        assert_eq!(seen(&client).2, resets, "{later_ms}");
    }
}
