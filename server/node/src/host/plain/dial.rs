//! Connections that host/plain opens, and those it refuses.

use crate::door::{HELLO_TIMEOUT, read_hello};
use crate::host::plain::Inner;
use crate::host::plain::conn::{self, Conn};
use ringkv_shard::host::NetEvent;
use ringkv_wire::hello::{Answer, Hello};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Opens a connection, says hello, tells the store of the answer, and then lives as any other.
pub(super) async fn dial(host: Rc<Inner>, conn: Rc<Conn>, to: SocketAddr, hello: Hello) {
    let opened = tokio::select! {
        biased;
        () = conn.unwanted() => None,
        opened = tokio::time::timeout(HELLO_TIMEOUT, open(to, hello)) => opened.ok().and_then(Result::ok),
    };
    match opened {
        Some((stream, hello)) => {
            host.push(NetEvent::Opened { conn: conn.id, hello, inbound: false });
            conn::live(host, conn, stream).await;
        }
        None => host.gone(&conn),
    }
}

async fn open(to: SocketAddr, hello: Hello) -> io::Result<(TcpStream, Hello)> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(&hello.encode()).await?;
    let answer = read_hello(&mut stream).await?;
    Ok((stream, answer))
}

/// Answers a hello with a refusal, for what it is worth.
pub(super) async fn refuse(mut stream: TcpStream, hello: Hello, answer: Answer) {
    let refusal = Hello { answer, from: hello.wanted, wanted: hello.from, ..hello };
    let said = tokio::time::timeout(HELLO_TIMEOUT, stream.write_all(&refusal.encode())).await;
    tracing::debug!(?answer, said = said.is_ok(), "a connection refused");
}

/// Options of every connection. A kernel that lacks one of them serves without.
pub(super) fn prepare(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let set = [
        socket.set_tcp_nodelay(true),
        // A peer that vanished without a word, idle or with bytes on the way.
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_user_timeout(Some(Duration::from_secs(20))),
    ];
    if let Some(e) = set.into_iter().find_map(Result::err) {
        tracing::debug!(error = %e, "a socket option is refused");
    }
}
