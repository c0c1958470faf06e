//! Which core runs which stores, where, and with how much: pure decisions of the boot.

use crate::config::{Config, ConfigError, Cores, HostChoice, Pin};
use crate::host::HostKind;
use crate::host::core::Limits;
use crate::probe::Probes;
use ringkv_wire::ring::topology::Member;

/// Locked memory that an executor on io_uring asks for, bytes; and the least it works with.
const RING_BYTES: u64 = 2 << 20;
const RING_BYTES_MIN: u64 = 512 << 10;
/// Descriptors kept back for files, links between stores, administrators.
const DESCRIPTORS_RESERVED: u64 = 512;

/// One executor thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorePlan {
    /// The CPU it is bound to.
    pub cpu: Option<usize>,
    /// Its stores.
    pub stores: Vec<u16>,
}

/// How many executor threads the configuration asks for.
pub fn wanted_cores(config: &Config, allowed: &[usize]) -> usize {
    match &config.cores {
        Some(Cores::Count(n)) => *n,
        Some(Cores::Cpus(cpus)) => cpus.len(),
        None => allowed.len(),
    }
}

/// Spreads `stores` stores over the cores. Cores that would have none are left out.
pub fn cores(config: &Config, stores: u16, allowed: &[usize]) -> Result<Vec<CorePlan>, ConfigError> {
    let count = wanted_cores(config, allowed).clamp(1, usize::from(stores).max(1));
    let cpus = match (&config.pin, &config.cores) {
        (Pin::None, _) => Vec::new(),
        (Pin::Cpus(cpus), _) | (Pin::Auto, Some(Cores::Cpus(cpus))) => {
            if cpus.len() < count {
                return Err(ConfigError(format!("pin: {} CPUs for {count} executor threads", cpus.len())));
            }
            if let Some(cpu) = cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(ConfigError(format!("CPU {cpu} is not among those this process may use: {allowed:?}")));
            }
            cpus.clone()
        }
        (Pin::Auto, _) if count <= allowed.len() => allowed.to_vec(),
        (Pin::Auto, _) => Vec::new(),
    };
    let on = |core: usize| (0..stores).filter(|store| usize::from(*store) % count == core).collect();
    Ok((0..count).map(|core| CorePlan { cpu: cpus.get(core).copied(), stores: on(core) }).collect())
}

/// The locked memory that each executor on io_uring may have: the user's limit is shared by all nodes of this machine that
/// run under it, told by their addresses.
pub fn ring_bytes(probes: &Probes, members: &[Member], own: &Member, executors: usize) -> u64 {
    let Some(limit) = probes.lockable_bytes else { return RING_BYTES };
    let neighbours = members.iter().filter(|m| m.address.ip() == own.address.ip()).count().max(1);
    (limit / (neighbours * executors.max(1)) as u64).min(RING_BYTES)
}

/// The host that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Which.
    pub kind: HostKind,
    /// Why it is not the fastest, when nobody asked for this one.
    pub because: Option<String>,
    /// A core that cannot start on it may start on the plain one.
    pub may_fall_back: bool,
}

impl std::fmt::Display for HostPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.because {
            None => write!(f, "{}", self.kind),
            Some(because) => write!(f, "{} because {because}", self.kind),
        }
    }
}

/// Picks the host; an error when what was asked for cannot be.
pub fn host(choice: HostChoice, probes: &Probes, ring_bytes: u64) -> Result<HostPlan, ConfigError> {
    let fast = match &probes.ring {
        Err(_) => Err("io_uring is refused".to_owned()),
        Ok(()) if ring_bytes < RING_BYTES_MIN => {
            Err(format!("each executor could lock {} KiB and takes {}", ring_bytes >> 10, RING_BYTES_MIN >> 10))
        }
        Ok(()) => Ok(HostKind::Glommio),
    };
    let (kind, because) = match (choice, fast) {
        (HostChoice::Plain, _) => (HostKind::Plain, None),
        (HostChoice::Auto, Err(because)) => (HostKind::Plain, Some(because)),
        (HostChoice::Auto | HostChoice::Glommio, Ok(kind)) => (kind, None),
        (HostChoice::Glommio, Err(e)) => {
            return Err(ConfigError(format!("host glommio cannot be: {e} ({probes}); --host plain always works")));
        }
    };
    Ok(HostPlan { kind, because, may_fall_back: choice == HostChoice::Auto && kind != HostKind::Plain })
}

/// Bounds of each store's connections, by the open files this process may have.
pub fn limits(open_files: u64, stores: u16) -> Limits {
    let each = open_files.saturating_sub(DESCRIPTORS_RESERVED) / u64::from(stores.max(1));
    let limits = Limits::default();
    let fit = |n: usize| usize::try_from(each / 2).unwrap_or(n).clamp(16, n);
    Limits { silent_max: fit(limits.silent_max), clients_max: fit(limits.clients_max), ..limits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn config(args: &str) -> Config {
        let base = "kvnode --data-dir /nowhere --listen 127.0.0.1:7000 --node-id 1 ";
        let args = format!("{base}{args}");
        Config::load(crate::config::Flags::try_parse_from(args.split_whitespace()).unwrap()).unwrap()
    }

    fn plan(args: &str, stores: u16, allowed: &[usize]) -> Vec<(Option<usize>, Vec<u16>)> {
        let plans = cores(&config(args), stores, allowed).unwrap();
        plans.into_iter().map(|p| (p.cpu, p.stores)).collect()
    }

    #[test]
    fn stores_are_spread_over_any_number_of_cores() {
        assert_eq!(plan("", 2, &[0, 1]), [(Some(0), vec![0]), (Some(1), vec![1])]);
        assert_eq!(plan("--cores 1", 4, &[3, 5]), [(Some(3), vec![0, 1, 2, 3])]);
        assert_eq!(plan("--cores 2", 3, &[0, 1]), [(Some(0), vec![0, 2]), (Some(1), vec![1])]);
        // New cores stay empty until a store is added: they are not started.
        assert_eq!(plan("--cores 4", 2, &[0, 1]).len(), 2);
    }

    #[test]
    fn pinning() {
        assert_eq!(plan("--pin none", 2, &[0, 1]), [(None, vec![0]), (None, vec![1])]);
        assert_eq!(plan("--pin 1,0", 2, &[0, 1]), [(Some(1), vec![0]), (Some(0), vec![1])]);
        assert_eq!(plan("--cores 1,", 2, &[0, 1]), [(Some(1), vec![0, 1])]);
        // More executors than CPUs: not pinned.
        assert_eq!(plan("--cores 2", 2, &[0]), [(None, vec![0]), (None, vec![1])]);
        assert!(cores(&config("--pin 1"), 2, &[0, 1]).is_err());
        assert!(cores(&config("--pin 7"), 1, &[0, 1]).is_err());
    }

    #[test]
    fn locked_memory_is_shared_by_the_nodes_of_a_machine() {
        let member = |id: u32, ip: &str| Member {
            id: ringkv_wire::ids::NodeId(id),
            address: format!("{ip}:7000").parse().unwrap(),
            weight: 100,
            rack: String::new(),
            stores: Vec::new(),
        };
        let members = [member(1, "127.0.0.1"), member(2, "127.0.0.1"), member(3, "10.0.0.1")];
        let probes = |lockable_bytes| Probes { ring: Ok(()), direct: true, lockable_bytes };
        assert_eq!(ring_bytes(&probes(None), &members, &members[0], 2), RING_BYTES);
        assert_eq!(ring_bytes(&probes(Some(8 << 20)), &members, &members[0], 2), 2 << 20);
        assert_eq!(ring_bytes(&probes(Some(2 << 20)), &members, &members[0], 2), 512 << 10);
        let scarce = host(HostChoice::Auto, &probes(Some(64 << 10)), 64 << 10).unwrap();
        assert_eq!(scarce.kind, HostKind::Plain);
        assert!(scarce.to_string().contains("because each executor could lock 64 KiB"), "{scarce}");
        assert!(host(HostChoice::Glommio, &probes(Some(64 << 10)), 64 << 10).is_err());
        let forbidden = Probes { ring: Err("EPERM".into()), ..probes(None) };
        assert_eq!(host(HostChoice::Auto, &forbidden, RING_BYTES).unwrap().kind, HostKind::Plain);
        assert!(host(HostChoice::Glommio, &forbidden, RING_BYTES).unwrap_err().to_string().contains("EPERM"));
    }

    #[test]
    fn few_descriptors_mean_few_clients() {
        assert_eq!(limits(1 << 20, 1).clients_max, Limits::default().clients_max);
        assert_eq!(limits(1024, 2).clients_max, 128);
        assert_eq!(limits(100, 2).clients_max, 16);
    }
}
