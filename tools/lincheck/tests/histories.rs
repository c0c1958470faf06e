//! Canaries: every history under `histories/bad` must be rejected, every one under `histories/good` accepted.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

fn histories(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(folder);
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 15, "{}: {} files", folder.display(), files.len());
    files
}

fn read(file: &Path) -> Vec<lincheck::Op> {
    lincheck::read(BufReader::new(File::open(file).unwrap())).unwrap()
}

#[test]
fn bad_histories_are_rejected() {
    for file in histories("bad") {
        let report = lincheck::check(&read(&file));
        assert!(report.is_wrong(), "{} was accepted", file.display());
    }
}

#[test]
fn good_histories_are_accepted() {
    for file in histories("good") {
        let report = lincheck::check(&read(&file));
        let shown: String = report.findings.iter().map(|f| f.to_string()).collect();
        assert!(report.is_ok(), "{} was rejected:\n{shown}", file.display());
    }
}

#[test]
fn spoilt_histories_are_rejected() {
    let put = |client, value: &str, call, version| lincheck::Op {
        client,
        key: "k".to_owned(),
        kind: lincheck::Kind::Put,
        value: Some(value.to_owned()),
        call,
        ret: Some(call + 5),
        outcome: lincheck::Outcome::Ok,
        version: Some(version),
        shard: Some(1),
    };
    let get = |value: &str, call, version| lincheck::Op { kind: lincheck::Kind::Get, ..put(9, value, call, version) };
    let good = [put(1, "a", 0, 1), get("a", 10, 1), put(2, "b", 20, 2), get("b", 30, 2), put(1, "c", 32, 3)];
    assert!(lincheck::check(&good).is_ok());
    for spoil in lincheck::Spoil::ALL {
        let spoilt = spoil.apply(&good).unwrap();
        assert!(lincheck::check(&spoilt).is_wrong(), "{spoil:?} was accepted: {spoilt:?}");
    }
    assert_eq!(lincheck::Spoil::Stale.apply(&good[..2]), None, "there is nothing older to find");
}

/// Of 600 operations only those that contradict each other are shown.
#[test]
fn the_window_is_small() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories/bad/needle_in_many.jsonl");
    let report = lincheck::check(&read(&file));
    let [lincheck::Finding::NotLinearizable { window, .. }] = &report.findings[..] else {
        panic!("{:?}", report.findings)
    };
    assert!(window.len() <= 3, "{}", report.findings[0]);
    assert!(window.iter().any(|op| op.value.as_deref() == Some("v215")), "{}", report.findings[0]);
}

#[test]
fn broken_lines_are_named() {
    for (text, line) in [
        ("{\"client\":1}", 1),
        ("\n\nnonsense", 3),
        (r#"{"client":1,"key":"k","op":"put","call":0,"return":1,"outcome":"ok"}"#, 1),
        (r#"{"client":1,"key":"k","op":"get","call":5,"return":1,"outcome":"ok"}"#, 1),
        (r#"{"client":1,"key":"k","op":"get","call":5,"outcome":"ok"}"#, 1),
    ] {
        let error = lincheck::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("line {line}: ")), "{text}: {error}");
    }
}
