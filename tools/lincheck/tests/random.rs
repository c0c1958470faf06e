//! Histories made by a real register are accepted; the search agrees with trying every order.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use lincheck::{Kind, Op, Outcome};

/// A small generator of its own, so that the crate needs none.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Clients call, take effect at a moment in between, return; some writes stay unknown and take effect late or never.
fn real(dice: &mut Dice, operations: usize, keys: u64, clients: u64) -> Vec<Op> {
    let mut history: Vec<Op> = Vec::new();
    let mut effects: Vec<(u64, usize)> = Vec::new();
    let mut free = vec![0u64; clients as usize];
    for n in 0..operations {
        let client = dice.below(clients);
        let call = free[client as usize] + dice.below(30);
        let ret = call + 1 + dice.below(100);
        let kind = [Kind::Put, Kind::Get, Kind::Get, Kind::Delete][dice.below(4) as usize];
        let mut outcome = Outcome::Ok;
        let mut at = call + dice.below(ret - call + 1);
        if dice.below(20) == 0 {
            outcome = if dice.below(2) == 0 { Outcome::Unknown } else { Outcome::Failed };
            at += dice.below(500);
        }
        free[client as usize] = ret + 1;
        let value = (kind == Kind::Put).then(|| format!("v{n}"));
        let key = format!("k{}", dice.below(keys));
        history.push(Op { client, key, kind, value, call, ret: Some(ret), outcome, version: None, shard: None });
        if outcome == Outcome::Ok || (outcome == Outcome::Unknown && dice.below(2) == 0) {
            effects.push((at, n));
        }
    }
    effects.sort_unstable();
    let mut state: std::collections::HashMap<String, (String, u64)> = std::collections::HashMap::new();
    for (index, &(_, n)) in effects.iter().enumerate() {
        let (op, index) = (&mut history[n], index as u64 + 1);
        match op.kind {
            Kind::Put => {
                state.insert(op.key.clone(), (op.value.clone().unwrap(), index));
                op.version = (op.outcome == Outcome::Ok).then_some(index);
            }
            Kind::Delete => {
                state.remove(&op.key);
                op.version = (op.outcome == Outcome::Ok).then_some(index);
            }
            Kind::Get => {
                let found = state.get(&op.key);
                (op.value, op.version) = (found.map(|f| f.0.clone()), found.map(|f| f.1));
            }
        }
    }
    history
}

fn without_versions(mut history: Vec<Op>) -> Vec<Op> {
    history.iter_mut().for_each(|op| op.version = None);
    history
}

#[test]
fn histories_of_a_real_register_are_accepted() {
    for seed in 0..60 {
        let history = real(&mut Dice(seed), 2_000, 10, 8);
        assert!(lincheck::check(&history).is_ok(), "seed {seed}");
        assert!(lincheck::check(&without_versions(history)).is_ok(), "seed {seed} without versions");
    }
}

/// A small bar in debug; the full one (100,000 operations) takes well below a second in release.
#[test]
fn many_clients_on_many_keys() {
    let history = real(&mut Dice(7), 20_000, 200, 32);
    assert!(lincheck::check(&history).is_ok());
    assert!(lincheck::check(&without_versions(history)).is_ok());
}

/// Every order of a small history, tried one by one.
fn by_hand(left: &[Op], state: Option<&str>) -> bool {
    let waiting = left.iter().filter(|op| op.outcome == Outcome::Ok);
    let frontier = waiting.map(|op| op.ret.unwrap()).min();
    let Some(frontier) = frontier else { return true };
    (0..left.len()).any(|i| {
        let op = &left[i];
        if op.call > frontier || (op.kind == Kind::Get && op.value.as_deref() != state) {
            return false;
        }
        let mut rest = left.to_vec();
        rest.remove(i);
        by_hand(&rest, if op.kind == Kind::Get { state } else { op.value.as_deref() })
    })
}

#[test]
fn the_search_agrees_with_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..4_000 {
        let mut dice = Dice(seed);
        let operations = 4 + dice.below(5);
        let history: Vec<Op> = (0..operations)
            .map(|client| {
                let call = dice.below(12);
                let kind = [Kind::Put, Kind::Get, Kind::Get, Kind::Delete][dice.below(4) as usize];
                let value = format!("v{}", dice.below(2));
                let some = kind == Kind::Put || (kind == Kind::Get && dice.below(4) > 0);
                let unknown = kind != Kind::Get && dice.below(4) == 0;
                Op {
                    client,
                    key: "k".to_owned(),
                    kind,
                    value: some.then_some(value),
                    call,
                    ret: Some(call + dice.below(6)),
                    outcome: if unknown { Outcome::Unknown } else { Outcome::Ok },
                    version: None,
                    shard: None,
                }
            })
            .collect();
        let expected = by_hand(&history, None);
        let report = lincheck::check(&history);
        let shown: String = report.findings.iter().map(|f| f.to_string()).collect();
        assert_eq!(report.is_ok(), expected, "seed {seed}: {history:#?}\n{shown}");
        if expected { good += 1 } else { bad += 1 }
    }
    assert!(good > 500 && bad > 500, "{good} good, {bad} bad");
}
