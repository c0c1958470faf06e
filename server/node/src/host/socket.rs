//! What every host does to a socket.

use ringkv_wire::hello::{Answer, Hello};
use std::os::fd::AsFd;
use std::time::Duration;

/// Options of every connection. A kernel that lacks one of them serves without.
pub fn prepare(socket: &impl AsFd) {
    let socket = socket2::SockRef::from(socket);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let set = [
        socket.set_tcp_nodelay(true),
        // A peer that vanished without a word, idle or with bytes on the way.
        socket.set_tcp_keepalive(&keepalive),
        socket.set_tcp_user_timeout(Some(Duration::from_secs(5))),
    ];
    if let Some(e) = set.into_iter().find_map(Result::err) {
        tracing::debug!(error = %e, "a socket option is refused");
    }
}

/// The answer to a hello that is refused.
pub fn refusal(hello: Hello, answer: Answer) -> Hello {
    Hello { answer, from: hello.wanted, wanted: hello.from, ..hello }
}
