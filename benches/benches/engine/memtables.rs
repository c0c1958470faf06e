//! The measurement behind the choice of the memtable: what maps in order take for a put, a get, a walk as a flush makes
//! it and a seek for a scan, beside the product's hash index, which makes the order when somebody asks for it.

mod maps;
mod product;

use crate::Bench;
use crate::data::{Key, VALUE_BYTES, Values, keys, present, shuffled};
use crate::report::Asked;
use bytes::Bytes;
use product::Product;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

const ENTRIES: u64 = 1_000_000;
/// Keys of one call.
const BATCH: usize = 64;

/// Something that may be a memtable. Each writes what it copies over what is in `out`.
trait Candidate {
    /// How many seeks give a figure: few where one makes the whole order.
    const SEEKS: usize = 10_000;
    fn put(&mut self, version: u64, key: &Key, value: Bytes);
    /// Copies the value of a key that is there.
    fn get(&self, key: &Key, out: &mut Vec<u8>);
    /// As [`Candidate::get`] for many keys.
    fn get_batch(&self, keys: &[Key], out: &mut Vec<u8>) {
        keys.iter().for_each(|key| self.get(key, out));
    }
    /// Copies all entries, in order, one after the other. How many there were.
    fn walk(&self, out: &mut Vec<u8>) -> usize;
    /// Copies the first entry from `key` on.
    fn seek(&self, key: &Key, out: &mut Vec<u8>);
}

/// Runs the scenario.
pub fn run(bench: &mut Bench) {
    bench.report.begin("memtables");
    measure(bench, "BTreeMap, keys of any length", BTreeMap::<Vec<u8>, maps::Entry>::new());
    measure(bench, "BTreeMap, keys of 16 bytes", BTreeMap::<Key, maps::Entry>::new());
    #[cfg(feature = "peers")]
    measure(bench, "radix tree (blart), keys of 16 bytes", blart::TreeMap::<Key, maps::Entry>::new());
    let product = measure(bench, "ringkv", Product::new());
    product.flush(bench);
    bench.report.note("ringkv: a seek is the first step of a walk, and that step makes the order of all keys");
}

fn measure<C: Candidate>(bench: &mut Bench, name: &str, mut candidate: C) -> C {
    let entries = bench.scaled(ENTRIES);
    let (values, mut out) = (Values::new(), Vec::with_capacity(2 * VALUE_BYTES));
    let written = keys(&shuffled(entries, 1), present);
    let put = each(entries, || {
        for (key, version) in written.iter().zip(1..) {
            candidate.put(version, key, values.of(version, 0));
        }
    });
    let wanted = keys(&shuffled(entries, 2), present);
    let get = each(entries, || wanted.iter().for_each(|key| candidate.get(key, &mut out)));
    let batch = each(entries, || wanted.chunks(BATCH).for_each(|batch| candidate.get_batch(batch, &mut out)));
    // From here on it is frozen, where that makes a difference.
    let walk = each(entries, || assert_eq!(candidate.walk(&mut out) as u64, entries));
    let sought = &wanted[..C::SEEKS.min(wanted.len())];
    let seek = each(sought.len() as u64, || sought.iter().for_each(|key| candidate.seek(key, &mut out)));
    let told = [("put", put), ("get", get), ("get, 64 at once", batch), ("walk in order, a key", walk), ("seek", seek)];
    for (what, took) in told {
        bench.report.row(format!("{name}: {what}"), Asked::Nothing, took.as_nanos() as f64, "ns");
    }
    candidate
}

/// What one of `count` takes.
fn each(count: u64, work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    Duration::from_nanos((begun.elapsed().as_nanos() / u128::from(count)) as u64)
}

/// Copies an entry over what is in `out`.
fn copy(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    black_box(&out);
}
