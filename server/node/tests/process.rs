//! The kvnode process: how it starts, refuses, and ends.

mod node;

use node::{CLUSTER, HOSTS, Node, Place, greet};
use ringkv_wire::hello::{ANY_STORE, Answer};
use ringkv_wire::ids::StoreId;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn sigterm_ends_it_with_0_and_it_says_in_one_line_what_it_found() {
    let place = Place::new(2);
    let node = Node::start(&place, &[]);
    let (code, log) = node.terminate();
    assert_eq!(code, 0, "{log}");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("io_uring")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for word in ["host plain", "O_DIRECT", "locked memory", "2 stores", "pinned"] {
        assert!(lines[0].contains(word), "{word}: {}", lines[0]);
    }
}

#[test]
fn it_ends_with_its_standard_input() {
    for host in HOSTS {
        let place = Place::new(1);
        let mut node = Node::start(&place, &["--exit-with-stdin", "--host", host]);
        node.close_stdin();
        let (code, log) = node.wait();
        assert_eq!(code, 0, "{log}");
    }
}

#[test]
fn it_restarts_with_half_and_with_twice_the_cores() {
    let place = Place::new(2);
    // A data directory made by one host is served by the other.
    for (cores, host) in [("2", HOSTS[0]), ("1", HOSTS[1]), ("4", HOSTS[1]), ("2", HOSTS[0]), ("1", HOSTS[0])] {
        let node = Node::start(&place, &["--cores", cores, "--host", host]);
        for store in 0..2 {
            let (_socket, answer) = greet(place.store(store), StoreId::new(1, store)).unwrap();
            assert_eq!((answer.answer, answer.from), (Answer::Welcome, StoreId::new(1, store)), "{cores} cores");
        }
        let (code, log) = node.terminate();
        assert_eq!(code, 0, "{log}");
    }
    let identity = std::fs::read_to_string(place.data().join("identity")).unwrap();
    assert!(identity.contains("made = true"), "{identity}");
}

#[test]
fn the_common_port_leads_to_every_store() {
    for host in HOSTS {
        let place = Place::new(2);
        let node = Node::start(&place, &["--cores", "1", "--host", host]);
        for store in [0, 1] {
            let (_socket, answer) = greet(place.common(), StoreId::new(1, store)).unwrap();
            assert_eq!((answer.answer, answer.from), (Answer::Welcome, StoreId::new(1, store)));
        }
        let (_socket, answer) = greet(place.common(), StoreId::new(0, ANY_STORE)).unwrap();
        assert_eq!(answer.answer, Answer::Welcome);
        let (_socket, answer) = greet(place.common(), StoreId::new(1, 9)).unwrap();
        assert_eq!(answer.answer, Answer::WrongStore);
        let (code, log) = node.terminate();
        assert_eq!(code, 0, "{log}");
    }
}

#[test]
fn a_node_learns_the_members_from_a_seed() {
    let (first, second) = (Place::new(1), Place::new(1));
    let members = [format!("1@{}", first.common()), format!("2@{}", second.common())];
    let mut args = vec!["--node-id", "1", "--cluster", CLUSTER, "--replicas", "2"];
    members.iter().for_each(|member| args.extend(["--member", member]));
    let one = Node::spawn_as(&first, &args);
    let seed = first.common().to_string();
    let two = Node::spawn_as(&second, &["--node-id", "2", "--seeds", &seed]);
    let mut answer = None;
    for _ in 0..400 {
        answer = greet(second.store(0), StoreId::new(2, 0)).map(|(_, hello)| hello);
        if answer.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let answer = answer.unwrap();
    assert_eq!((answer.from, answer.cluster.to_string()), (StoreId::new(2, 0), CLUSTER.to_owned()));
    // A node that is not among them is not served.
    let third = Place::new(1);
    let (code, log) = Node::spawn_as(&third, &["--node-id", "3", "--seeds", &seed]).wait();
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("not among"), "{log}");
    assert_eq!(two.terminate().0, 0);
    assert_eq!(one.terminate().0, 0);
}

#[test]
fn two_processes_do_not_share_a_directory() {
    let place = Place::new(1);
    let node = Node::start(&place, &[]);
    let (code, log) = Node::spawn(&place.elsewhere(), &[]).wait();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("another process"), "{log}");
    node.terminate();
}

#[test]
fn a_foreign_or_newer_directory_is_refused() {
    let place = Place::new(1);
    Node::start(&place, &[]).terminate();
    let other = ["--cluster", "ffffffffffffffffffffffffffffffff", "--member"];
    let member = format!("1@{}", place.common());
    let (code, log) = Node::spawn_plain(&place, &[other[0], other[1], other[2], &member]).wait();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains(CLUSTER) && log.contains("belongs to"), "{log}");
    let identity = place.data().join("identity");
    let text = std::fs::read_to_string(&identity).unwrap().replace("version = 1", "version = 2");
    std::fs::write(&identity, text).unwrap();
    let (code, log) = Node::spawn(&place, &[]).wait();
    assert_eq!(code, 3, "{log}");
    assert!(log.contains("newer"), "{log}");
}

#[test]
fn bad_settings_and_taken_ports_are_refused() {
    let place = Place::new(1);
    let (code, log) = Node::spawn(&place, &["--cores", "none"]).wait();
    assert_eq!(code, 2, "{log}");
    let (code, log) = Node::spawn_plain(&place, &["--listen", "0.0.0.0:7000"]).wait();
    assert_eq!(code, 2, "{log}");
    assert!(log.contains("--insecure"), "{log}");
    let taken = std::net::TcpListener::bind(place.store(0)).unwrap();
    let (code, log) = Node::spawn(&place, &[]).wait();
    assert_eq!(code, 1, "{log}");
    assert!(log.contains(&taken.local_addr().unwrap().to_string()), "{log}");
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let place = Place::new(1);
    let node = Node::start_with_files(&place, 64);
    let crowd: Vec<TcpStream> = (0..150).map_while(|_| TcpStream::connect(place.store(0)).ok()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = node.cpu_ticks();
    std::thread::sleep(Duration::from_millis(700));
    // 100 ticks a second: a spinning accept would have used about 70.
    let used = node.cpu_ticks() - before;
    assert!(used < 35, "{used} ticks");
    drop(crowd);
    // The connections without hello go at the latest after 2 s; then there is room again.
    let mut welcome = false;
    for _ in 0..100 {
        match greet(place.store(0), StoreId::new(1, 0)) {
            Some((_, answer)) if answer.answer == Answer::Welcome => {
                welcome = true;
                break;
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    assert!(welcome);
    let (code, log) = node.terminate();
    assert_eq!(code, 0, "{log}");
}
