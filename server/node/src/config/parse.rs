//! Texts of flags and of the file that are more than one value.

use crate::config::{ConfigError, Cores, HostChoice, Pin};
use ringkv_wire::ids::{ClusterId, NodeId};
use ringkv_wire::ring::topology::Member;
use std::net::SocketAddr;

/// `auto`, `glommio`, `plain`.
pub fn host(text: &str) -> Result<HostChoice, ConfigError> {
    match text {
        "auto" => Ok(HostChoice::Auto),
        "glommio" => Ok(HostChoice::Glommio),
        "plain" => Ok(HostChoice::Plain),
        other => Err(ConfigError(format!("host {other:?} is none of auto, glommio, plain"))),
    }
}

/// `4`, or `0,2` or `4-7`: a count, or a list of CPUs.
pub fn cores(text: &str) -> Result<Cores, ConfigError> {
    match text.parse::<usize>() {
        Ok(n @ 1..=1024) => Ok(Cores::Count(n)),
        Ok(n) => Err(ConfigError(format!("cores: {n} executor threads, of 1 to 1024"))),
        Err(_) => Ok(Cores::Cpus(cpus("cores", text)?)),
    }
}

/// `auto`, `none`, or a list of CPUs.
pub fn pin(text: &str) -> Result<Pin, ConfigError> {
    match text {
        "auto" => Ok(Pin::Auto),
        "none" => Ok(Pin::None),
        list => Ok(Pin::Cpus(cpus("pin", list)?)),
    }
}

fn cpus(what: &str, text: &str) -> Result<Vec<usize>, ConfigError> {
    let wrong = || ConfigError(format!("{what}: {text:?} is no list of CPUs such as 0,2 or 4-7"));
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= rustix::thread::CpuSet::MAX_CPU {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    let mut sorted = cpus.clone();
    sorted.sort_unstable();
    sorted.dedup();
    if cpus.is_empty() || sorted.len() != cpus.len() {
        return Err(wrong());
    }
    Ok(cpus)
}

/// 32 hex digits, not all zero.
pub fn cluster(text: &str) -> Result<ClusterId, ConfigError> {
    let wrong = || ConfigError(format!("cluster: {text:?} is not 32 hex digits, not all zero"));
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    match u128::from_str_radix(text, 16) {
        Ok(id) if id != 0 => Ok(ClusterId(id.to_be_bytes())),
        _ => Err(wrong()),
    }
}

/// `ID@HOST:PORT[/STORES]`; one store when it does not say.
pub fn member(text: &str) -> Result<Member, ConfigError> {
    let wrong = || ConfigError(format!("member {text:?} is not ID@HOST:PORT[/STORES]"));
    let (id, rest) = text.split_once('@').ok_or_else(wrong)?;
    let (address, stores) = rest.split_once('/').unwrap_or((rest, "1"));
    let address: SocketAddr = address.parse().map_err(|_| wrong())?;
    let stores: u16 = stores.parse().map_err(|_| wrong())?;
    let id: u32 = id.parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
    let stores = store_addresses(address, stores)?;
    Ok(Member { id: NodeId(id), address, weight: 100, rack: String::new(), stores })
}

/// The stores' addresses when nothing else is said: the ports after the common one.
pub fn store_addresses(common: SocketAddr, stores: u16) -> Result<Vec<SocketAddr>, ConfigError> {
    let port = |i| common.port().checked_add(1)?.checked_add(i);
    let addresses: Option<Vec<_>> = (0..stores).map(|i| Some(SocketAddr::new(common.ip(), port(i)?))).collect();
    match addresses {
        Some(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => Err(ConfigError(format!("{common}: {stores} stores do not fit the ports behind it"))),
    }
}
