//! The counters over HTTP, for Prometheus.

use crate::metrics::page;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

/// A scrape takes no longer.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(5);

/// Answers every request with the counters, one connection at a time: there is one who asks.
pub async fn serve(listener: TcpListener, registry: Rc<Registry>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let registry = registry.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            let body = Body(Some(Bytes::from(page(&registry))));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).keep_alive(false);
        let served = timeout(SCRAPE_TIMEOUT, http.serve_connection(TokioIo::new(stream), answer)).await;
        if !matches!(served, Ok(Ok(()))) {
            tracing::debug!("a scrape was not finished");
        }
    }
}

/// A page in one piece.
struct Body(Option<Bytes>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|bytes| Ok(hyper::body::Frame::data(bytes))))
    }
}
