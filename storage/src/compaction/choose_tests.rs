use super::*;
use proptest::prelude::*;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
const POLICY: Policy = Policy { runs_max: 8, table_bytes: 8 * MIB, settle: false, log_time_ms: 0 };

fn fact<'v>(number: u64, level: u8, run: u64, mib: u64, keys: (&'v [u8], &'v [u8])) -> Facts<'v> {
    let key = |key| (KeyspaceId(1), key);
    let (least, greatest) = (key(keys.0), key(keys.1));
    Facts { number, level, run, bytes: mib * MIB, tombstones: 0, stale_ms: u64::MAX, sound: true, least, greatest }
}

fn chosen(tables: &[Facts<'_>]) -> Option<(Vec<u64>, u8, bool, bool)> {
    let choice = choose(tables, &POLICY)?;
    Some((choice.inputs.into_iter().collect(), choice.level, choice.to_the_oldest, choice.as_it_is))
}

#[test]
fn a_lonely_table_moves_down_as_it_is_but_not_with_its_tombstones() {
    let mut table = fact(1, 0, 1, 46, (b"a", b"z"));
    assert_eq!(chosen(&[table]), Some((vec![1], 6, true, true)));
    table.tombstones = 1;
    assert_eq!(chosen(&[table]), Some((vec![1], 6, true, false)));
    assert_eq!(chosen(&[fact(1, 6, 0, 46, (b"a", b"z"))]), None, "there it stays");
}

#[test]
fn a_group_is_merged_when_it_is_ripe_and_only_that_group() {
    let low = fact(1, 6, 0, 20, (b"a", b"f"));
    let high = fact(2, 6, 0, 20, (b"g", b"m"));
    let above_high = fact(3, 0, 1, 3, (b"h", b"l"));
    let above_low = fact(4, 0, 2, 4, (b"b", b"c"));
    assert_eq!(chosen(&[above_low, above_high, low, high]), None, "4 MiB above 20");
    let [x, y, z] = [5, 6, 7].map(|number| fact(number, 0, number, 4, (b"k", b"l")));
    assert_eq!(chosen(&[z, y, x, above_low, above_high, low, high]), Some((vec![2, 3, 5, 6, 7], 6, true, false)));
    let damaged = Facts { sound: false, ..high };
    assert_eq!(chosen(&[z, y, x, above_low, above_high, low, damaged]), None, "it cannot be read");
}

/// Else all of a small tree is written again after every flush or two.
#[test]
fn above_less_than_four_flushes_four_are_merged_at_once() {
    let below = fact(1, 6, 0, 15, (b"a", b"z"));
    let flushes = [2, 3, 4, 5].map(|number| fact(number, 0, number, 4, (b"b", b"y")));
    let with = |count: usize| [&flushes[..count], &[below]].concat();
    assert_eq!(chosen(&with(3)), None, "12 MiB above 15");
    assert_eq!(chosen(&with(4)), Some((vec![1, 2, 3, 4, 5], 6, true, false)));
    let more = Facts { bytes: 16 * MIB, ..below };
    assert_eq!(chosen(&[&flushes[..3], &[more]].concat()), Some((vec![1, 2, 3, 4], 6, true, false)), "a part of 75%");
}

#[test]
fn groups_do_not_ripen_in_one_moment() {
    let ripe_at = |number: u64| {
        let below = fact(number, 6, 0, 100, (b"a", b"m"));
        let flush = |run: u64, mib: u64| fact(9999 - run, 0, run, mib, (b"b", b"c"));
        // In four flushes, each a part of those below that is too small to be waited for.
        let is_ripe = |mib: &u64| {
            chosen(&[flush(4, *mib / 4), flush(3, *mib / 4), flush(2, *mib / 4), flush(1, mib - *mib / 4 * 3), below])
                .is_some()
        };
        (1..200).find(is_ripe).expect("some time")
    };
    let all: Vec<u64> = (1..200).map(ripe_at).collect();
    assert!(all.iter().all(|mib| (35..=76).contains(mib)), "{all:?}");
    let early = all.iter().filter(|mib| **mib < 55).count();
    assert!((60..140).contains(&early), "{early} of 199 are ripe before the middle");
}

#[test]
fn many_flushes_are_merged_however_small() {
    let base = fact(1, 6, 0, 600, (b"a", b"z"));
    let mut tables: Vec<_> = (0..7).map(|n| fact(10 + n, 0, 1 + n, 8, (b"c", b"d"))).collect();
    tables.push(base);
    assert_eq!(chosen(&tables), None);
    tables.insert(0, fact(20, 0, 9, 8, (b"a", b"z")));
    assert_eq!(chosen(&tables).map(|(inputs, ..)| inputs.len()), Some(9));
    // Nothing below them: merged when they are many, not one with the next.
    assert_eq!(chosen(&tables[..2]), None);
}

#[test]
fn above_what_cannot_be_read_the_newer_become_fewer() {
    let bad = Facts { sound: false, ..fact(3, 0, 3, 1, (b"a", b"z")) };
    let mut tables: Vec<_> = (4..20).map(|run| fact(run, 0, run, 1, (b"a", b"z"))).collect();
    tables.extend([bad, fact(2, 0, 2, 1, (b"a", b"z")), fact(1, 6, 0, 100, (b"a", b"z"))]);
    let choice = choose(&tables, &POLICY).expect("16 are too many");
    assert_eq!(choice.inputs, (4..20).collect());
    assert_eq!((choice.level, choice.run, choice.to_the_oldest), (0, 4, false));
    assert_eq!(choose(&tables[8..], &POLICY), None, "8 are not");
}

#[test]
fn a_large_tree_has_a_level_between_which_gives_its_cheapest_table_down() {
    let last: Vec<_> = (b'a'..=b'p').map(|n| [n]).collect();
    let mut tables: Vec<_> = last.iter().enumerate().map(|(n, key)| fact(n as u64, 6, 0, 350, (key, key))).collect();
    assert_eq!(base_level(&tables, &POLICY), 5, "flushes pile up to 64 MiB, a tenth of the last level is more");
    tables.push(fact(100, 5, 0, 500, (b"a", b"c")));
    tables.push(fact(101, 5, 0, 600, (b"d", b"d")));
    assert_eq!(chosen(&tables), Some((vec![3, 101], 6, true, false)), "1,100 MiB are more than a tenth of 5,600");
    // A flush goes to the level between, with its tombstones.
    tables.pop();
    tables.extend((200..204).map(|n| Facts { tombstones: 5, ..fact(n, 0, n, 100, (b"a", b"b")) }));
    assert_eq!(chosen(&tables), Some((vec![100, 200, 201, 202, 203], 5, false, false)));
}

/// Keys as one byte: what tables hold which of them, and what a merge does to that.
fn run_merge(tables: &mut Vec<(u8, u64, u64, Vec<u8>)>, choice: &Choice, next: &mut u64) {
    let mut keys = BTreeMap::new();
    tables.retain(|(_, _, number, held)| {
        let gone = choice.inputs.contains(number);
        if gone {
            held.iter().for_each(|key| *keys.entry(*key).or_insert(0) += 1);
        }
        !gone
    });
    let all: Vec<u8> = keys.into_keys().collect();
    for part in all.chunks(3) {
        *next += 1;
        tables.push((choice.level, choice.run, *next, part.to_vec()));
    }
}

fn facts(tables: &[(u8, u64, u64, Vec<u8>)]) -> Vec<Facts<'_>> {
    let fact = |(level, run, number, keys): &(u8, u64, u64, Vec<u8>)| (*level, *run, *number, keys.len() as u64);
    let mut facts: Vec<_> = tables
        .iter()
        .map(|table| {
            let (level, run, number, bytes) = fact(table);
            let (least, greatest) = (&table.3[..1], &table.3[table.3.len() - 1..]);
            Facts { bytes, ..self::fact(number, level, run, 0, (least, greatest)) }
        })
        .collect();
    facts.sort_by_key(|fact| (fact.level, std::cmp::Reverse(fact.run)));
    facts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn it_ends_levels_stay_sorted_and_nothing_newer_sinks_below_older(flushes in prop::collection::vec(prop::collection::btree_set(any::<u8>(), 1..20), 1..40)) {
        let policy = Policy { runs_max: 3, table_bytes: 3, settle: false, log_time_ms: 0 };
        let (mut tables, mut next) = (Vec::new(), 0);
        for (run, flush) in (1u64..).zip(&flushes) {
            next += 1;
            tables.push((0, run, next, flush.iter().copied().collect()));
            for settle in [false, run == flushes.len() as u64] {
                let policy = Policy { settle, ..policy };
                for merges in 0.. {
                    let facts = facts(&tables);
                    let Some(choice) = choose(&facts, &policy) else { break };
                    prop_assert!(merges < 400, "merges without end: {choice:?}");
                    let is_input = |fact: &&Facts<'_>| choice.inputs.contains(&fact.number);
                    for input in facts.iter().filter(is_input) {
                        for other in facts.iter().filter(|fact| !choice.inputs.contains(&fact.number) && overlap(fact, input)) {
                            let newer = (other.level, std::cmp::Reverse(other.run)) < (input.level, std::cmp::Reverse(input.run));
                            prop_assert!(newer || other.level > choice.level, "{other:?} stays above {choice:?}");
                            prop_assert!(newer || !choice.to_the_oldest, "{other:?} is older");
                        }
                    }
                    run_merge(&mut tables, &choice, &mut next);
                    for level in 1..=LAST_LEVEL {
                        let mut held: Vec<_> = tables.iter().filter(|table| table.0 == level).map(|table| (table.3[0], table.3[table.3.len() - 1])).collect();
                        held.sort_unstable();
                        prop_assert!(held.windows(2).all(|pair| pair[0].1 < pair[1].0), "level {level}: {held:?}");
                    }
                }
            }
        }
        prop_assert!(tables.iter().all(|table| table.0 == LAST_LEVEL), "settled, all is in the last level: {tables:?}");
    }
}
