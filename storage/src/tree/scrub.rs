//! A slow walk over all tables of a tree, to find rot that nobody reads.

use crate::disk::Disk;
use crate::sst::scrub::scrub_table;
use crate::tree::Tree;

/// Where a walk over a tree's tables goes on: by file number, and by offset in that file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScrubPlace {
    table: u64,
    offset: u64,
}

impl<D: Disk> Tree<D> {
    /// Checks the next `bytes` bytes or so, at most to the end of a table. Answers where to go on and how many bytes were
    /// read; no place when all tables have been walked. What is wrong is found in [`Tree::damage`] afterwards, and that table
    /// is left alone.
    pub fn scrub(&self, from: ScrubPlace, bytes: u64) -> impl Future<Output = (Option<ScrubPlace>, u64)> + 'static {
        let version = self.state.version();
        async move {
            let behind = |number: u64| number >= from.table;
            let tables = version.tables().filter(|table| behind(table.place().number) && table.damage().is_none());
            let Some(table) = tables.min_by_key(|table| table.place().number) else { return (None, 0) };
            let number = table.place().number;
            let offset = if number == from.table { from.offset } else { 0 };
            match scrub_table(table, offset, bytes).await {
                Ok(Some(next)) => (Some(ScrubPlace { table: number, offset: next }), next - offset),
                Ok(None) => (Some(ScrubPlace { table: number + 1, offset: 0 }), table.place().bytes - offset),
                Err(_) => (Some(ScrubPlace { table: number + 1, offset: 0 }), bytes),
            }
        }
    }
}
