//! All targets in one binary, so that it is built once: `DECODER` names the one to fuzz.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<decoders::Target> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("DECODER").expect("DECODER names a target");
        decoders::TARGETS.into_iter().find(|target| target.name == name).expect("a target of this name")
    });
    (target.run)(bytes);
});
