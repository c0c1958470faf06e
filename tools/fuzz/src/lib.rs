//! Every decoder of ringkv as a function of arbitrary bytes.
//!
//! A target panics when a property is broken; that is what a fuzzer looks for. Properties: a decoder of outside bytes never
//! panics; what it accepts stands for exactly the bytes it was given (encoding it again gives them back); what is read through
//! checksums is what was written, or an error. Memory: the script `run` forbids single allocations above 64 MiB, so that a
//! stranger's length cannot ask for more.
//!
//! `tests/replay.rs` runs every target over its seeds, over mutations of them, and over `corpus/<target>`, on the stable
//! toolchain. `fuzz/` holds the same targets for cargo-fuzz.

mod edits;
mod resp;
mod sealed;
mod sections;
mod seeds;
mod storage;
mod wire;

pub use seeds::seeds;

/// A decoder under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its corpus folder and of its binary in `fuzz/`.
    pub name: &'static str,
    /// Takes any bytes; panics when a property is broken.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 18] = [
    Target { name: "frame", run: wire::frame },
    Target { name: "hello", run: wire::hello },
    Target { name: "request", run: wire::request },
    Target { name: "reply", run: wire::reply },
    Target { name: "peer", run: wire::peer },
    Target { name: "snapshot", run: wire::snapshot },
    Target { name: "map", run: wire::map },
    Target { name: "operations", run: wire::operations },
    Target { name: "sessions", run: wire::sessions },
    Target { name: "history", run: wire::history },
    Target { name: "log", run: storage::log },
    Target { name: "tree", run: storage::tree },
    Target { name: "sections", run: sections::sections },
    Target { name: "compressed", run: sections::compressed },
    Target { name: "records", run: storage::records },
    Target { name: "tables", run: sealed::tables },
    Target { name: "manifest", run: sealed::manifest },
    Target { name: "resp", run: resp::resp },
];

/// Runs the target called `name`.
///
/// # Panics
/// When there is none, or when it finds something.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(bytes);
}
