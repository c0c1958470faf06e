//! Connections that host/plain opens, and those it refuses.

use crate::door::{HELLO_TIMEOUT, read_hello};
use crate::host::plain::Inner;
use crate::host::plain::conn::{self, Conn};
use crate::host::socket::refusal;
use ringkv_shard::host::NetEvent;
use ringkv_wire::hello::{Answer, Hello};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
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
    let said = tokio::time::timeout(HELLO_TIMEOUT, stream.write_all(&refusal(hello, answer).encode())).await;
    tracing::debug!(?answer, said = said.is_ok(), "a connection refused");
    conn::linger(&mut stream).await;
}
