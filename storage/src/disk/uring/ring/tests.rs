use super::*;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;

fn small() -> Option<Ring> {
    match Ring::new(RingOptions { submissions: 8, completions: 16 }) {
        Ok(ring) => Some(ring),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn pipe() -> (OwnedFd, File) {
    let mut ends = [0; 2];
    // SAFETY: `ends` takes two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: both are new and nobody else's.
    unsafe { (OwnedFd::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) }
}

/// Counts how many of it are alive.
struct Alive(Rc<Cell<i32>>);
impl Alive {
    fn new(count: &Rc<Cell<i32>>) -> Alive {
        count.set(count.get() + 1);
        Alive(count.clone())
    }
}
impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

type Reading = (OwnedFd, Box<[u8; 4]>, Alive);

fn read(ring: &Ring, from: OwnedFd, alive: Alive) -> Op<Reading> {
    let keep = (from, Box::new([0; 4]), alive);
    // SAFETY: descriptor and buffer are owned by `keep`.
    unsafe { ring.op(keep, |(fd, buf, _)| opcode::Read::new(types::Fd(fd.as_raw_fd()), buf.as_mut_ptr(), 4).build()) }
}

fn nop(ring: &Ring) -> Op<()> {
    // SAFETY: the entry points at nothing.
    unsafe { ring.op((), |()| opcode::Nop::new().build()) }
}

#[test]
fn an_operation_gives_back_what_it_kept() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, mut to) = pipe();
    let reading = read(&ring, from, Alive::new(&alive));
    to.write_all(b"abcd").expect("a pipe takes four bytes");
    let done = ring.block_on(reading).expect("the ring runs");
    assert_eq!(done.result, 4);
    assert_eq!(*done.keep.1, *b"abcd");
    assert_eq!(alive.get(), 1);
    drop(done);
    assert_eq!((alive.get(), ring.in_flight()), (0, 0));
}

#[test]
fn a_dropped_future_leaves_its_buffer_with_the_ring() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, mut to) = pipe();
    drop(read(&ring, from, Alive::new(&alive)));
    ring.turn().expect("the ring runs");
    assert_eq!((alive.get(), ring.in_flight()), (1, 1), "the kernel still has it");
    to.write_all(b"abcd").expect("a pipe takes four bytes");
    while ring.in_flight() > 0 {
        ring.turn_waiting().expect("the ring runs");
    }
    assert_eq!(alive.get(), 0);
}

#[test]
fn a_full_submission_and_completion_queue_lose_nothing() {
    let Some(ring) = small() else { return };
    let mut all: Vec<_> = (0..500).map(|_| nop(&ring)).collect();
    ring.0.enter(0, true).expect("the ring runs");
    assert_eq!(ring.in_flight(), 500, "16 completions fit, the others wait in the kernel or in memory");
    let mut turns = 0;
    while ring.in_flight() > 0 {
        ring.turn_waiting().expect("the ring runs");
        turns += 1;
        assert!(turns < 1000);
    }
    for op in all.drain(..) {
        assert_eq!(ring.block_on(op).expect("done").result, 0);
    }
}

#[test]
fn a_ring_with_operations_in_flight_cancels_and_waits() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, to) = pipe();
    let reading = read(&ring, from, Alive::new(&alive));
    ring.turn().expect("the ring runs");
    drop(reading);
    let (unsubmitted, other) = pipe();
    drop(read(&ring, unsubmitted, Alive::new(&alive)));
    drop(ring);
    assert_eq!(alive.get(), 0, "both were cancelled, then freed");
    drop((to, other));
}

#[test]
fn shutdown_refuses_what_comes_later() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, to) = pipe();
    let reading = read(&ring, from, Alive::new(&alive));
    ring.shutdown().expect("the ring empties");
    assert_eq!(ring.block_on(reading).expect("done").result, -libc::ECANCELED);
    assert_eq!(ring.block_on(nop(&ring)).expect("done").result, -libc::ECANCELED);
    drop(to);
}

#[test]
fn cancel_ends_a_wait() {
    struct Heard(Cell<Option<Completion>>, OwnedFd);
    impl Owner for Heard {
        fn complete(self: Rc<Self>, tag: u32, done: Completion) {
            assert_eq!(tag, 9);
            self.0.set(Some(done));
        }
    }
    let Some(ring) = small() else { return };
    let (from, to) = pipe();
    let heard = Rc::new(Heard(Cell::new(None), from));
    let poll = opcode::PollAdd::new(types::Fd(heard.1.as_raw_fd()), libc::POLLIN as u32).build();
    // SAFETY: the descriptor is owned by `heard`.
    let ticket = unsafe { ring.push(poll, heard.clone(), 9) };
    ring.turn().expect("the ring runs");
    ring.cancel(ticket);
    while ring.in_flight() > 0 {
        ring.turn_waiting().expect("the ring runs");
    }
    assert_eq!(heard.0.get(), Some(Completion { result: -libc::ECANCELED, flags: 0, last: true }));
    ring.cancel(ticket);
    assert!(ring.turn().expect("the ring runs").is_idle(), "a finished entry is not cancelled");
    drop(to);
}

#[test]
fn the_eventfd_tells_when_to_wake() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, mut to) = pipe();
    let reading = read(&ring, from, Alive::new(&alive));
    ring.turn().expect("the ring runs");
    assert!(ring.arm().expect("the ring runs").is_idle());
    let eventfd = ring.eventfd().expect("a descriptor is left");
    let readable = || {
        let mut poll = libc::pollfd { fd: eventfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry is passed.
        unsafe { libc::poll(&mut poll, 1, 1000) == 1 }
    };
    to.write_all(b"abcd").expect("a pipe takes four bytes");
    assert!(readable());
    ring.disarm();
    assert_eq!(ring.turn().expect("the ring runs").completed, 1);
    assert_eq!(ring.block_on(reading).expect("done").result, 4);
}

#[test]
fn a_descriptor_that_nobody_takes_is_closed() {
    let Some(ring) = small() else { return };
    let (from, mut to) = pipe();
    let name = std::ffi::CString::new(format!("/proc/self/fd/{}", from.as_raw_fd())).expect("no zeros");
    // SAFETY: the name is on the heap, owned by the operation.
    let opening =
        unsafe { ring.op_opening(name, |name| opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), name.as_ptr()).build()) };
    while ring.in_flight() > 0 {
        ring.turn_waiting().expect("the ring runs");
    }
    drop(from);
    assert!(to.write_all(b"a").is_ok(), "the operation holds another reading end");
    drop(opening);
    assert!(to.write_all(b"a").is_err(), "and closed it");
}

#[test]
fn a_wait_is_cancelled_with_its_future() {
    let Some(ring) = small() else { return };
    let alive = Rc::default();
    let (from, to) = pipe();
    let waiting = read(&ring, from, Alive::new(&alive)).cancel_on_drop(&ring);
    ring.turn().expect("the ring runs");
    drop(waiting);
    while ring.in_flight() > 0 {
        ring.turn_waiting().expect("the ring runs");
    }
    assert_eq!(alive.get(), 0);
    drop(to);
}

#[test]
fn a_nap_ends_with_a_completion_or_with_its_time() {
    let Some(ring) = small() else { return };
    let (from, mut to) = pipe();
    let mut reading = Box::pin(read(&ring, from, Alive::new(&Rc::default())));
    let mut context = Context::from_waker(Waker::noop());
    assert!(reading.as_mut().poll(&mut context).is_pending());
    assert_eq!(ring.nap(Duration::from_secs(60)).expect("the ring runs").submitted, 1, "it does not sleep over a push");
    assert!(ring.nap(Duration::from_millis(20)).expect("the ring runs").is_idle(), "nothing has come");
    to.write_all(b"abcd").expect("a pipe takes four bytes");
    while reading.as_mut().poll(&mut context).is_pending() {
        let turn = ring.nap(Duration::from_secs(60)).expect("the ring runs");
        assert!(!turn.is_idle(), "woken by the completion, long before its time");
    }
}
