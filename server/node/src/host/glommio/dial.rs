//! Connections that host/glommio opens, and those it refuses.

use crate::door::HELLO_TIMEOUT;
use crate::host::glommio::conn::{Conn, LINGER};
use crate::host::glommio::socket::{self, Shared};
use crate::host::glommio::{Inner, timed};
use crate::host::socket::refusal;
use ringkv_shard::host::NetEvent;
use ringkv_storage::disk::uring::ring::Ring;
use ringkv_wire::hello::{Answer, Hello};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// Opens a connection, says hello, tells the store of the answer, and then lets it live as any other.
pub(super) async fn dial(host: Rc<Inner>, conn: Rc<Conn>, to: SocketAddr, hello: Hello) {
    let opened = tokio::select! {
        biased;
        () = conn.unwanted() => None,
        opened = timed(HELLO_TIMEOUT, open(&host.core.ring, to, hello)) => opened.and_then(Result::ok),
    };
    match opened {
        Some((socket, hello)) => {
            host.push(NetEvent::Opened { conn: conn.id, hello, inbound: false });
            conn.live(socket);
        }
        None => conn.kill(),
    }
}

async fn open(ring: &Ring, to: SocketAddr, hello: Hello) -> io::Result<(Shared, Hello)> {
    let socket = socket::connect(ring, to).await?;
    socket::write_hello(ring, &socket, hello).await?;
    let answer = socket::read_hello(ring, &socket).await?;
    Ok((socket, answer))
}

/// Answers a hello with a refusal, for what it is worth.
pub(super) async fn refuse(host: Rc<Inner>, socket: Shared, hello: Hello, answer: Answer) {
    let saying = socket::write_hello(&host.core.ring, &socket, refusal(hello, answer));
    let said = matches!(timed(HELLO_TIMEOUT, saying).await, Some(Ok(())));
    tracing::debug!(?answer, said, "a connection refused");
    // Whoever does not close in time is reset.
    let _ = timed(LINGER, socket::linger(&host.core.ring, &socket)).await;
}
