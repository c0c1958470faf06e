//! The honest measure: every canary from seed 0, by default 300 seeds of two minutes.

use crate::go;
use crate::list::{CANARIES, Canary, SOUND};
use kvsim::sim::quiet_panics;
use std::collections::BTreeMap;

/// What a finding is about: its words, without names and numbers.
fn property(finding: &str) -> String {
    const WORDS: [&str; 12] = [
        "logs do not match",
        "two leaders",
        "not linearizable",
        "applied at",
        "go back",
        "went back",
        "again",
        "takes no writes",
        "do not come to the same state",
        "a store stopped",
        "never written",
        "panic at",
    ];
    let word = WORDS.iter().find(|word| finding.contains(**word));
    word.map_or_else(|| finding.chars().take(60).collect(), |word| (*word).to_owned())
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Seeds that catch a canary before it is left alone.
const ENOUGH: usize = 5;

fn scan(canary: &Canary, seeds: u64, seconds: u64) {
    let (mut words, mut caught, mut first) = (BTreeMap::<String, u64>::new(), Vec::new(), String::new());
    let mut tried = 0;
    let begun = std::time::Instant::now();
    for seed in number("FROM", 0)..number("FROM", 0) + seeds {
        tried += 1;
        let wrong = go(canary, seed, seconds).wrong;
        if let Some(what) = wrong.first() {
            *words.entry(property(what)).or_default() += 1;
            if caught.is_empty() {
                first = what.chars().take(300).collect();
            }
            caught.push(seed);
        }
        if caught.len() >= number("ENOUGH", ENOUGH as u64) as usize {
            break;
        }
    }
    let took = begun.elapsed().as_secs();
    println!("{:34} {:>3} of {tried:>3} seeds {caught:?} {words:?} ({took} s)\n    {first}", canary.name, caught.len());
}

#[test]
#[ignore = "minutes to hours: see the head of main.rs"]
fn scan_all() {
    quiet_panics();
    let (seeds, seconds) = (number("SEEDS", 300), 60 * number("MINUTES", 2));
    let seconds = number("SECONDS", seconds);
    let only = std::env::var("ONLY").unwrap_or_default();
    for canary in SOUND.iter().chain(&CANARIES).filter(|canary| canary.name.contains(&only)) {
        scan(canary, seeds, seconds);
    }
}
