//! Raft by scripts: each `tests/scripts/*.txt` drives a few replicas by hand and holds what they said and did. Lines that
//! begin with `> ` are commands, `#` comments; everything else is golden output. `RINGKV_REWRITE=1` writes it anew.

use crate::driver;
use std::path::PathBuf;

#[test]
fn scripts_say_what_they_said() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "scripts are missing");
    let mut wrong = Vec::new();
    for path in paths {
        let golden = std::fs::read_to_string(&path).expect("a script");
        let now = driver::run(&golden);
        if now == golden {
            continue;
        }
        if std::env::var_os("RINGKV_REWRITE").is_some() {
            std::fs::write(&path, now).expect("to write the script");
            continue;
        }
        let line = now.lines().zip(golden.lines()).position(|(a, b)| a != b).unwrap_or(0);
        let (got, expected) = (now.lines().nth(line), golden.lines().nth(line));
        wrong.push(format!("{}:{}: expected {expected:?}, got {got:?}", path.display(), line + 1));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
