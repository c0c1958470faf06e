//! Which tables to merge: a pure function of what there is (leveled compaction; O'Neil and others 1996, and the dynamic level
//! sizes of Dong and others, "Optimizing Space Amplification in RocksDB", CIDR 2017).
//!
//! Flushes are cut where the tables of the level below begin. So what lies above each other falls into small groups that have
//! no keys in common, and each group is merged by itself when it is worth it: many small merges, one after the other, instead of
//! one of everything.

use crate::mix::mix;
use crate::sst::TreeKey;
use std::collections::BTreeSet;

/// The last level, where nothing is older. The levels above it come into use as the tree grows.
pub const LAST_LEVEL: u8 = 6;
/// How much larger a level is than the one above it.
const FANOUT: u64 = 10;
/// A group is merged when the bytes above are a part of those below that lies between these: less writes more, more takes more
/// space. Each group has its own, and another one after each merge: were it the same for all, keys that are written evenly would make
/// all groups ripe in one moment, after a time in which there is nothing to do.
const RIPE_PERCENT: std::ops::RangeInclusive<u64> = 35..=75;
/// Above less than so many flushes, as many are merged at once: else all of it would be written again after every flush or two.
const FEW_FLUSHES: u64 = 4;
/// Tables of the last level that a tree is cut into, when they are not too small or too large then.
const TABLES_OF_TREE: u64 = 16;
/// Largest table that merges aim at, bytes.
const TABLE_BYTES_MAX: u64 = 256 << 20;

/// What a choice needs to know of a table.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'v> {
    /// Its file's number.
    pub number: u64,
    /// Its level; 0: from a flush.
    pub level: u8,
    /// Of level 0: the flush, later ones are higher.
    pub run: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its tombstones.
    pub tombstones: u64,
    /// From this log time on half of its entries have expired, about, ms.
    pub stale_ms: u64,
    /// Open, and nothing was found wrong with it.
    pub sound: bool,
    /// Its first key.
    pub least: TreeKey<'v>,
    /// Its last key.
    pub greatest: TreeKey<'v>,
}

/// When to merge.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// A group that as many flushes wrote to is merged, however little they wrote.
    pub runs_max: usize,
    /// Smallest table that merges aim at, bytes.
    pub table_bytes: u64,
    /// Merge all that can be merged: nobody writes.
    pub settle: bool,
    /// The log time, ms.
    pub log_time_ms: u64,
}

impl Policy {
    /// The same with `settle`.
    pub(crate) fn settling(self) -> Policy {
        Policy { settle: true, ..self }
    }
}

/// What to merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The tables, by number.
    pub inputs: BTreeSet<u64>,
    /// Where the result belongs.
    pub level: u8,
    /// Its run, of level 0.
    pub run: u64,
    /// Nothing older has keys between theirs: tombstones have done their work.
    pub to_the_oldest: bool,
    /// It is one table, and below it is nothing: it goes there as it is.
    pub as_it_is: bool,
    /// Cut the result at about this length.
    pub table_bytes: u64,
    /// Bytes to be read.
    pub bytes: u64,
}

/// The length of a table of the last level, for a tree of this many bytes.
pub fn table_bytes(tree_bytes: u64, policy: &Policy) -> u64 {
    (tree_bytes / TABLES_OF_TREE).clamp(policy.table_bytes, TABLE_BYTES_MAX.max(policy.table_bytes))
}

/// The level that flushes are merged into: the highest whose wanted size is above what flushes may pile up.
pub fn base_level(tables: &[Facts<'_>], policy: &Policy) -> u8 {
    let mut runs = std::collections::BTreeMap::<u64, u64>::new();
    tables.iter().filter(|t| t.level == 0).for_each(|t| *runs.entry(t.run).or_default() += t.bytes);
    let flush_bytes = runs.values().max().copied().unwrap_or(0).max(policy.table_bytes);
    let piled = flush_bytes * policy.runs_max as u64;
    let highest = tables.iter().map(|t| t.level).filter(|level| *level > 0).min().unwrap_or(LAST_LEVEL);
    let mut base = LAST_LEVEL;
    while base > 1 && wanted_bytes(base - 1, tables) > piled {
        base -= 1;
    }
    base.min(highest)
}

/// How large a level above the last one may be.
fn wanted_bytes(level: u8, tables: &[Facts<'_>]) -> u64 {
    let last: u64 = tables.iter().filter(|t| t.level == LAST_LEVEL).map(|t| t.bytes).sum();
    (level..LAST_LEVEL).fold(last, |bytes, _| bytes / FANOUT)
}

/// The most urgent merge, if any is wanted.
pub fn choose(tables: &[Facts<'_>], policy: &Policy) -> Option<Choice> {
    let base = base_level(tables, policy);
    let groups = groups(tables, base).into_iter().filter_map(|group| from_flushes(tables, &group, base, policy));
    let levels = (base..LAST_LEVEL).filter_map(|level| downwards(tables, level, policy));
    let stale = tables.iter().filter_map(|table| without_expired(table, policy));
    groups.chain(levels).chain(stale).max_by_key(|(urgency, _)| *urgency).map(|(_, choice)| choice)
}

/// A table of the last level of which much has expired is written again without: nothing else may come by for long.
fn without_expired(table: &Facts<'_>, policy: &Policy) -> Option<(u64, Choice)> {
    let is_stale = table.level == LAST_LEVEL && table.sound && table.stale_ms <= policy.log_time_ms;
    let choice = || Choice {
        inputs: BTreeSet::from([table.number]),
        level: LAST_LEVEL,
        run: 0,
        to_the_oldest: true,
        as_it_is: false,
        table_bytes: u64::MAX,
        bytes: table.bytes,
    };
    is_stale.then(|| (100, choice()))
}

/// Bytes that are to be written before nothing is wanted, about: what lies in groups that are ripe.
pub fn debt_bytes(tables: &[Facts<'_>], policy: &Policy) -> u64 {
    let base = base_level(tables, policy);
    let groups = groups(tables, base).into_iter().filter_map(|group| from_flushes(tables, &group, base, policy));
    groups.map(|(_, choice)| choice.bytes).sum::<u64>()
        + (base..LAST_LEVEL)
            .map(|level| bytes_of(tables, level).saturating_sub(wanted_bytes(level, tables)))
            .sum::<u64>()
}

fn bytes_of(tables: &[Facts<'_>], level: u8) -> u64 {
    tables.iter().filter(|t| t.level == level).map(|t| t.bytes).sum()
}

/// Tables of flushes and of the base level that overlap, directly or through others.
fn groups<'t, 'v>(tables: &'t [Facts<'v>], base: u8) -> Vec<Vec<&'t Facts<'v>>> {
    let mut sorted: Vec<_> = tables.iter().filter(|t| t.level == 0 || t.level == base).collect();
    sorted.sort_by_key(|t| t.least);
    let mut groups: Vec<(TreeKey<'v>, Vec<&Facts<'v>>)> = Vec::new();
    for table in sorted {
        match groups.last_mut() {
            Some((greatest, group)) if table.least <= *greatest => {
                *greatest = table.greatest.max(*greatest);
                group.push(table);
            }
            _ => groups.push((table.greatest, vec![table])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// How urgent it is to merge a group's flushes, as a percentage, and the merge.
fn from_flushes(tables: &[Facts<'_>], group: &[&Facts<'_>], base: u8, policy: &Policy) -> Option<(u64, Choice)> {
    let (above, below): (Vec<&Facts<'_>>, Vec<&Facts<'_>>) = group.iter().partition(|t| t.level == 0);
    let (bytes_above, bytes_below) = (sum(&above), sum(&below));
    let runs: BTreeSet<u64> = above.iter().map(|t| t.run).collect();
    let crowd = runs.len() as u64 * 100 / policy.runs_max.max(1) as u64;
    if !group.iter().all(|t| t.sound) {
        return among_flushes(&above, crowd, policy);
    }
    let ripe = bytes_above * 100 / bytes_below.max(1) * 100 / ripe_percent(&below);
    let few = bytes_below * (runs.len() as u64) < bytes_above * FEW_FLUSHES;
    let urgency = match runs.len() as u64 {
        // Above nothing, flushes are merged only when they are many: each would be written again and again.
        2.. if below.is_empty() => crowd,
        // Above little, when they are some.
        flushes if few && !below.is_empty() => crowd.max(flushes * 100 / FEW_FLUSHES),
        _ => crowd.max(ripe),
    };
    if above.is_empty() || (urgency < 100 && !policy.settle) {
        return None;
    }
    let all = [above, below].concat();
    let older = |t: &&Facts<'_>| t.level > base && all.iter().any(|own| overlap(own, t));
    let to_the_oldest = !tables.iter().any(|t| older(&t));
    let as_it_is = all.len() == 1 && (all[0].tombstones == 0 || !to_the_oldest);
    let choice = Choice {
        inputs: all.iter().map(|t| t.number).collect(),
        level: base,
        run: 0,
        to_the_oldest,
        as_it_is,
        table_bytes: cut_bytes(tables, bytes_above.max(bytes_below), policy),
        bytes: bytes_above + bytes_below,
    };
    Some((urgency.max(1), choice))
}

/// When a group with these tables below is ripe.
fn ripe_percent(below: &[&Facts<'_>]) -> u64 {
    let lot = mix(below.iter().map(|t| t.number).min().unwrap_or_default());
    RIPE_PERCENT.start() + lot % (RIPE_PERCENT.end() - RIPE_PERCENT.start() + 1)
}

/// Something older cannot be read: of what is newer, tables are made fewer, so that they do not pile up.
fn among_flushes(above: &[&Facts<'_>], crowd: u64, policy: &Policy) -> Option<(u64, Choice)> {
    let newest_damaged = above.iter().filter(|t| !t.sound).map(|t| t.run + 1).max().unwrap_or(0);
    let newer: Vec<&Facts<'_>> = above.iter().copied().filter(|t| t.run >= newest_damaged).collect();
    let runs: BTreeSet<u64> = newer.iter().map(|t| t.run).collect();
    let many = if policy.settle { 1 } else { policy.runs_max };
    let run = runs.first().copied().filter(|_| runs.len() > many)?;
    let choice = Choice {
        inputs: newer.iter().map(|t| t.number).collect(),
        level: 0,
        run,
        to_the_oldest: false,
        as_it_is: false,
        table_bytes: u64::MAX,
        bytes: sum(&newer),
    };
    Some((crowd, choice))
}

/// How urgent it is to make a level smaller, and the cheapest merge that does.
fn downwards(tables: &[Facts<'_>], level: u8, policy: &Policy) -> Option<(u64, Choice)> {
    let (held, wanted) = (bytes_of(tables, level), wanted_bytes(level, tables));
    let urgency = held * 100 / wanted.max(1);
    // A level that is no longer the base, since the tree shrank, is emptied.
    if held == 0 || (urgency <= 100 && !policy.settle) {
        return None;
    }
    // What a level above still has to say of these keys stays above.
    let below = |table: &Facts<'_>| -> Vec<&Facts<'_>> {
        tables.iter().filter(|t| t.level == level + 1 && overlap(t, table)).collect()
    };
    let candidates = tables.iter().filter(|t| t.level == level && t.sound).map(|table| (table, below(table)));
    let sound = candidates.filter(|(_, below)| below.iter().all(|t| t.sound));
    let cost = |table: &Facts<'_>, below: &[&Facts<'_>]| sum(below) * 100 / table.bytes.max(1);
    let (table, below) = sound.min_by_key(|(table, below)| (cost(table, below), table.number))?;
    let older = |t: &&Facts<'_>| t.level > level + 1 && (overlap(t, table) || below.iter().any(|own| overlap(own, t)));
    let to_the_oldest = !tables.iter().any(|t| older(&t));
    let bytes = table.bytes + sum(&below);
    let choice = Choice {
        inputs: below.iter().map(|t| t.number).chain([table.number]).collect(),
        level: level + 1,
        run: 0,
        to_the_oldest,
        as_it_is: below.is_empty() && (table.tombstones == 0 || !to_the_oldest),
        table_bytes: cut_bytes(tables, bytes, policy),
        bytes,
    };
    Some((urgency, choice))
}

/// Where to cut a result of about `bytes`: into parts of one length, with some room, so that no crumb is left.
fn cut_bytes(tables: &[Facts<'_>], bytes: u64, policy: &Policy) -> u64 {
    let aim = table_bytes(bytes_of(tables, LAST_LEVEL).max(bytes), policy);
    let parts = (bytes + aim / 2) / aim;
    bytes / parts.max(1) * 5 / 4
}

fn sum(tables: &[&Facts<'_>]) -> u64 {
    tables.iter().map(|t| t.bytes).sum()
}

fn overlap(a: &Facts<'_>, b: &Facts<'_>) -> bool {
    a.least <= b.greatest && b.least <= a.greatest
}

#[cfg(test)]
#[path = "choose_tests.rs"]
mod tests;
