//! The bench against a map in memory: what it counts, what it tells, what it records.
#![expect(clippy::unwrap_used, reason = "a test may end by a panic")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kvbench::{
    Bench, Crew, Distribution, Failure, Found, Kind, Phase, Recorder, Source, Surroundings, Target, Workload, Ycsb, run,
};

/// A map; every `fail_every`th write fails with an unknown outcome.
#[derive(Clone, Default)]
struct Memory {
    map: Arc<Mutex<BTreeMap<Bytes, Found>>>,
    writes: Arc<Mutex<u64>>,
    fail_every: Option<u64>,
    swap_answers: bool,
}

impl Target for Memory {
    async fn get(&self, key: Bytes) -> Result<Option<Found>, Failure> {
        let map = self.map.lock().unwrap();
        let found = if self.swap_answers { map.values().next() } else { map.get(&key) };
        Ok(found.cloned())
    }

    async fn put(&self, key: Bytes, value: Bytes) -> Result<u64, Failure> {
        let version = {
            let mut writes = self.writes.lock().unwrap();
            *writes += 1;
            *writes
        };
        self.map.lock().unwrap().insert(key, Found { bytes: value, version });
        match self.fail_every {
            Some(every) if version.is_multiple_of(every) => Err(Failure::Unknown),
            _ => Ok(version),
        }
    }

    async fn delete(&self, key: Bytes) -> Result<u64, Failure> {
        let mut writes = self.writes.lock().unwrap();
        *writes += 1;
        self.map.lock().unwrap().remove(&key);
        Ok(*writes)
    }

    async fn get_many(&self, keys: Vec<Bytes>) -> impl Iterator<Item = Result<Option<Found>, Failure>> {
        let mut answers = Vec::new();
        for key in keys {
            answers.push(self.get(key).await);
        }
        answers.into_iter()
    }

    async fn put_many(&self, pairs: Vec<(Bytes, Bytes)>) -> impl Iterator<Item = Result<u64, Failure>> {
        let mut answers = Vec::new();
        for (key, value) in pairs {
            answers.push(self.put(key, value).await);
        }
        answers.into_iter()
    }
}

impl Source for Memory {
    type Target = Memory;

    async fn connect(&self) -> anyhow::Result<Memory> {
        Ok(self.clone())
    }
}

fn workload(batch: usize) -> Workload {
    let phase = |kind, keys| Phase { kind, keys, seconds: None };
    Workload {
        keys: 500,
        value_bytes: 40,
        batch,
        tasks: 5,
        distribution: Some(Distribution::Zipfian { theta: 0.99 }),
        phases: vec![
            phase(Kind::Load, 500),
            phase(Kind::Get, 2_000),
            phase(Kind::Put, 700),
            phase(Kind::Mixed { reads_percent: 50 }, 1_000),
            phase(Kind::Verify, 500),
        ],
        ..Workload::default()
    }
}

#[tokio::test]
async fn phases_ask_for_what_they_say() {
    let memory = Memory::default();
    let report = run(std::slice::from_ref(&memory), &workload(1), &Surroundings::default(), None).await.unwrap();
    let keys: Vec<u64> = report.phases.iter().map(|phase| phase.keys).collect();
    assert_eq!(keys, [500, 2_000, 700, 1_000, 500]);
    assert_eq!(report.errors(), 0);
    let map = memory.map.lock().unwrap();
    assert_eq!(map.len(), 500);
    assert!(map.values().all(|found| found.bytes.len() == 40));
}

#[tokio::test]
async fn batches_cover_every_key() {
    let memory = Memory::default();
    let report = run(&[memory.clone(), memory.clone()], &workload(64), &Surroundings::default(), None).await.unwrap();
    assert_eq!(memory.map.lock().unwrap().len(), 500);
    assert_eq!(report.phases[0].keys, 500);
    assert_eq!(report.phases[0].calls, 8);
    assert_eq!(report.errors(), 0);
}

#[tokio::test]
async fn the_json_has_the_promised_shape() {
    let dir = tempfile::tempdir().unwrap();
    let surroundings = Surroundings { probe_dir: Some(dir.path().to_owned()), ..Surroundings::default() };
    let report = run(&[Memory::default()], &workload(4), &surroundings, None).await.unwrap();
    let json = serde_json::to_value(&report).unwrap();
    for phase in json["phases"].as_array().unwrap() {
        for field in ["ops_per_s", "keys_per_s", "seconds"] {
            assert!(phase[field].as_f64().is_some_and(|number| number > 0.0), "{field} in {phase}");
        }
        for field in ["p50", "p99", "p999", "max"] {
            assert!(phase["latency_us"][field].is_f64(), "{field} in {phase}");
        }
        assert!(phase["errors"]["unknown"].is_u64(), "{phase}");
        assert!(phase["hiccup_us"]["p99"].is_f64(), "{phase}");
    }
    assert_eq!(json["conditions"]["keys_in_flight"], 20);
    assert!(json["conditions"]["file_system"].is_string());
    assert!(report.to_string().contains("hiccups"));
}

#[tokio::test]
async fn failures_and_foreign_values_are_counted() {
    let memory = Memory { fail_every: Some(10), ..Memory::default() };
    let report = run(std::slice::from_ref(&memory), &workload(1), &Surroundings::default(), None).await.unwrap();
    assert_eq!(report.phases[0].errors.unknown, 50);
    let liar = Memory { swap_answers: true, map: memory.map.clone(), ..Memory::default() };
    let only_reads = Workload { phases: workload(1).phases[1..2].to_vec(), ..workload(1) };
    let report = run(&[liar], &only_reads, &Surroundings::default(), None).await.unwrap();
    assert!(report.phases[0].errors.wrong > 1_000, "{:?}", report.phases[0].errors);
}

#[tokio::test]
async fn a_history_of_a_map_is_linearizable() {
    let memory = Memory { fail_every: Some(7), ..Memory::default() };
    let mut recorder = Recorder::default();
    let with_deletes = Workload { deletes_percent: 20, ..workload(3) };
    let report = run(&[memory], &with_deletes, &Surroundings::default(), Some(&mut recorder)).await.unwrap();
    let ops = recorder.into_ops();
    let deleted = ops.iter().filter(|op| op.kind == lincheck::Kind::Delete).count();
    assert!((20..=70).contains(&deleted), "a fifth of about 167 writing calls: {deleted}");
    assert!(report.phases.iter().all(|phase| phase.errors.absent == 0), "a deleted key is no error");
    assert_eq!(ops.len() as u64, report.phases.iter().map(|phase| phase.keys).sum::<u64>());
    let verdict = lincheck::check(&ops);
    assert!(verdict.is_ok(), "{:?}", verdict.findings.first());
}

#[tokio::test]
async fn threads_insert_different_keys_and_leave_one_history() {
    let phase = |kind, keys| Phase { kind, keys, seconds: None };
    let [d, f] = [Ycsb::D, Ycsb::F].map(|ycsb| phase(Kind::Ycsb(ycsb), 3_000));
    let phases = vec![phase(Kind::Load, 500), d, f, phase(Kind::Verify, 500)];
    let workload = Workload { phases, distribution: None, ..workload(2) };
    let (memory, crew) = (Memory::default(), Crew { threads: 2, clients: 3, pin: Vec::new() });
    let bench = Bench::start(&memory, &crew).await.unwrap();
    let mut recorder = Recorder::default();
    let report = bench.run(&workload, &Surroundings::default(), Some(&mut recorder)).await.unwrap();
    bench.end();
    assert_eq!(report.errors(), 0, "no key is read before it was inserted");
    assert_eq!(report.conditions.client_threads, 2);
    let inserted = memory.map.lock().unwrap().len() - 500;
    assert!((100..=220).contains(&inserted), "5 of 100 keys: {inserted}");
    let ops = recorder.into_ops();
    let clients: std::collections::BTreeSet<u64> = ops.iter().map(|op| op.client).collect();
    assert!(clients.len() >= 2);
    assert!(lincheck::check(&ops).is_ok());
}

#[tokio::test]
async fn a_phase_ends_when_its_time_is_up() {
    let endless = Phase { kind: Kind::Get, keys: u64::MAX, seconds: Some(0.05) };
    let workload = Workload { phases: vec![endless], ..workload(1) };
    let report = run(&[Memory::default()], &workload, &Surroundings::default(), None).await.unwrap();
    assert!(report.phases[0].calls > 0);
    assert_eq!(report.phases[0].errors.absent, report.phases[0].keys);
}
