//! The command line from outside.
#![expect(clippy::unwrap_used, reason = "a test may end by a panic")]

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
        (vec!["--seeds", "127.0.0.1:1", "--distribution", "hotspot", "--hot-keys", "2"], "hot-keys"),
        (vec!["--seeds", "127.0.0.1:1", "--rate", "0"], "rates must be at least 1"),
        (vec!["--seeds", "127.0.0.1:1", "--timeout-ms", "200"], "connecting to the cluster"),
        (vec!["--target", "redis://127.0.0.1:1", "--timeout-ms", "200"], "connecting to Redis"),
        (vec!["--target", "carrier-pigeon://loft"], "what is carrier-pigeon://loft?"),
        (vec!["--target", "nothing", "--tasks", "2", "--threads", "3"], "2 tasks for 3 threads"),
        (vec!["--target", "nothing", "--pin", "99999"], "there is no CPU 99999"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kvbench")).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}

fn measured(args: &[&str]) -> (Option<i32>, String, serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvbench"));
    command.args(["--target", "nothing", "--keys", "1000", "--json", "run.json"]).args(args).current_dir(dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let json = std::fs::read(dir.path().join("run.json"));
    let json = json.unwrap_or_else(|_| panic!("{args:?}: no report: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said, serde_json::from_slice(&json).unwrap())
}

#[test]
fn every_kind_of_work_goes_well_on_nothing() {
    let kinds = ["load", "get", "put", "delete", "mixed", "ycsb-a", "ycsb-b", "ycsb-c", "ycsb-d", "ycsb-f", "verify"];
    let settings =
        [vec![], vec!["--batch", "16"], vec!["--threads", "2"], vec!["--rate", "1m"], vec!["--history", "h"]];
    for setting in settings {
        let args: Vec<&str> = kinds.into_iter().chain(["--ops", "3000"]).chain(setting).collect();
        let (code, said, json) = measured(&args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
        let phases = json["phases"].as_array().unwrap();
        assert_eq!(phases.iter().map(|phase| phase["phase"].as_str().unwrap()).collect::<Vec<_>>(), kinds);
        for phase in phases {
            let least = if phase["phase"] == "mixed" { 1 } else { 1_000 };
            assert!(phase["keys"].as_u64().unwrap() >= least, "{args:?}: {phase}");
        }
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_tells_of_each_second() {
    let (code, said, json) = measured(&["get", "--rate", "2k", "--seconds", "2.2", "--warmup", "0", "--per-second"]);
    assert_eq!(code, Some(0), "{said}");
    let phase = &json["phases"][0];
    assert_eq!(phase["keys"], 4_400, "as many as were due: {phase}");
    assert_eq!(phase["offered_keys_per_s"], 2_000.0);
    assert!(phase["late_us"]["p50"].is_f64());
    assert!(phase["per_second"].as_array().unwrap().len() >= 2, "{phase}");
    assert!(said.lines().filter(|line| line.contains("of 2,000 keys/s")).count() >= 2, "{said}");
}

#[test]
fn a_search_tells_the_knee_and_every_rate() {
    let (code, said, json) = measured(&[
        "get",
        "--find-knee",
        "--rate",
        "100",
        "--p99-ms",
        "0.000001",
        "--seconds",
        "0.05",
        "--warmup",
        "0",
    ]);
    assert_eq!(code, Some(0), "{said}");
    let phase = &json["phases"][0];
    assert_eq!(phase["knee_keys_per_s"], serde_json::Value::Null, "nothing is that fast");
    assert!(phase["rates"].as_array().unwrap().len() > 3, "it looks below the first rate: {phase}");
    assert!(said.contains("no rate was served well"), "{said}");
}

#[test]
fn files_are_left_where_they_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let kvbench = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_kvbench")).args(args).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let short = ["--target", "nothing", "--keys", "1000", "--seconds", "0.1", "--warmup", "0"];
    let run = [&short[..], &["get", "put", "get", "--hgrm", "a.hgrm", "--svg", "a.svg", "--json", "a.json"]].concat();
    kvbench(&run);
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap_or_else(|_| panic!("no {name}"));
    for name in ["a-get.hgrm", "a-put.hgrm", "a-get-2.hgrm"] {
        assert!(read(name).contains("#[Mean"), "{name}");
    }
    let picture = read("a.svg");
    assert!(picture.starts_with("<svg") && picture.contains("Latency by percentile"));
    assert!(picture.contains("get 2") && !picture.contains("NaN"), "{picture}");
    let search =
        ["get", "--find-knee", "--rate", "500", "--p99-ms", "0.000001", "--svg", "b.svg", "--compare", "a.json"];
    let said = kvbench(&[&short[..], &search].concat());
    assert!(said.contains("now / a") && said.contains("not alike: loop"), "{said}");
    assert!(read("b.svg").contains("Latency by rate: get"));
    assert!(kvbench(&["--compare", "a.json", "--with", "a.json"]).contains("1.00"));
    let missing =
        Command::new(env!("CARGO_BIN_EXE_kvbench")).args(["--compare", "gone.json", "--with", "a.json"]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("reading gone.json"));
}
