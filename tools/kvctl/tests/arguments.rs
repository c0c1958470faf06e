//! The command line from outside: wrong arguments and absent clusters end soon, with an exit code and a sentence.

use std::process::{Command, Output};

fn kvctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvctl")).args(args).output().expect("kvctl can be started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_arguments_end_with_2_and_say_what_is_wrong() {
    for (args, words) in [
        (vec!["demo", "--replicas", "5"], "5 replicas need as many nodes, there are 3"),
        (vec!["demo", "--nodes", "3", "--replicas", "1"], "fewer than 3 replicas"),
        (vec!["demo", "--input", "no-such-file.tsv"], "no-such-file.tsv"),
        (vec!["demo", "--host", "windows"], "invalid value 'windows'"),
        (vec!["get", "--seeds", "127.0.0.1", "key"], "invalid value '127.0.0.1'"),
        (vec!["get", "key"], "--seeds"),
        (vec!["fly"], "unrecognized subcommand"),
    ] {
        let output = kvctl(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{args:?}: {}", said(&output));
    }
}

#[test]
fn a_cluster_that_does_not_answer_is_told() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = kvctl(&["get", "--seeds", &port.to_string(), "--timeout-ms", "300", "key"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no cluster answers"), "{}", said(&output));
}

#[test]
fn a_folder_with_something_in_it_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "precious").unwrap();
    let output = kvctl(&["demo", "--data-dir", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("is not empty"), "{}", said(&output));
    assert_eq!(std::fs::read(dir.path().join("mine")).unwrap(), b"precious");
}
