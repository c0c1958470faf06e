//! Work of a disk that goes on while whoever wants it does something else.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Work that has begun. Dropped, it is as any dropped future of a disk.
pub(crate) enum Started<T> {
    Going(Pin<Box<dyn Future<Output = T>>>),
    Done(T),
}

impl<T: 'static> Started<T> {
    /// Begins it: the disk hears of it now.
    pub async fn begin(work: impl Future<Output = T> + 'static) -> Started<T> {
        let mut work: Pin<Box<dyn Future<Output = T>>> = Box::pin(work);
        match poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
            Poll::Ready(output) => Started::Done(output),
            Poll::Pending => Started::Going(work),
        }
    }

    /// What it comes to.
    pub async fn end(self) -> T {
        match self {
            Started::Going(work) => work.await,
            Started::Done(output) => output,
        }
    }
}
