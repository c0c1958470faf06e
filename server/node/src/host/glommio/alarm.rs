//! Waiting, in glommio, for the ring's eventfd to become readable.

use futures_io::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// How often the ring is looked at while no descriptor is left to wait on.
const BLIND: Duration = Duration::from_millis(1);

/// Wakes a task when a descriptor becomes readable.
///
/// glommio polls descriptors only inside its socket types. A `TcpStream` made over the eventfd polls it as soon as it is made;
/// when that poll fires, the stream tries `recv`, which an eventfd refuses: that error is the signal. The stream is then
/// used up, and the next wait makes another one over another duplicate of the descriptor.
pub(super) struct Alarm {
    eventfd: OwnedFd,
    polled: Option<TcpStream>,
    blind: Option<Timer>,
}

impl Alarm {
    pub fn new(eventfd: OwnedFd) -> Alarm {
        Alarm { eventfd, polled: None, blind: None }
    }

    /// Ready when the eventfd is, or was since the last time, readable. Where no descriptor is left to wait on, ready after a
    /// millisecond, for the caller to look at the ring itself.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.polled.is_none() {
            let Ok(duplicate) = self.eventfd.try_clone() else { return self.wait_blind(cx) };
            // SAFETY: the duplicate is new and handed over; nothing that the stream does to it harms an eventfd.
            self.polled = Some(unsafe { TcpStream::from_raw_fd(duplicate.into_raw_fd()) });
        }
        let Some(stream) = &mut self.polled else { return Poll::Ready(()) };
        let mut byte = [0];
        match Pin::new(stream).poll_read(cx, &mut byte) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.polled = None;
                Poll::Ready(())
            }
        }
    }

    fn wait_blind(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.blind.get_or_insert_with(|| Timer::new(BLIND));
        let over = Pin::new(timer).poll(cx).map(drop);
        if over.is_ready() {
            self.blind = None;
        }
        over
    }
}
