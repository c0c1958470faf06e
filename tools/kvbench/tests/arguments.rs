//! The command line from outside.

use std::process::Command;

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_wrong() {
    for (args, words) in [
        (vec![], "--seeds"),
        (vec!["--seeds", "127.0.0.1:1", "--batch", "0"], "batch must be at least 1"),
        (vec!["--seeds", "127.0.0.1:1", "--tasks", "0"], "tasks must be at least 1"),
        (vec!["--seeds", "127.0.0.1:1", "--clients", "0"], "at least 1"),
        (vec!["--seeds", "127.0.0.1:1", "--value-bytes", "99999999"], "value-bytes is 99999999"),
        (vec!["--seeds", "127.0.0.1:1", "--distribution", "zipfian", "--theta", "0"], "theta"),
        (vec!["--seeds", "127.0.0.1:1", "--seconds", "0"], "seconds"),
        (vec!["--seeds", "127.0.0.1:1", "--timeout-ms", "200"], "connecting to the cluster"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kvbench")).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
