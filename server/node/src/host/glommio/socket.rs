//! Socket operations that end once, as futures on the ring.
//!
//! Each owns its descriptor and its memory until the kernel is done, and is given up when its future is dropped.

use io_uring::squeue::Entry;
use io_uring::{opcode, types};
use ringkv_storage::disk::uring::ring::{Cancelling, Ring};
use ringkv_wire::hello::{HELLO_BYTES, Hello};
use socket2::{SockAddr, Socket};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

/// What is thrown away at once.
const LINGER_BYTES: usize = 16 << 10;

/// A socket shared by its operations.
pub(super) type Shared = Rc<OwnedFd>;

pub(super) fn fd(socket: &OwnedFd) -> types::Fd {
    types::Fd(socket.as_raw_fd())
}

/// Connects to an address.
pub(super) async fn connect(ring: &Ring, to: SocketAddr) -> io::Result<Shared> {
    let kind = socket2::Type::STREAM.cloexec();
    let socket = Socket::new(socket2::Domain::for_address(to), kind, Some(socket2::Protocol::TCP))?;
    let keep = (Rc::new(OwnedFd::from(socket)), Box::new(SockAddr::from(to)));
    // SAFETY: descriptor and address are owned by the operation, the address on the heap.
    let connecting =
        unsafe { ring.op(keep, |(socket, to)| opcode::Connect::new(fd(socket), to.as_ptr().cast(), to.len()).build()) };
    let done = connecting.cancel_on_drop(ring).await;
    let socket = done.keep.0.clone();
    done.ok().map(|_| socket)
}

/// Reads exactly one hello, and not a byte behind it.
pub(super) async fn read_hello(ring: &Ring, socket: &Shared) -> io::Result<Hello> {
    let mut bytes: Box<[u8]> = Box::new([0; HELLO_BYTES]);
    let mut at = 0;
    while at < HELLO_BYTES {
        let (got, back) = moved(ring, socket, bytes, at, receive).await;
        bytes = back;
        at += got?;
    }
    let mut hello = [0; HELLO_BYTES];
    hello.copy_from_slice(&bytes);
    Hello::decode(&hello).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Sends a hello.
pub(super) async fn write_hello(ring: &Ring, socket: &Shared, hello: Hello) -> io::Result<()> {
    let mut bytes: Box<[u8]> = Box::new(hello.encode());
    let mut at = 0;
    while at < HELLO_BYTES {
        let make = |socket: types::Fd, rest: &mut [u8]| {
            opcode::Send::new(socket, rest.as_ptr(), rest.len() as u32).flags(libc::MSG_NOSIGNAL).build()
        };
        let (sent, back) = moved(ring, socket, bytes, at, make).await;
        bytes = back;
        at += sent?;
    }
    Ok(())
}

/// Lets the last bytes arrive: closes our half and reads until the other side closes its own.
pub(super) async fn linger(ring: &Ring, socket: &Shared) {
    if rustix::net::shutdown(&**socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let mut rest = vec![0; LINGER_BYTES].into_boxed_slice();
    loop {
        let (got, back) = moved(ring, socket, rest, 0, receive).await;
        rest = back;
        if got.is_err() {
            return;
        }
    }
}

fn receive(socket: types::Fd, into: &mut [u8]) -> Entry {
    opcode::Recv::new(socket, into.as_mut_ptr(), into.len() as u32).build()
}

/// Moves some of the bytes from `at` on; none is an end, and an error.
async fn moved(
    ring: &Ring,
    socket: &Shared,
    bytes: Box<[u8]>,
    at: usize,
    make: impl FnOnce(types::Fd, &mut [u8]) -> Entry,
) -> (io::Result<usize>, Box<[u8]>) {
    // SAFETY: all callers' entries point at the descriptor and the rest of the boxed bytes, which the operation owns.
    let moving: Cancelling<_> = unsafe {
        ring.op((socket.clone(), bytes), |(socket, bytes)| make(fd(socket), &mut bytes[at..])).cancel_on_drop(ring)
    };
    let done = moving.await;
    let result = match done.result {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n if n > 0 => Ok(n as usize),
        e if matches!(-e, libc::EINTR | libc::EAGAIN) => Ok(0),
        e => Err(io::Error::from_raw_os_error(-e)),
    };
    (result, done.keep.1)
}
