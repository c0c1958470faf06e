//! Imports across crate boundaries, as ARCHITECTURE.md's table has them.

use crate::modules::{reached, test_ranges};
use crate::paths::paths;
use crate::tree::File;
use crate::{Finding, Tree};

/// Our own crates: folder, the name that code uses, those that it may import, those that its tests may import besides.
const CRATES: [(&str, &str, &[&str], &[&str]); 7] = [
    ("wire", "ringkv_wire", &[], &[]),
    ("storage", "ringkv_storage", &["ringkv_wire"], &[]),
    ("server/core", "ringkv_core", &["ringkv_wire"], &[]),
    ("server/shard", "ringkv_shard", &["ringkv_wire", "ringkv_storage", "ringkv_core"], &["ringkv_session"]),
    (
        "server/node",
        "kvnode",
        &["ringkv_wire", "ringkv_storage", "ringkv_core", "ringkv_shard"],
        &["ringkv", "ringkv_session", "lincheck"],
    ),
    ("client/session", "ringkv_session", &["ringkv_wire"], &[]),
    ("client", "ringkv", &["ringkv_wire", "ringkv_session"], &[]),
];
/// Every name of ours that an import can begin with. Tools and benches may import all but the node.
const OURS: [&str; 8] =
    ["ringkv_wire", "ringkv_storage", "ringkv_core", "ringkv_shard", "ringkv_session", "ringkv", "kvnode", "kvsim"];

/// Paths that some folders may not name outside their tests.
struct Outside {
    folders: &'static [&'static str],
    except: &'static [&'static str],
    banned: &'static [&'static str],
    why: &'static str,
}

const PURE: &[&str] = &["wire", "storage", "server/core", "server/shard", "client/session"];
const DISKS: &[&str] = &["storage/src/disk", "storage/src/db"];

const OUTSIDE: [Outside; 7] = [
    Outside {
        folders: &[""],
        except: &["server/node/src/host/glommio"],
        banned: &["glommio"],
        why: "only host/glommio names glommio",
    },
    // Its examples are programs of users.
    Outside { folders: PURE, except: &["storage/examples"], banned: &["tokio"], why: "this crate knows no runtime" },
    Outside {
        folders: &["wire", "server/core", "client/session", "server/shard"],
        except: &[],
        banned: &[
            "std::fs",
            "std::thread",
            "std::process",
            "std::net::TcpStream",
            "std::net::TcpListener",
            "std::net::UdpSocket",
        ],
        why: "this crate does no I/O and starts no threads",
    },
    Outside {
        folders: &["storage"],
        // Its examples are programs of users.
        except: &["storage/src/disk", "storage/src/db", "storage/examples"],
        banned: &["std::fs", "std::thread", "std::net", "io_uring", "rustix", "libc"],
        why: "the engine sees the world only through `Disk`",
    },
    Outside {
        folders: &["storage"],
        // Memory of its own, not a file's; and the log of the embedded database, which is a mapping.
        except: &["storage/src/disk", "storage/src/memory.rs", "storage/src/db/log"],
        banned: &["memmap2"],
        why: "files are mapped by the disks and by the mapped log",
    },
    Outside {
        folders: PURE,
        except: DISKS,
        banned: &["std::time::Instant", "std::time::SystemTime", "rand::rng", "rand::random", "rand::thread_rng"],
        why: "time and chance are arguments",
    },
    Outside {
        folders: &["client", "tools", "benches"],
        except: &[],
        banned: &["io_uring"],
        why: "the ring belongs to storage and node",
    },
];

pub fn check(tree: &Tree) -> Vec<Finding> {
    let reached = reached(tree);
    let mut findings = Vec::new();
    for file in tree.rust() {
        let test = reached.get(&file.path).copied().unwrap_or(false);
        check_file(file, test, &mut findings);
    }
    for file in tree.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        check_manifest(file, &mut findings);
    }
    findings
}

fn check_file(file: &File, test_file: bool, findings: &mut Vec<Finding>) {
    let tests = test_ranges(file);
    for named in paths(&file.code) {
        let test = test_file || tests.iter().any(|range| range.contains(&named.offset));
        let first = named.path.split("::").next().unwrap_or_default();
        if file.code.contains(&format!("mod {first}")) {
            continue; // a module of this file under the same name
        }
        if OURS.contains(&first) && !may_import(&file.path, first, test) {
            findings.push(Finding::new(
                file,
                named.offset,
                format!("`{first}` may not be imported here (ARCHITECTURE.md)"),
            ));
        }
        for rule in OUTSIDE {
            let here = rule.folders.iter().any(|folder| is_in(&file.path, folder));
            let excepted = rule.except.iter().any(|except| file.path.starts_with(except));
            let hit = rule.banned.iter().find(|path| named.is_under(path));
            if let Some(path) = hit.filter(|_| here && !excepted && !test) {
                findings.push(Finding::new(file, named.offset, format!("`{path}`: {}", rule.why)));
            }
        }
    }
}

/// The dependencies that a manifest names obey the same table.
fn check_manifest(file: &File, findings: &mut Vec<Finding>) {
    let mut section = "";
    for line in file.text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let test = section.starts_with("dev-dependencies");
        if !test && !section.starts_with("dependencies") && !section.starts_with("target.") {
            continue;
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default().replace('-', "_");
        if OURS.contains(&name.as_str()) && !may_import(&file.path, &name, test) {
            let what = format!("may not depend on `{name}` (ARCHITECTURE.md)");
            findings.push(Finding::whole(&file.path, what));
        }
        if name == "glommio" && !is_in(&file.path, "server/node") {
            findings.push(Finding::whole(&file.path, "only server/node depends on glommio"));
        }
    }
}

fn may_import(path: &str, name: &str, test: bool) -> bool {
    // `client/session` lies inside `client`: the deepest folder decides.
    let home = CRATES.iter().filter(|(folder, ..)| is_in(path, folder)).max_by_key(|(folder, ..)| folder.len());
    match home {
        Some((_, own, allowed, in_tests)) => {
            *own == name || allowed.contains(&name) || (test && in_tests.contains(&name))
        }
        None => name != "kvnode",
    }
}

fn is_in(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn canary_our_own_crates() {
        assert_eq!(found("wire/src/lib.rs", "use ringkv_storage::Log;"), 1);
        assert_eq!(found("wire/src/lib.rs", "fn f() { ringkv_core::raft::x() }"), 1);
        assert_eq!(found("client/session/src/lib.rs", "use ringkv::Client;"), 1);
        assert_eq!(found("client/src/lib.rs", "use {ringkv_session::S, ringkv_shard::T};"), 1);
        assert_eq!(found("tools/kvctl/src/main.rs", "use kvnode::Config;"), 1);
        assert_eq!(found("storage/src/lib.rs", "use ringkv_wire::ids;"), 0);
        assert_eq!(found("server/node/src/main.rs", "use ringkv::Client;"), 1);
        assert_eq!(found("server/node/src/main.rs", "#[cfg(test)]\nmod tests { use ringkv::Client; }"), 0);
    }

    #[test]
    fn canary_runtimes_and_the_world() {
        assert_eq!(found("server/node/src/boot.rs", "use glommio::LocalExecutor;"), 1);
        assert_eq!(found("server/node/src/host/glommio/net.rs", "use glommio::LocalExecutor;"), 0);
        assert_eq!(found("server/node/src/host.rs", "pub mod glommio;\nuse glommio::GlommioHost;"), 0);
        assert_eq!(found("server/shard/src/store.rs", "fn f() { tokio::spawn(async {}); }"), 1);
        assert_eq!(found("server/core/src/raft.rs", "use std::{collections::BTreeMap, time::Instant};"), 1);
        assert_eq!(found("storage/src/wal.rs", "use std::fs;"), 1);
        assert_eq!(found("storage/src/disk/plain.rs", "use std::fs;"), 0);
        assert_eq!(found("storage/src/wal.rs", "#[cfg(test)]\nmod tests { use std::fs; }"), 0);
    }

    #[test]
    fn canary_manifests() {
        assert_eq!(found("wire/Cargo.toml", "[dependencies]\nringkv-storage.workspace = true"), 1);
        assert_eq!(found("client/Cargo.toml", "[dev-dependencies]\nringkv-shard = { path = \"x\" }"), 1);
        assert_eq!(
            found("tools/kvsim/Cargo.toml", "[dependencies]\nglommio = \"1\"\nringkv-shard.workspace = true"),
            1
        );
    }
}
