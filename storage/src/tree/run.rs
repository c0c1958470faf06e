//! A sorted run: tables whose keys do not overlap, in their order.

use crate::cache::Near;
use crate::disk::Disk;
use crate::error::StorageError;
use crate::iter::{Head, Span, Way};
use crate::manifest::TableEntry;
use crate::sst::TreeKey;
use crate::sst::index::prefix;
use crate::sst::reader::Table;
use crate::sst::scan::TableScan;
use bytes::Bytes;
use ringkv_wire::ids::KeyspaceId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A table that the manifest names, open or not.
pub(crate) struct Member<D: Disk> {
    pub(crate) entry: Arc<TableEntry>,
    /// Why it is not open: it is damaged, or gone.
    pub(crate) table: Result<Arc<Table<D>>, Arc<StorageError>>,
}

impl<D: Disk> Clone for Member<D> {
    fn clone(&self) -> Member<D> {
        Member { entry: self.entry.clone(), table: self.table.clone() }
    }
}

impl<D: Disk> Member<D> {
    /// Whether it is open and nothing was found wrong with it.
    pub(crate) fn is_sound(&self) -> bool {
        self.table.as_ref().is_ok_and(|table| !table.is_damaged())
    }

    /// What was found wrong with it.
    pub(crate) fn damage(&self) -> Option<StorageError> {
        match &self.table {
            Ok(table) => table.damage(),
            Err(error) => Some(error.as_ref().clone()),
        }
    }
}

/// Tables of one level, or of one flush.
pub(crate) struct Run<D: Disk> {
    /// By key.
    members: Vec<Member<D>>,
    /// The table from which on first keys have their keyspace and some bytes in common: the second when the first one begins in another
    /// keyspace, as in a database, whose least keys are names of trees.
    from: usize,
    /// How many bytes those share, of a single table its first key and its last one; what first and last keys have behind them.
    skip: usize,
    firsts: Vec<u128>,
    lasts: Vec<u128>,
}

/// Runs of so many tables are not searched but counted through: nobody can guess where a search turns.
const COUNTED_MAX: usize = 16;

/// A number that compares as keys do that share `skip` bytes, up to equality.
#[inline]
fn number(key: TreeKey<'_>, skip: usize) -> u128 {
    u128::from(key.0.0) << u64::BITS | u128::from(prefix(key.1, skip))
}

impl<D: Disk> Run<D> {
    /// These tables, in any order.
    pub(crate) fn new(mut members: Vec<Member<D>>) -> Run<D> {
        members.sort_by(|a, b| a.entry.bounds.least().cmp(&b.entry.bounds.least()));
        let least = |at: usize| members.get(at).map(|member| member.entry.bounds.least());
        let from = usize::from(least(0).zip(least(1)).is_some_and(|(first, second)| first.0 != second.0));
        let last = members.last().map(|last| match members.len() - from {
            1 => last.entry.bounds.greatest(),
            _ => last.entry.bounds.least(),
        });
        let shared = |(a, b): (TreeKey<'_>, TreeKey<'_>)| {
            if a.0 == b.0 { a.1.iter().zip(b.1).take_while(|(a, b)| a == b).count() } else { 0 }
        };
        let mut run = Run { members: Vec::new(), from, skip: 0, firsts: Vec::new(), lasts: Vec::new() };
        run.skip = least(from).zip(last).map_or(0, shared);
        run.members = members;
        run.firsts = run.members.iter().map(|member| run.edge(member.entry.bounds.least())).collect();
        run.lasts = run.members.iter().map(|member| run.edge(member.entry.bounds.greatest())).collect();
        run
    }

    /// What all keys of [`Run::shares`] have in common.
    fn front(&self) -> TreeKey<'_> {
        self.members.get(self.from).map_or((KeyspaceId(0), &[]), |member| {
            let (keyspace, key) = member.entry.bounds.least();
            (keyspace, &key[..self.skip])
        })
    }

    /// Whether a key's number tells where it stands.
    #[inline]
    fn shares(&self, key: TreeKey<'_>) -> bool {
        let front = self.front();
        self.skip == 0 || (key.0 == front.0 && key.1.starts_with(front.1))
    }

    /// The number of a first or last key; of one without what is shared one before or behind all that have it.
    fn edge(&self, key: TreeKey<'_>) -> u128 {
        match key {
            key if self.shares(key) => number(key, self.skip),
            key if key < self.front() => 0,
            _ => u128::MAX,
        }
    }

    /// Those of its tables that are among these; none when none is.
    pub(crate) fn only(&self, numbers: &BTreeSet<u64>) -> Option<Run<D>> {
        let chosen = self.members.iter().filter(|member| numbers.contains(&member.entry.place.number));
        let chosen: Vec<_> = chosen.cloned().collect();
        (!chosen.is_empty()).then(|| Run::new(chosen))
    }

    pub(crate) fn members(&self) -> &[Member<D>] {
        &self.members
    }

    /// The table that holds `key` if any does.
    #[inline]
    pub(crate) fn member_for(&self, key: TreeKey<'_>) -> Option<&Member<D>> {
        // Only of keys that share what is skipped does the rest tell the order.
        if !self.shares(key) {
            return self.member_by_keys(key, &self.members);
        }
        let wanted = number(key, self.skip);
        let behind = if self.firsts.len() <= COUNTED_MAX {
            self.firsts.iter().map(|first| usize::from(*first <= wanted)).sum()
        } else {
            self.firsts.partition_point(|first| *first <= wanted)
        };
        let at = usize::checked_sub(behind, 1)?;
        if self.firsts[at] < wanted && wanted < self.lasts[at] {
            return Some(&self.members[at]);
        }
        let equal = self.firsts[..behind].iter().rev().take_while(|first| **first == wanted).count();
        // The one before those that begin alike may go on into them.
        self.member_by_keys(key, &self.members[(behind - equal).saturating_sub(1)..behind])
    }

    /// The same among some of its tables, by whole keys.
    fn member_by_keys<'r>(&'r self, key: TreeKey<'_>, members: &'r [Member<D>]) -> Option<&'r Member<D>> {
        let behind = members.partition_point(|member| member.entry.bounds.least() <= key);
        let member = &members[behind.checked_sub(1)?];
        member.entry.bounds.cover(key).then_some(member)
    }
}

/// Walks a run.
pub(crate) struct RunScan<D: Disk> {
    run: Arc<Run<D>>,
    span: Arc<Span>,
    way: Way,
    /// Where the first blocks of each table are looked for.
    near: Option<Arc<dyn Near>>,
    /// Members already walked.
    done: usize,
    scan: Option<TableScan<D>>,
}

impl<D: Disk> RunScan<D> {
    /// Before the first record of a span, seen in this direction; it ends in the last table that has any of it.
    pub(crate) fn new(run: Arc<Run<D>>, span: Arc<Span>, way: Way) -> RunScan<D> {
        RunScan { run, span, way, near: None, done: 0, scan: None }
    }

    /// The same, looking for the first blocks of each table in `near`.
    pub(crate) fn near(self, near: Arc<dyn Near>) -> RunScan<D> {
        RunScan { near: Some(near), ..self }
    }

    #[inline]
    pub(crate) fn head(&self) -> Option<Head<'_>> {
        self.scan.as_ref()?.head()
    }

    #[inline]
    pub(crate) fn key(&self) -> Option<TreeKey<'_>> {
        self.scan.as_ref()?.key()
    }

    /// Whether what it stands at is a value, at a log time.
    #[inline]
    pub(crate) fn has_value(&self, log_time_ms: u64) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.has_value(log_time_ms))
    }

    /// The value it stands at, sharing the memory of what was read.
    pub(crate) fn value(&self) -> Option<Bytes> {
        self.scan.as_ref()?.value()
    }

    /// Goes on inside the block; false at its end, where it stays.
    #[inline]
    pub(crate) fn next_in_block(&mut self) -> bool {
        self.scan.as_mut().is_some_and(TableScan::next_in_block)
    }

    /// Goes one record on; false at the end.
    pub(crate) async fn next(&mut self) -> Result<bool, StorageError> {
        if let Some(scan) = &mut self.scan
            && (scan.next_in_block() || scan.next().await?)
        {
            return Ok(true);
        }
        while self.done < self.run.members.len() {
            let at = match self.way {
                Way::Up => self.done,
                Way::Down => self.run.members.len() - 1 - self.done,
            };
            self.done += 1;
            let member = &self.run.members[at];
            if !self.span.meets(member.entry.bounds.least(), member.entry.bounds.greatest()) {
                continue;
            }
            let table = member.table.as_ref().map_err(|error| error.as_ref().clone())?;
            let scan = TableScan::near(table.clone(), &self.span, self.way, self.near.clone()).await?;
            let any = scan.head().is_some();
            self.scan = Some(scan);
            if any {
                return Ok(true);
            }
        }
        self.scan = None;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::FaultDisk;
    use crate::manifest::Bounds;
    use crate::sst::TableId;
    use crate::sst::reader::TableRef;
    use proptest::prelude::*;

    type Key = (KeyspaceId, Vec<u8>);

    /// Of few letters and lengths, mostly behind a common beginning longer than what is looked at first.
    fn key() -> impl Strategy<Value = Key> {
        let letters = prop::collection::vec(prop_oneof![Just(0_u8), Just(b'a'), Just(b'b'), Just(255)], 0..4);
        let front = prop_oneof![Just(&b""[..]), Just(&b"common-front-"[..]), Just(&b"common-fronz-"[..])];
        let keyspace = prop_oneof![3 => Just(1_u32), 1 => Just(2)];
        (keyspace, front, letters)
            .prop_map(|(keyspace, front, letters)| (KeyspaceId(keyspace), [front, &letters].concat()))
    }

    fn laid(key: &Key) -> TreeKey<'_> {
        (key.0, &key.1)
    }

    fn run(edges: &[Key]) -> Run<FaultDisk> {
        let member = |(number, edge): (usize, &[Key])| {
            let bounds = Bounds::of(laid(&edge[0]), laid(&edge[edge.len() - 1]));
            let place = TableRef { id: TableId([0; 16]), number: number as u64, bytes: 0 };
            let gone = StorageError::Interrupted { what: "a table of this test" };
            Member { entry: Arc::new(TableEntry { place, level: 1, run: 1, bounds }), table: Err(Arc::new(gone)) }
        };
        Run::new(edges.chunks(2).enumerate().map(member).collect())
    }

    proptest! {
        #[test]
        fn a_key_is_in_the_table_that_whole_keys_tell(
            edges in prop::collection::btree_set(key(), 1..60),
            keyspace in any::<bool>(),
            names in 0..4_usize,
            probes in prop::collection::vec(key(), 1..40),
        ) {
            let one = |key: &Key| keyspace || key.0 == KeyspaceId(1);
            let mut edges: Vec<Key> = edges.into_iter().filter(one).collect();
            // The first ones in a keyspace of their own.
            let all = edges.len();
            edges.iter_mut().take(names.min(all)).for_each(|edge| edge.0 = KeyspaceId(0));
            edges.sort();
            prop_assume!(!edges.is_empty());
            let run = run(&edges);
            for probe in probes.iter().chain(&edges) {
                let cover = |member: &&Member<FaultDisk>| member.entry.bounds.cover(laid(probe));
                let expected = run.members().iter().find(cover).map(|member| member.entry.place.number);
                let got = run.member_for(laid(probe)).map(|member| member.entry.place.number);
                prop_assert_eq!(got, expected, "{:?} in {:?}", probe, &edges);
            }
        }
    }
}
