//! A stand for hosts: a small store that answers frames, and a plain blocking client.

#![expect(clippy::unwrap_used, reason = "only tests stand here: what fails is their failure")]

use bytes::Bytes;
use kvnode::host::core::{CoreConfig, Ended, Limits, Seated, Tenant, ToCore};
use kvnode::host::mailbox::Mailbox;
use kvnode::host::{self, HostKind};
use ringkv_shard::host::{ConnId, Host, NetEvent};
use ringkv_wire::frame::{self, Decoder, Kind, Message};
use ringkv_wire::hello::{ANY_STORE, Answer, HELLO_BYTES, Hello, Role};
use ringkv_wire::ids::{ClientId, StoreId};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Every host this machine lets us run.
pub fn kinds() -> Vec<HostKind> {
    let mut kinds = vec![HostKind::Plain];
    match kvnode::probe::ring() {
        Ok(()) => kinds.push(HostKind::Glommio),
        Err(e) => eprintln!("host/glommio is skipped: {e}"),
    }
    kinds
}

/// What happened to a tenant, for a test to look at.
#[derive(Default)]
pub struct Seen {
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    /// Highest backlog of any connection.
    pub backlog: AtomicU64,
}

/// Answers each frame: `Read` with its own body, `Write` (a u32) with so many bytes, `Status` likewise and then a close,
/// `Map` (an address as text) by dialling it.
#[derive(Clone, Default)]
pub struct Echo(pub Arc<Seen>);

impl Tenant for Echo {
    fn seat<H: Host>(&self, host: H, store: u16) -> Seated {
        let ended = Rc::new(Cell::new(false));
        let (seen, stop) = (self.0.clone(), ended.clone());
        let waker = host.clone();
        Seated {
            run: Box::pin(async move {
                serve(host, store, seen, ended).await;
                Ok(())
            }),
            stop: Box::new(move || {
                stop.set(true);
                waker.wake();
            }),
        }
    }
}

async fn serve<H: Host>(host: H, store: u16, seen: Arc<Seen>, ended: Rc<Cell<bool>>) {
    let mut decoders: BTreeMap<ConnId, Decoder> = BTreeMap::new();
    let mut events = Vec::new();
    while !ended.get() {
        host.wait(host.now().boot_ns + 1_000_000_000).await;
        host.take_events(&mut events);
        for event in events.drain(..) {
            match event {
                NetEvent::Opened { conn, hello, inbound } => {
                    seen.opened.fetch_add(1, Ordering::SeqCst);
                    decoders.insert(conn, Decoder::new(32 << 20));
                    if inbound {
                        let from = StoreId::new(7, store);
                        let answer = Hello { answer: Answer::Welcome, from, wanted: hello.from, ..hello };
                        host.send(conn, Bytes::copy_from_slice(&answer.encode()));
                    }
                }
                NetEvent::Received { conn, bytes } => {
                    let Some(decoder) = decoders.get_mut(&conn) else { continue };
                    decoder.feed(&bytes);
                    loop {
                        match decoder.next() {
                            Ok(Some(message)) => answer(&host, conn, message),
                            Ok(None) => break,
                            Err(_) => {
                                host.close(conn);
                                break;
                            }
                        }
                    }
                    seen.backlog.fetch_max(host.backlog_bytes(conn) as u64, Ordering::SeqCst);
                }
                NetEvent::Closed { conn } => {
                    seen.closed.fetch_add(1, Ordering::SeqCst);
                    decoders.remove(&conn);
                }
            }
        }
    }
}

fn answer<H: Host>(host: &H, conn: ConnId, message: Message) {
    let number = || u32::from_le_bytes(message.body[..4].try_into().unwrap()) as usize;
    let (kind, body) = match message.kind {
        Kind::Read => (Kind::ReadReply, message.body.to_vec()),
        Kind::Write => (Kind::WriteReply, vec![7; number()]),
        Kind::Status => (Kind::StatusReply, vec![8; number()]),
        Kind::Map => {
            let to = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
            let dialled = host.connect(to, hello(Role::Store));
            (Kind::MapReply, dialled.0.to_le_bytes().to_vec())
        }
        other => panic!("{other:?} is not for the echo"),
    };
    let mut out = Vec::new();
    frame::encode(kind, message.id, &body, &mut out);
    host.send(conn, out.into());
    if message.kind == Kind::Status {
        host.close(conn);
    }
}

/// A running core with echoes on it.
pub struct Core {
    pub seen: Arc<Seen>,
    pub addresses: Vec<SocketAddr>,
    pub mail: Mailbox<ToCore>,
    thread: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
    _ended: tokio::sync::mpsc::UnboundedReceiver<Ended>,
}

impl Core {
    pub fn start(kind: HostKind, stores: u16, limits: Limits) -> Core {
        let echo = Echo::default();
        Core::with(kind, stores, limits, echo.0.clone(), echo)
    }

    /// A core with other tenants, which note what they do in `seen`.
    pub fn with<T: Tenant>(kind: HostKind, stores: u16, limits: Limits, seen: Arc<Seen>, tenant: T) -> Core {
        let dir = tempfile::tempdir().unwrap();
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for store in 0..stores {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            addresses.push(listener.local_addr().unwrap());
            listeners.push((store, listener));
        }
        let mail = Mailbox::default();
        let core = CoreConfig {
            number: 0,
            cpu: None,
            spin: Duration::ZERO,
            data_dir: dir.path().to_owned(),
            stores: listeners,
            mail: mail.clone(),
            limits,
            ring_bytes: 1 << 20,
        };
        let (report, ended) = tokio::sync::mpsc::unbounded_channel();
        let thread = host::start(kind, core, tenant, report).unwrap();
        Core { seen, addresses, mail, thread: Some(thread), _dir: dir, _ended: ended }
    }

    pub fn wait_closed(&self, n: u64) {
        wait_until(|| self.seen.closed.load(Ordering::SeqCst) >= n);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.mail.post(ToCore::Shutdown);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// Waits for something that must come, for at most 20 s.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came");
}

/// A first hello.
pub fn hello(role: Role) -> Hello {
    Hello { role, ..Hello::client(ClientId([9; 16]), StoreId::new(0, ANY_STORE)) }
}

/// A blocking client.
pub struct Client {
    pub socket: TcpStream,
    decoder: Decoder,
}

impl Client {
    /// Connects and says nothing.
    pub fn silent(to: SocketAddr) -> Client {
        let socket = TcpStream::connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        Client { socket, decoder: Decoder::new(32 << 20) }
    }

    /// Connects, says hello; gives the answer.
    pub fn greet(to: SocketAddr, role: Role) -> (Client, Hello) {
        let mut client = Client::silent(to);
        client.socket.write_all(&hello(role).encode()).unwrap();
        let answer = client.hello();
        (client, answer)
    }

    /// A welcome client.
    pub fn connect(to: SocketAddr) -> Client {
        let (client, answer) = Client::greet(to, Role::Client);
        assert_eq!(answer.answer, Answer::Welcome);
        client
    }

    pub fn hello(&mut self) -> Hello {
        let mut bytes = [0; HELLO_BYTES];
        self.socket.read_exact(&mut bytes).unwrap();
        Hello::decode(&bytes).unwrap()
    }

    pub fn send(&mut self, kind: Kind, id: u64, body: &[u8]) -> std::io::Result<()> {
        let mut out = Vec::new();
        frame::encode(kind, id, body, &mut out);
        self.socket.write_all(&out)
    }

    /// The next message; `None` at the end of the connection.
    pub fn receive(&mut self) -> Option<Message> {
        let mut chunk = vec![0; 64 << 10];
        loop {
            if let Some(message) = self.decoder.next().unwrap() {
                return Some(message);
            }
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.decoder.feed(&chunk[..n]),
                // Somebody stopped this process and let it go on.
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => panic!("a clean end, not a reset: {e}"),
            }
        }
    }

    pub fn echo(&mut self, id: u64, body: &[u8]) {
        self.send(Kind::Read, id, body).unwrap();
        let back = self.receive().unwrap();
        assert_eq!((back.kind, back.id, &back.body[..]), (Kind::ReadReply, id, body));
    }

    /// Whether the other side closes or resets.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.socket.read(&mut [0; 64]), Ok(0))
            || matches!(self.socket.take_error(), Ok(Some(_)))
            || self.socket.write_all(&[0; 64]).is_err()
    }
}
