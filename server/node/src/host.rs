//! The hosts: what runs a core's stores on this machine. The one place that knows which hosts there are.
//!
//! A host is chosen at boot and then is a type: [`start`] matches on [`HostKind`] once per core, everything behind it is
//! generic over [`Host`].

pub mod core;
pub mod glommio;
pub mod mailbox;
mod outbox;
pub mod plain;
mod socket;

use crate::host::core::{CoreConfig, Ended, Tenant};
use std::io;
use std::thread::JoinHandle;

#[cfg(doc)]
use ringkv_shard::host::Host;

/// The hosts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// epoll and a helper thread for the disk.
    Plain,
    /// One glommio executor per core and one io_uring ring in it.
    Glommio,
}

impl std::fmt::Display for HostKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HostKind::Plain => "plain",
            HostKind::Glommio => "glommio",
        })
    }
}

/// Starts a core's thread on the chosen host. It ends when all its stores have.
pub fn start<T: Tenant>(
    kind: HostKind,
    core: CoreConfig,
    tenant: T,
    ended: tokio::sync::mpsc::UnboundedSender<Ended>,
) -> io::Result<JoinHandle<()>> {
    match kind {
        HostKind::Plain => plain::start(core, tenant, ended),
        HostKind::Glommio => glommio::start(core, tenant, ended),
    }
}
