//! The command: what a script reads of it.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::path::Path;
use std::process::Command;

/// Exit code and the JSON line of a judgement.
fn judged(history: &str) -> (i32, serde_json::Value) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories").join(history);
    let output = Command::new(env!("CARGO_BIN_EXE_lincheck")).arg("--json").arg(&file).output().unwrap();
    let line = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), line)
}

#[test]
fn code_and_json_say_the_same() {
    let (code, line) = judged("bad/lost_update.jsonl");
    assert_eq!((code, &line["verdict"]), (1, &"wrong".into()));
    assert!(line["findings"][0].as_str().unwrap().contains("linearizable"), "{line}");
    let good =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("histories/good").read_dir().unwrap().next().unwrap().unwrap();
    let (code, line) = judged(&format!("good/{}", good.file_name().to_string_lossy()));
    assert_eq!((code, &line["verdict"]), (0, &"ok".into()));
    assert_eq!(line["findings"].as_array().map(Vec::len), Some(0));
    assert_eq!(judged("none/such.jsonl"), (2, serde_json::Value::Null));
}
