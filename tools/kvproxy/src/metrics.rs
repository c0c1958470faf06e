//! What the proxy counts, for Prometheus and for `INFO`.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::rc::Rc;

/// A label of one name.
type Labels = [(&'static str, String); 1];

/// The counters. Adds are plain relaxed ones of one thread.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Clients taken in.
    pub connections: Counter,
    /// Clients there are.
    pub clients: Gauge,
    /// Clients turned away since there were too many.
    pub refused: Counter,
    /// Clients cut off, by reason.
    pub cut: Family<Labels, Counter>,
    /// Commands taken.
    pub commands: Counter,
    /// Errors given, by kind: `notapplied`, `unknown`, `other`.
    pub errors: Family<Labels, Counter>,
    /// Bytes from clients.
    pub bytes_in: Counter,
    /// Bytes to clients.
    pub bytes_out: Counter,
    /// Bytes held for clients.
    pub held: Gauge,
    /// Of each Redis server: 1 when it serves its keys.
    pub up: Family<Labels, Gauge>,
    /// Of each Redis server: commands sent.
    pub sent: Family<Labels, Counter>,
    /// Batches sent to the cluster.
    pub batches: Counter,
}

impl Metrics {
    /// New counters, and the registry that shows them.
    pub fn new() -> (Rc<Metrics>, Registry) {
        let metrics = Metrics::default();
        let mut all = Registry::with_prefix("kvproxy");
        all.register("connections", "Clients taken in", metrics.connections.clone());
        all.register("clients", "Clients there are", metrics.clients.clone());
        all.register("refused", "Clients turned away since there were too many", metrics.refused.clone());
        all.register("cut", "Clients cut off, by reason", metrics.cut.clone());
        all.register("commands", "Commands taken", metrics.commands.clone());
        all.register("errors", "Errors given, by kind", metrics.errors.clone());
        all.register("bytes_in", "Bytes from clients", metrics.bytes_in.clone());
        all.register("bytes_out", "Bytes to clients", metrics.bytes_out.clone());
        all.register("held_bytes", "Bytes held for clients", metrics.held.clone());
        all.register("server_up", "1 when a Redis server serves its keys", metrics.up.clone());
        all.register("server_commands", "Commands sent to a Redis server", metrics.sent.clone());
        all.register("batches", "Batches sent to the cluster", metrics.batches.clone());
        (Rc::new(metrics), all)
    }

    /// Counts a client that is cut off.
    pub fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&[("reason", reason.to_owned())]).inc();
    }

    /// Counts an answer, when it is an error.
    pub fn answered(&self, reply: &[u8]) {
        let Some(text) = reply.strip_prefix(b"-") else { return };
        let kind = match () {
            () if text.starts_with(b"NOTAPPLIED ") => "notapplied",
            () if text.starts_with(b"UNKNOWN ") => "unknown",
            () => "other",
        };
        self.errors.get_or_create(&[("kind", kind.to_owned())]).inc();
    }
}

/// The text that Prometheus reads.
pub fn page(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    encode(&mut text, registry).map(|()| text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind() {
        let (metrics, registry) = Metrics::new();
        for reply in [&b"-UNKNOWN x\r\n"[..], b"-NOTAPPLIED x\r\n", b"-ERR x\r\n", b"-WRONGTYPE x\r\n", b"+OK\r\n"] {
            metrics.answered(reply);
        }
        let page = page(&registry);
        for line in [
            "kvproxy_errors_total{kind=\"unknown\"} 1",
            "kvproxy_errors_total{kind=\"notapplied\"} 1",
            "kvproxy_errors_total{kind=\"other\"} 2",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
