//! Descriptors run out: the hosts wait, and serve on when there are some again. Alone in its process, whose limit it lowers.

#[expect(dead_code, reason = "the stand serves more tests than these")]
mod stand;

use kvnode::host::core::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use stand::{Client, Core, kinds};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn accepting_without_descriptors_waits_for_them() {
    let before = getrlimit(Resource::Nofile);
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut friend = Client::connect(core.addresses[0]);
        let crowd: Vec<_> = (0..8).map(|_| TcpStream::connect(core.addresses[0]).unwrap()).collect();
        friend.echo(1, b"before");
        // The highest number in use, and no more: what is free below it goes to the crowd.
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 + 6;
        setrlimit(Resource::Nofile, Rlimit { current: Some(open), maximum: before.maximum }).unwrap();
        let more: Vec<_> = (0..32).filter_map(|_| TcpStream::connect(core.addresses[0]).ok()).collect();
        assert!(more.len() < 32, "descriptors have run out");
        std::thread::sleep(Duration::from_millis(200));
        for id in 2..20 {
            friend.echo(id, b"still served");
        }
        setrlimit(Resource::Nofile, before).unwrap();
        drop((crowd, more));
        Client::connect(core.addresses[0]).echo(1, b"served again");
    }
}
