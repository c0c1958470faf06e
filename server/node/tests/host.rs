//! Every host, by itself: a small store that answers frames lives on it, and clients behave badly.

mod stand;

use kvnode::host::core::{Limits, Seated, Tenant, ToCore};
use ringkv_shard::host::Host;
use ringkv_storage::disk::{Disk, DiskBuf, OpenMode};
use ringkv_wire::frame::Kind;
use ringkv_wire::hello::{Answer, Hello, Role};
use ringkv_wire::limits::MESSAGE_BYTES_MAX;
use stand::{Client, Core, Seen, hello, kinds, wait_until};
use std::cell::Cell;
use std::future::poll_fn;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

#[test]
fn frames_are_answered_small_and_large() {
    for kind in kinds() {
        let core = Core::start(kind, 2, Limits::default());
        for address in &core.addresses {
            let mut client = Client::connect(*address);
            client.echo(1, b"");
            client.echo(2, b"key=10");
            client.echo(3, &vec![5; 300 << 10]);
            client.echo(4, &vec![6; MESSAGE_BYTES_MAX]);
        }
    }
}

/// Uses its disk, then waits for nothing but the time, and counts how often that came.
#[derive(Clone, Default)]
struct Sleeper(Arc<Seen>);

impl Tenant for Sleeper {
    fn seat<H: Host>(&self, host: H, store: u16) -> Seated {
        let (seen, ended) = (self.0.clone(), Rc::new(Cell::new(false)));
        let (stop, waker) = (ended.clone(), host.clone());
        let run = async move {
            let disk = host.disk();
            let file = disk.open(&format!("file-{store}"), OpenMode::Create).await.map_err(|e| e.to_string())?;
            disk.allocate(&file, 1 << 20).await.map_err(|e| e.to_string())?;
            for _ in 0..20 {
                // Busy with itself, while the host may fall asleep; then waits, and nothing but the time comes.
                for _ in 0..100 {
                    once_more().await;
                }
                host.wait(host.now().boot_ns + 1_000_000).await;
            }
            while !ended.get() {
                host.wait(host.now().boot_ns + 2_000_000).await;
                seen.opened.fetch_add(1, Ordering::SeqCst);
                // A job that ends without any other event, at the disk's time.
                let (file, after) = (file.clone(), host.clone());
                let commit = async move { after.disk().commit(&file, 4096, DiskBuf::zeroed(4096)).await.0 };
                let (seen, waker) = (seen.clone(), host.clone());
                host.spawn(async move {
                    // The last ones may be given up with the core.
                    seen.closed.fetch_add(u64::from(commit.await.is_ok()), Ordering::SeqCst);
                    waker.wake();
                });
            }
            Ok(())
        };
        let stop = move || {
            stop.set(true);
            waker.wake();
        };
        Seated { run: Box::pin(run), stop: Box::new(stop) }
    }
}

/// Lets others run.
async fn once_more() {
    let mut again = true;
    poll_fn(|cx| {
        if std::mem::take(&mut again) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[test]
fn a_store_without_visitors_wakes_at_its_times_and_with_its_jobs() {
    for kind in kinds() {
        let sleeper = Sleeper::default();
        let core = Core::with(kind, 2, Limits::default(), sleeper.0.clone(), sleeper);
        wait_until(|| core.seen.opened.load(Ordering::SeqCst) > 200);
        core.wait_closed(200);
    }
}

#[test]
fn pipelined_frames_come_back_in_order() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut client = Client::connect(core.addresses[0]);
        for id in 0..2000u64 {
            client.send(Kind::Read, id, &vec![id as u8; (id % 300) as usize]).unwrap();
        }
        for id in 0..2000u64 {
            let back = client.receive().unwrap();
            assert_eq!((back.id, back.body.len()), (id, (id % 300) as usize));
        }
    }
}

#[test]
fn who_does_not_say_hello_is_closed() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut mute = Client::silent(core.addresses[0]);
        let mut slow = Client::silent(core.addresses[0]);
        let bytes = hello(Role::Client).encode();
        let mut closed = false;
        for byte in bytes {
            // One byte every 100 ms: it would take 9.6 s.
            closed = slow.socket.write_all(&[byte]).is_err();
            if closed {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(closed, "a hello of one byte in 100 ms was waited for");
        assert!(mute.is_closed());
        // The store never heard of them.
        assert_eq!(core.seen.opened.load(Ordering::SeqCst), 0);
        Client::connect(core.addresses[0]).echo(1, b"still here");
    }
}

#[test]
fn garbage_instead_of_hello_is_closed() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut flipped = hello(Role::Client).encode();
        flipped[50] ^= 1;
        let answered = Hello { answer: Answer::Welcome, ..hello(Role::Client) }.encode();
        for bytes in [[0xff; 96], flipped, answered] {
            let mut client = Client::silent(core.addresses[0]);
            client.socket.write_all(&bytes).unwrap();
            assert!(client.is_closed());
        }
        assert_eq!(core.seen.opened.load(Ordering::SeqCst), 0);
        // Garbage behind the hello costs its own connection.
        let mut client = Client::connect(core.addresses[0]);
        client.socket.write_all(&[0xff; 64]).unwrap();
        assert!(client.receive().is_none());
        Client::connect(core.addresses[0]).echo(1, b"still here");
    }
}

#[test]
fn a_crowd_without_hello_does_not_keep_friends_out() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits { silent_max: 16, ..Limits::default() });
        let crowd: Vec<_> = (0..200).map(|_| TcpStream::connect(core.addresses[0]).unwrap()).collect();
        Client::connect(core.addresses[0]).echo(1, b"a friend");
        drop(crowd);
    }
}

#[test]
fn many_connections() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut clients: Vec<_> = (0..300).map(|_| Client::connect(core.addresses[0])).collect();
        for (id, client) in clients.iter_mut().enumerate() {
            client.send(Kind::Read, id as u64, b"all at once").unwrap();
        }
        for (id, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.receive().unwrap().id, id as u64);
        }
        drop(clients);
        core.wait_closed(300);
    }
}

#[test]
fn too_many_clients_are_told_so_and_stores_still_come_in() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits { clients_max: 2, ..Limits::default() });
        let first = Client::connect(core.addresses[0]);
        let _second = Client::connect(core.addresses[0]);
        // It is told although it has said more than hello, which nobody reads.
        let mut third = Client::silent(core.addresses[0]);
        let mut bytes = hello(Role::Client).encode().to_vec();
        bytes.resize(200_000, 1);
        third.socket.write_all(&bytes).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(third.hello().answer, Answer::Busy);
        drop(third);
        let (_, answer) = Client::greet(core.addresses[0], Role::Store);
        assert_eq!(answer.answer, Answer::Welcome);
        drop(first);
        core.wait_closed(1);
        wait_until(|| Client::greet(core.addresses[0], Role::Client).1.answer == Answer::Welcome);
    }
}

#[test]
fn a_half_closed_connection_ends() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut client = Client::connect(core.addresses[0]);
        client.socket.shutdown(Shutdown::Write).unwrap();
        core.wait_closed(1);
        assert!(client.receive().is_none());
    }
}

#[test]
fn what_was_sent_before_close_arrives() {
    for kind in kinds() {
        let core = Core::start(kind, 1, Limits::default());
        let mut client = Client::connect(core.addresses[0]);
        // A request, then the one that is answered by 6 MiB and a close, then bytes that nobody will read: a careless
        // close would reset the connection and lose the answer.
        client.send(Kind::Read, 1, b"first").unwrap();
        client.send(Kind::Status, 2, &(6u32 << 20).to_le_bytes()).unwrap();
        client.send(Kind::Read, 3, &[0; 100_000]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(client.receive().unwrap().id, 1);
        let last = client.receive().unwrap();
        assert_eq!((last.id, last.body.len()), (2, 6 << 20));
        assert!(client.receive().is_none());
        core.wait_closed(1);
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from() {
    for kind in kinds() {
        let limits = Limits { backlog_bytes_pause: 1 << 20, ..Limits::default() };
        let core = Core::start(kind, 1, limits);
        let mut deaf = Client::connect(core.addresses[0]);
        // Each asks for 16 KiB: 256 MiB in all, far above the limit, were they all read at once.
        for id in 0..16_384 {
            deaf.send(Kind::Write, id, &(16u32 << 10).to_le_bytes()).unwrap();
        }
        let mut other = Client::connect(core.addresses[0]);
        for id in 0..100 {
            other.echo(id, b"unharmed");
        }
        // It may still be served: slow is no crime. Dropping it ends it.
        assert_eq!(core.seen.closed.load(Ordering::SeqCst), 0, "{kind}");
        drop(deaf);
        core.wait_closed(1);
    }
}

#[test]
fn a_backlog_beyond_its_limit_costs_the_connection() {
    for kind in kinds() {
        let limits = Limits { backlog_bytes_max: 4 << 20, ..Limits::default() };
        let core = Core::start(kind, 1, limits);
        let (mut deaf, _) = Client::greet(core.addresses[0], Role::Store);
        for id in 0..4096 {
            if deaf.send(Kind::Write, id, &(256u32 << 10).to_le_bytes()).is_err() {
                break;
            }
        }
        core.wait_closed(1);
        assert!(core.seen.backlog.load(Ordering::SeqCst) < 6 << 20);
        Client::connect(core.addresses[0]).echo(1, b"still here");
    }
}

#[test]
fn dialling_ends_in_an_opened_or_a_closed() {
    for kind in kinds() {
        let core = Core::start(kind, 2, Limits::default());
        let mut client = Client::connect(core.addresses[0]);
        // Another store: both sides see the connection.
        client.send(Kind::Map, 1, core.addresses[1].to_string().as_bytes()).unwrap();
        client.receive().unwrap();
        wait_until(|| core.seen.opened.load(Ordering::SeqCst) == 3);
        // Nobody listens there.
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        client.send(Kind::Map, 2, gone.to_string().as_bytes()).unwrap();
        client.receive().unwrap();
        core.wait_closed(1);
        // Somebody listens and never answers.
        let mute = TcpListener::bind("127.0.0.1:0").unwrap();
        client.send(Kind::Map, 3, mute.local_addr().unwrap().to_string().as_bytes()).unwrap();
        client.receive().unwrap();
        core.wait_closed(2);
        client.echo(4, b"still here");
    }
}

#[test]
fn a_connection_can_be_handed_to_a_core() {
    for kind in kinds() {
        let core = Core::start(kind, 2, Limits::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Client::silent(listener.local_addr().unwrap());
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        // What the client said behind its hello is still in the socket.
        client.send(Kind::Read, 1, b"early").unwrap();
        core.mail.post(ToCore::Adopt { store: 1, socket, hello: hello(Role::Client) });
        assert_eq!(client.hello().from.store, 1);
        assert_eq!(&client.receive().unwrap().body[..], b"early");
        // A store that is not here: closed.
        let mut client = Client::silent(listener.local_addr().unwrap());
        let (socket, _) = listener.accept().unwrap();
        core.mail.post(ToCore::Adopt { store: 9, socket, hello: hello(Role::Client) });
        assert!(client.is_closed());
    }
}
