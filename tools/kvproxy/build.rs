//! Finds out which clients and servers of Redis are installed, so that tests which need one that is not are counted as
//! ignored instead of passing without a test.

use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(have_redis, have_python_redis, have_ioredis)");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let ioredis = Path::new(&manifest).join("../../target/peers/node_modules/ioredis");
    // What is not there is looked for again in every build.
    for path in ["/usr/bin/redis-server", "/usr/lib/python3/dist-packages/redis", "build.rs"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-changed={}", ioredis.display());
    let redis = ["redis-server", "redis-cli", "redis-benchmark"];
    if redis.iter().all(|name| runs(name, &["--version"])) {
        println!("cargo::rustc-cfg=have_redis");
    }
    if runs("/usr/bin/python3", &["-c", "import redis, hiredis"]) {
        println!("cargo::rustc-cfg=have_python_redis");
    }
    if ioredis.is_dir() && runs("node", &["--version"]) {
        println!("cargo::rustc-cfg=have_ioredis");
    }
}

fn runs(program: &str, args: &[&str]) -> bool {
    let status =
        Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
