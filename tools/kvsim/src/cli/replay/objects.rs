//! What is followed, for scripts.

use kvsim::sim::virtual_now_ns;
use serde_json::{Map, Value};
use std::fmt;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Each event as one JSON object on a line.
pub struct Objects;

impl<S, N> FormatEvent<S, N> for Objects
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut w: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut set = |name: &str, value: Value| fields.0.insert(name.to_owned(), value);
        set("at_ns", virtual_now_ns().into());
        set("level", event.metadata().level().as_str().into());
        set("target", event.metadata().target().into());
        writeln!(w, "{}", Value::Object(fields.0))
    }
}

struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, PoisonError};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn events_become_objects() {
        let page = Page::default();
        let copy = page.clone();
        let told = tracing_subscriber::fmt().with_writer(move || copy.clone()).event_format(Objects).finish();
        tracing::subscriber::with_default(told, || {
            tracing::info!(target: "kvsim", index = 7_u64, store = %"n1/0", text = "\"", "two\nlines");
        });
        let bytes = page.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let found: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let wanted = serde_json::json!({
            "at_ns": 0, "level": "INFO", "target": "kvsim", "message": "two\nlines", "index": 7, "store": "n1/0", "text": "\""
        });
        assert_eq!(found, wanted);
    }
}
