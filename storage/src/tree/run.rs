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
    /// Bytes that all first keys but the very first share, and what the first keys have behind them.
    skip: usize,
    firsts: Vec<(u32, u64)>,
}

impl<D: Disk> Run<D> {
    /// These tables, in any order.
    pub(crate) fn new(mut members: Vec<Member<D>>) -> Run<D> {
        members.sort_by(|a, b| a.entry.bounds.least().cmp(&b.entry.bounds.least()));
        let keys = || members.iter().map(|member| member.entry.bounds.least());
        let shared = |(a, b): (TreeKey<'_>, TreeKey<'_>)| {
            if a.0 == b.0 { a.1.iter().zip(b.1).take_while(|(a, b)| a == b).count() } else { 0 }
        };
        let skip = keys().next().zip(keys().next_back()).map_or(0, shared);
        let firsts = keys().map(|key| (key.0.0, prefix(key.1, skip))).collect();
        Run { members, skip, firsts }
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
        if let [only] = &self.members[..] {
            return only.entry.bounds.cover(key).then_some(only);
        }
        let first = self.members.first()?.entry.bounds.least();
        let begins_before = |member: &Member<D>| member.entry.bounds.least() <= key;
        // Only of keys that share what is skipped does the rest tell the order.
        let behind = if key.0 == first.0 && key.1.get(..self.skip) == Some(&first.1[..self.skip]) {
            let wanted = (key.0.0, prefix(key.1, self.skip));
            let below = self.firsts.partition_point(|first| *first < wanted);
            let equal = self.firsts[below..].iter().take_while(|first| **first == wanted).count();
            below + self.members[below..below + equal].partition_point(begins_before)
        } else {
            self.members.partition_point(begins_before)
        };
        let member = &self.members[behind.checked_sub(1)?];
        member.entry.bounds.cover(key).then_some(member)
    }
}

/// Walks a run.
pub(crate) struct RunScan<D: Disk> {
    run: Arc<Run<D>>,
    span: Span,
    way: Way,
    /// Where the first blocks of each table are looked for.
    near: Option<Arc<dyn Near>>,
    /// Members already walked.
    done: usize,
    scan: Option<TableScan<D>>,
}

impl<D: Disk> RunScan<D> {
    /// Before the first record of a span, seen in this direction; it ends in the last table that has any of it.
    pub(crate) fn new(run: Arc<Run<D>>, span: Span, way: Way) -> RunScan<D> {
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
