//! The durable side of a tree, swapped whole.

use crate::cache::{Blocks, Reader, Spot};
use crate::compaction::choose::{Choice, Facts, LAST_LEVEL, Policy, choose, debt_bytes};
use crate::compaction::pace::Weight;
use crate::disk::Disk;
use crate::engine::EngineState;
use crate::error::StorageError;
use crate::iter::Span;
use crate::manifest::{Flushed, TableEntry, TreeRecord};
use crate::sst::index::Seek;
use crate::sst::reader::{Found, Table, find_in};
use crate::sst::{NEVER_MS, Record};
use crate::tree::run::{Member, Run};
use crate::tree::{Lookup, Sought};
use std::sync::Arc;

/// Keys looked up side by side, most.
pub(crate) const SIDE_BY_SIDE: usize = 32;

/// What the manifest says of a tree, opened.
pub(crate) struct Version<D: Disk> {
    pub(crate) at: Option<Flushed>,
    /// Newest first: those of flushes, then the levels downwards.
    pub(crate) runs: Vec<Arc<Run<D>>>,
}

/// How far the search for a key has come.
#[derive(Clone, Copy, Default)]
pub(crate) enum Search<'c> {
    /// In none of the runs so far.
    #[default]
    Open,
    /// This record of a block.
    Found(Record<'c>),
    /// A block must be read, or an error told.
    Disk,
    /// Found before runs were looked at.
    Elsewhere,
}

/// What a look at memory comes to.
pub(crate) enum Look {
    /// All is told.
    Found(Found),
    /// A block must be read.
    Unread(Unread),
}

/// Where a look ended: a block that is not in the cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unread {
    run: usize,
    block: usize,
}

impl<D: Disk> Version<D> {
    /// Nothing was ever flushed.
    pub(crate) fn empty() -> Version<D> {
        Version { at: None, runs: Vec::new() }
    }

    /// Opens the tables of a record. One that is damaged stays closed: keys in its range that nothing newer answers are errors.
    pub(crate) async fn open(engine: &EngineState<D>, record: TreeRecord) -> Result<Version<D>, StorageError> {
        let mut members = Vec::with_capacity(record.tables.len());
        for entry in record.tables {
            let opened = match engine.open_table(entry.place).await {
                // As a block, it is believed to be damaged when it is so twice.
                Err(error) if error.is_damage() => engine.open_table(entry.place).await,
                opened => opened,
            };
            let (entry, table) = match opened {
                Ok(table) => (entry.known_by(table.properties()), Ok(table)),
                Err(error) if error.is_damage() => (entry, Err(Arc::new(error))),
                Err(error) => return Err(error),
            };
            members.push(Member { entry: Arc::new(entry), table });
        }
        Ok(Version::of(Some(record.at), members))
    }

    /// These tables, those of one run side by side, newest run first.
    pub(crate) fn of(at: Option<Flushed>, members: Vec<Member<D>>) -> Version<D> {
        let same = |a: &Member<D>, b: &Member<D>| (a.entry.level, a.entry.run) == (b.entry.level, b.entry.run);
        let mut runs = Vec::new();
        for run in members.chunk_by(same) {
            let (open, closed): (Vec<_>, Vec<_>) = run.iter().cloned().partition(|member| member.table.is_ok());
            // What is known of a closed one's keys may be cut: it must not stand in the way of its neighbours.
            runs.extend(closed.into_iter().map(|member| Arc::new(Run::new(vec![member]))));
            if !open.is_empty() {
                runs.push(Arc::new(Run::new(open)));
            }
        }
        Version { at, runs }
    }

    /// All tables, newest run first.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member<D>> {
        self.runs.iter().flat_map(|run| run.members())
    }

    /// The tables that are open.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table<D>>> {
        self.members().filter_map(|member| member.table.as_ref().ok())
    }

    /// The same without some tables, with others.
    pub(crate) fn with(&self, at: Option<Flushed>, gone: &[u64], fresh: Vec<Member<D>>) -> Version<D> {
        let kept = self.members().filter(|member| !gone.contains(&member.entry.place.number)).cloned();
        let mut members: Vec<_> = fresh.into_iter().chain(kept).collect();
        members.sort_by_key(|member| (member.entry.level, std::cmp::Reverse(member.entry.run)));
        Version::of(at, members)
    }

    /// A run number above all.
    pub(crate) fn next_run(&self) -> u64 {
        self.members().map(|member| member.entry.run).max().unwrap_or(0) + 1
    }

    /// What compaction needs to know.
    pub(crate) fn facts(&self) -> Vec<Facts<'_>> {
        self.members()
            .map(|member| {
                let (entry, properties) = (&member.entry, member.table.as_ref().map(|table| table.properties()));
                Facts {
                    number: entry.place.number,
                    level: entry.level,
                    run: entry.run,
                    bytes: entry.place.bytes,
                    tombstones: properties.map_or(0, |properties| properties.tombstones),
                    stale_ms: properties.map_or(NEVER_MS, |properties| properties.stale_ms()),
                    sound: member.is_sound(),
                    least: entry.bounds.least(),
                    greatest: entry.bounds.greatest(),
                }
            })
            .collect()
    }

    /// What the tables weigh.
    pub(crate) fn weight(&self, policy: &Policy) -> Weight {
        let bytes = |last: bool| {
            let these = self.members().filter(|member| !last || member.entry.level == LAST_LEVEL);
            these.map(|member| member.entry.place.bytes).sum::<u64>()
        };
        let (all, last) = (bytes(false), bytes(true));
        let mapped = self.tables().map(|table| table.mapped_bytes() as u64).sum();
        Weight { all, upper: all - last, debt: debt_bytes(&self.facts(), policy), mapped }
    }

    /// The log time that the tables reflect, ms: what has expired by then has no place in them.
    pub(crate) fn log_time_ms(&self) -> u64 {
        self.at.as_ref().map_or(0, |at| at.log_time_ms)
    }

    /// The most urgent merge, if any is wanted.
    pub(crate) fn choice(&self, policy: &Policy) -> Option<Choice> {
        choose(&self.facts(), &Policy { log_time_ms: self.log_time_ms(), ..*policy })
    }

    /// How many tables can be read.
    pub(crate) fn sound(&self) -> usize {
        self.members().filter(|member| member.is_sound()).count()
    }

    /// Looks keys up in filters and the block cache, side by side; those that are not `Open` are left alone. Each step is made for
    /// all keys before the next one: their memory comes together.
    pub(crate) fn search<'c, const N: usize>(
        &'c self,
        cache: &'c Reader<'_>,
        keys: &[Sought<'_>],
        found: &mut [Search<'c>; N],
    ) {
        for run in &self.runs {
            let mut tables = [None; N];
            for ((key, found), table) in keys.iter().zip(found.iter_mut()).zip(&mut tables) {
                if matches!(found, Search::Open) {
                    match table_for(run, *key) {
                        Ok(near) => *table = near,
                        Err(_) => *found = Search::Disk,
                    }
                }
            }
            for (key, table) in keys.iter().zip(&mut tables) {
                *table = table.filter(|near| near.may_contain(key.hash));
            }
            let blocks = in_indexes(keys, &tables);
            let mut spots = [None; N];
            for (((found, table), block), spot) in found.iter_mut().zip(tables).zip(blocks).zip(&mut spots) {
                let Some((table, block)) = table.zip(block) else { continue };
                match cache.get(table.in_cache(), block) {
                    Some(near) => *spot = Some(near.prefetched()),
                    None => *found = Search::Disk,
                }
            }
            let mut entries = [None; N];
            for (((key, found), spot), entry) in keys.iter().zip(found.iter_mut()).zip(spots).zip(&mut entries) {
                match spot.map(Spot::view) {
                    Some(Some(view)) => *entry = view.hint(key.hash).map(|at| (view, at)),
                    Some(None) => *found = Search::Disk,
                    None => {}
                }
            }
            for ((key, found), entry) in keys.iter().zip(found.iter_mut()).zip(&entries) {
                let Some((view, at)) = entry else { continue };
                if let Some((_, entry)) = view.find_from(*at, key.tree_key(), key.hash) {
                    *found = Search::Found(entry.record);
                }
            }
        }
    }

    /// Looks a key up, reading blocks where needed.
    pub(crate) async fn get(&self, cache: &impl Blocks, key: Sought<'_>) -> Result<Found, StorageError> {
        match self.look(0, cache, key)? {
            Look::Found(found) => Ok(found),
            Look::Unread(unread) => self.read_on(unread, cache, key).await,
        }
    }

    /// Looks a key up in memory, from a run on, as far as no block must be read.
    pub(crate) fn look(&self, from: usize, cache: &impl Blocks, key: Sought<'_>) -> Result<Look, StorageError> {
        for (run, tables) in self.runs.iter().enumerate().skip(from) {
            let Some(table) = table_for(tables, key).map_err(Clone::clone)? else { continue };
            let Some(number) = table.locate_inside(key.tree_key(), key.hash) else { continue };
            match cache.look(table.in_cache(), number, |view| find_in(view, key.tree_key(), key.hash)) {
                Some(Found::Nothing) => {}
                Some(found) => return Ok(Look::Found(found)),
                None => return Ok(Look::Unread(Unread { run, block: number })),
            }
        }
        Ok(Look::Found(Found::Nothing))
    }

    /// Goes on where a look at this key ended, reading blocks.
    pub(crate) async fn read_on(
        &self,
        mut unread: Unread,
        cache: &impl Blocks,
        key: Sought<'_>,
    ) -> Result<Found, StorageError> {
        loop {
            let table = table_for(&self.runs[unread.run], key).map_err(Clone::clone)?;
            if let Some(table) = table {
                let block = table.read_block(table.place_of(unread.block)?, cache).await?;
                match block.view().map(|view| find_in(view, key.tree_key(), key.hash)) {
                    Some(Found::Nothing) | None => {}
                    Some(found) => return Ok(found),
                }
            }
            match self.look(unread.run + 1, cache, key)? {
                Look::Found(found) => return Ok(found),
                Look::Unread(next) => unread = next,
            }
        }
    }

    /// What the manifest is to say.
    pub(crate) fn record(&self) -> TreeRecord {
        let tables: Vec<TableEntry> = self.members().map(|member| member.entry.as_ref().clone()).collect();
        TreeRecord { at: self.at.clone().unwrap_or_default(), tables }
    }

    /// Why keys of a span cannot all be told.
    pub(crate) fn closed_in(&self, span: &Span) -> Option<StorageError> {
        let meets = |member: &&Member<D>| span.meets(member.entry.bounds.least(), member.entry.bounds.greatest());
        self.members().filter(meets).find_map(|member| member.table.as_ref().err().map(|error| error.as_ref().clone()))
    }

    /// The first thing known to be wrong with any table.
    pub(crate) fn damage(&self) -> Option<StorageError> {
        self.members().find_map(|member| member.damage())
    }

    /// The manifest no longer names some tables: their files go, those that are read when their last reader has gone.
    pub(crate) fn doom(&self, engine: &EngineState<D>, gone: impl Fn(u64) -> bool) {
        for member in self.members().filter(|member| gone(member.entry.place.number)) {
            match &member.table {
                Ok(table) => table.doom(),
                Err(_) => engine.trash.push(engine.table_path(member.entry.place.number)),
            }
        }
    }
}

/// The table of a run that holds a key if any does; why it is closed when it is.
#[inline]
fn table_for<'c, D: Disk>(run: &'c Run<D>, key: Sought<'_>) -> Result<Option<&'c Table<D>>, &'c StorageError> {
    let Some(member) = run.member_for(key.tree_key()) else { return Ok(None) };
    member.table.as_ref().map(|table| Some(table.as_ref())).map_err(Arc::as_ref)
}

/// The blocks of these tables that may hold keys.
#[inline]
fn in_indexes<D: Disk, const N: usize>(keys: &[Sought<'_>], tables: &[Option<&Table<D>>; N]) -> [Option<usize>; N] {
    let mut seeks = [None; N];
    for ((key, table), seek) in keys.iter().zip(tables).zip(&mut seeks) {
        *seek = table.and_then(|table| table.index()).and_then(|index| index.seek(key.tree_key()));
    }
    seeks.iter_mut().flatten().for_each(Seek::enter);
    let mut blocks = [None; N];
    for (((key, table), seek), block) in keys.iter().zip(tables).zip(&seeks).zip(&mut blocks) {
        let Some(table) = table else { continue };
        let whole = || table.index().and_then(|index| index.find(key.tree_key()));
        *block = seek.as_ref().and_then(Seek::number).or_else(whole);
        block.iter().for_each(|block| table.in_cache().1.prefetch(*block));
    }
    blocks
}

impl Search<'_> {
    /// What is told of it.
    #[inline]
    pub(crate) fn lookup(&self, log_time_ms: u64) -> Lookup<'_> {
        match self {
            Search::Found(record) => Lookup::of(*record, log_time_ms),
            Search::Disk => Lookup::Disk,
            Search::Open | Search::Elsewhere => Lookup::Absent,
        }
    }
}
