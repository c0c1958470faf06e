//! The ringkv server.

use clap::Parser;
use kvnode::boot;
use kvnode::config::{Config, Flags};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    die_of_panics();
    let served = Config::load(flags).map_err(boot::NodeError::from).and_then(boot::run);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            tracing::error!("{e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// A panic is a bug, and what it leaves behind in memory is not to be trusted: the process ends, recovery at the next start
/// begins from what is on disk.
fn die_of_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        tracing::error!("a panic in thread {:?}: ending", std::thread::current().name().unwrap_or("?"));
        std::process::abort();
    }));
}
