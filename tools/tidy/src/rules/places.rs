//! Traces of the machine on which something was built: absolute paths, registry hosts, a lock file that points elsewhere.

use crate::{Finding, Tree};

/// Folders of somebody's machine. In halves, so that this file does not name them.
const PATHS: [&str; 4] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];
/// Hosts of package registries: which one serves a build is its machine's matter.
const HOSTS: [&str; 7] = [
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org"),
    concat!("registry.npmjs", ".org"),
    concat!("deb.debian", ".org"),
    concat!("archive.ubuntu", ".com"),
    concat!("proxy.golang", ".org"),
];
/// The only source that Cargo.lock may name: cargo's own word for its default registry.
const LOCK_SOURCE: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if file.path == "Cargo.lock" {
            let sources = file.text.lines().filter_map(|line| line.strip_prefix("source = "));
            if let Some(other) = sources.map(|source| source.trim_matches('"')).find(|source| *source != LOCK_SOURCE) {
                findings.push(Finding::whole(&file.path, format!("a package from elsewhere: {other}")));
            }
            continue;
        }
        for path in PATHS {
            for (offset, _) in file.text.match_indices(path) {
                let before = offset.checked_sub(1).and_then(|at| file.text.as_bytes().get(at)).copied();
                if !before.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"_-.$})".contains(&byte)) {
                    findings.push(Finding::new(file, offset, format!("`{path}`: a path of somebody's machine")));
                }
            }
        }
        for host in HOSTS {
            for (offset, _) in file.text.match_indices(host) {
                findings.push(Finding::new(file, offset, format!("`{host}`: the host of a package registry")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canary_paths_and_hosts() {
        for path in PATHS {
            assert_eq!(check(&Tree::of(&[("a.md", &format!("see {path}x"))])).len(), 1, "{path}");
            assert_eq!(check(&Tree::of(&[("a.md", &format!("see target{path}x"))])).len(), 0, "{path}");
        }
        for host in HOSTS {
            assert_eq!(check(&Tree::of(&[("a.sh", &format!("https://{host}/x"))])).len(), 1, "{host}");
        }
    }

    #[test]
    fn canary_lock_file() {
        let lock = |source: &str| check(&Tree::of(&[("Cargo.lock", &format!("source = \"{source}\"\n"))])).len();
        assert_eq!(lock(LOCK_SOURCE), 0);
        assert_eq!(lock("registry+https://mirror.example/index"), 1);
    }
}
