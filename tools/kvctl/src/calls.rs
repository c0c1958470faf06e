//! One call from the command line.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ringkv::Client;

use crate::ClusterArgs;

/// A client of the cluster that the arguments name.
pub async fn connect(args: &ClusterArgs) -> anyhow::Result<Client> {
    let builder = Client::builder().seeds(args.seeds.iter().copied()).keyspace(args.keyspace.as_str());
    let timeout = Duration::from_millis(args.timeout_ms);
    let client = builder.connect_timeout(timeout).call_timeout(timeout).connect().await;
    client.with_context(|| format!("no cluster answers at {:?}", args.seeds))
}

/// Prints a value, with a newline behind it only for a terminal.
pub async fn get(args: &ClusterArgs, key: String) -> anyhow::Result<ExitCode> {
    let Some(value) = connect(args).await?.get(key).await? else {
        eprintln!("kvctl: absent");
        return Ok(ExitCode::from(1));
    };
    let mut out = io::stdout().lock();
    out.write_all(&value.value)?;
    if io::stdout().is_terminal() {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Sets a key.
pub async fn put(args: &ClusterArgs, key: String, value: String) -> anyhow::Result<ExitCode> {
    let value = match value.as_str() {
        "-" => {
            let mut bytes = Vec::new();
            io::stdin().lock().read_to_end(&mut bytes).context("reading the value from standard input")?;
            bytes
        }
        _ => value.into_bytes(),
    };
    let written = connect(args).await?.put(key, value).await?;
    crate::say(format_args!("written, version {}", written.version));
    Ok(ExitCode::SUCCESS)
}

/// Removes a key.
pub async fn delete(args: &ClusterArgs, key: String) -> anyhow::Result<ExitCode> {
    let written = connect(args).await?.delete(key).await?;
    crate::say(format_args!("gone, version {}", written.version));
    Ok(ExitCode::SUCCESS)
}
