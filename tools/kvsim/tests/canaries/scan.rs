//! Running canaries: until one is caught, or over many seeds with a table of what caught it.

use crate::host::wrong;
use crate::list::{CANARIES, Canary, SOUND};
use kvsim::plan::Options;
use kvsim::sim::{Outcome, quiet_panics, run_with};
use std::collections::BTreeMap;
use std::time::Instant;

/// Seeds within which a canary must be caught, and virtual seconds of each.
const SEEDS: u64 = 300;
const SECONDS: u64 = 120;

/// Runs a seed on such stores.
pub fn go(canary: &Canary, seed: u64, seconds: u64) -> Outcome {
    run_with(seed, &Options { seconds: Some(seconds), ..Options::default() }, wrong((canary.make)()))
}

/// The finding that a flaw leads to, and by which words it is known.
fn its(canary: &Canary, wrong: Vec<String>) -> Option<(&'static str, String)> {
    let named = |finding: String| {
        let words = canary.words.iter().find(|words| finding.contains(**words));
        words.map(|words| (*words, finding))
    };
    wrong.into_iter().find_map(named)
}

fn finding(canary: &Canary, seed: u64, seconds: u64) -> Option<String> {
    its(canary, go(canary, seed, seconds).wrong).map(|(_, finding)| finding)
}

fn first_line(finding: &str) -> &str {
    finding.lines().next().unwrap_or_default()
}

/// Begins with the seed that is known to catch it; goes on from 0 when seeds have changed their meaning since. A store without
/// the flaw passes the same seed.
pub fn must_be_caught(canary: &Canary) {
    let seeds = std::iter::once(canary.at).chain((0..SEEDS).map(|seed| (seed, SECONDS)));
    let caught = seeds.into_iter().find(|&(seed, seconds)| finding(canary, seed, seconds).is_some());
    let Some((seed, seconds)) = caught else { panic!("{}: not caught by {SEEDS} seeds", canary.name) };
    assert_eq!(go(&SOUND[0], seed, seconds).wrong, Vec::<String>::new(), "seed {seed}: it was not the flaw");
    if (seed, seconds) != canary.at {
        println!("{}: caught by seed {seed}, {seconds} s, no longer by {:?}", canary.name, canary.at);
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

fn chosen() -> impl Iterator<Item = &'static Canary> {
    let only = std::env::var("ONLY").unwrap_or_default();
    SOUND.iter().chain(CANARIES).filter(move |canary| canary.name.contains(&only))
}

fn scan(canary: &Canary, seeds: u64, seconds: u64, enough: usize) {
    let (mut by, mut caught, mut tried) = (BTreeMap::<&str, u64>::new(), Vec::new(), 0);
    let (begun, mut first) = (Instant::now(), String::new());
    while tried < seeds && caught.len() < enough {
        let wrong = go(canary, tried, seconds).wrong;
        let other = wrong.first().map(|other| first_line(other).to_owned()).unwrap_or_default();
        if let Some((words, found)) = its(canary, wrong) {
            *by.entry(words).or_default() += 1;
            if caught.is_empty() {
                first = first_line(&found).chars().take(200).collect();
            }
            caught.push(tried);
        } else if !other.is_empty() {
            println!("{}: seed {tried}, something else: {other}", canary.name);
        }
        tried += 1;
    }
    let (took, share) = (begun.elapsed().as_secs(), 100 * caught.len() as u64 / tried.max(1));
    let (name, at) = (canary.name, caught.first());
    println!("{name:36} first {at:?}, {} of {tried} seeds ({share}%) {by:?} {took} s: {first}", caught.len());
}

/// The honest measure: every canary from seed 0.
#[test]
#[ignore = "minutes to hours: see the head of main.rs"]
fn scan_all() {
    quiet_panics();
    let (seeds, seconds) = (number("SEEDS", SEEDS), number("SECONDS", SECONDS));
    chosen().for_each(|canary| scan(canary, seeds, seconds, number("ENOUGH", 10) as usize));
}

/// For the list: the seed that catches a canary soonest.
#[test]
#[ignore = "minutes: see the head of main.rs"]
fn scan_quick() {
    quiet_panics();
    for canary in chosen().skip_while(|canary| canary.at == (0, 0)) {
        let tries = [5, 10, 20, 40, 80, 120]
            .into_iter()
            .flat_map(|seconds| (0..number("SEEDS", 30)).map(move |s| (s, seconds)));
        let at = tries.into_iter().find(|&(seed, seconds)| finding(canary, seed, seconds).is_some());
        let what = at.and_then(|(seed, seconds)| finding(canary, seed, seconds)).unwrap_or_default();
        println!("{:36} {at:?} {}", canary.name, first_line(&what));
    }
}

#[test]
fn without_a_flaw_nothing_changes() {
    for seed in [3, 100, 1054] {
        let options = Options { seconds: Some(5), ..Options::default() };
        let (shipped, wrapped) = (kvsim::sim::run(seed, &options), go(&SOUND[0], seed, 5));
        assert_eq!(wrapped.wrong, Vec::<String>::new(), "seed {seed}");
        assert_eq!(wrapped.trace, shipped.trace, "seed {seed}");
    }
}

#[test]
fn what_the_protocol_survives_is_not_caught() {
    for sound in SOUND {
        for seed in [4, 10] {
            assert_eq!(go(sound, seed, 8).wrong, Vec::<String>::new(), "{}, seed {seed}", sound.name);
        }
    }
}
