//! An open table: point lookups over its mapped index and filter, blocks read when needed.

use crate::cache::{Blocks, Places};
use crate::disk::{ALIGN, Disk, DiskBuf, Mapped, OpenMode};
use crate::error::{DiskError, StorageError};
use crate::sst::block::{Block, compression_of};
use crate::sst::compress::Compression;
use crate::sst::filter::Filter;
use crate::sst::footer::{FOOTER_BYTES, Footer, Section};
use crate::sst::guide::Guide;
use crate::sst::index::{BlockPlace, Index, shared_bytes};
use crate::sst::properties::Properties;
use crate::sst::view::View;
use crate::sst::{TableId, TreeKey, Value, damaged, old};
use bytes::Bytes;
use std::cell::RefCell;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the manifest knows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRef {
    /// Its id.
    pub id: TableId,
    /// The number in its file's name.
    pub number: u64,
    /// The file's length.
    pub bytes: u64,
}

/// The name of table file `number`, in its directory.
pub fn table_name(number: u64) -> String {
    format!("{number:016x}.sst")
}

/// The number in a table file's name.
pub fn table_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".sst").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Files to be removed once nobody reads them.
#[derive(Clone, Debug, Default)]
pub struct Trash(Arc<Mutex<Vec<String>>>);

impl Trash {
    /// One more.
    pub fn push(&self, path: String) {
        self.locked().push(path);
    }

    /// Several more.
    pub fn extend(&self, paths: impl Iterator<Item = String>) {
        self.locked().extend(paths);
    }

    /// Takes all.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.locked())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.locked().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An open table, shared by its readers.
pub struct Table<D: Disk> {
    disk: D,
    file: D::File,
    known: Arc<Known>,
    trash: Trash,
    doomed: AtomicBool,
}

/// What is known of an open table without its disk: the same for readers on other threads, each with a file of their own.
pub struct Known {
    path: String,
    place: TableRef,
    /// Tells it from every other table of this process in the block cache.
    handle: u64,
    /// Where its blocks are there.
    places: Arc<Places>,
    footer: Footer,
    /// Index, filter and properties as they stand in the file.
    sections: Mapped,
    properties: Properties,
    /// Of a version 1 table: its index as it would be laid today.
    old_index: Option<Vec<u8>>,
    guide: Guide,
    /// The first thing found wrong with its bytes.
    damage: OnceLock<StorageError>,
}

impl<D: Disk> Drop for Table<D> {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Relaxed) {
            self.trash.push(self.known.path.clone());
        }
    }
}

impl<D: Disk> Deref for Table<D> {
    type Target = Known;
    fn deref(&self) -> &Known {
        &self.known
    }
}

/// What a block says of a key.
#[derive(Clone, Debug)]
pub enum Found {
    /// This version.
    Value(Value),
    /// Deleted here.
    Deleted,
    /// Not in it.
    Nothing,
}

impl Found {
    /// The value, if there is one.
    pub fn value(self) -> Option<Value> {
        match self {
            Found::Value(value) => Some(value),
            Found::Deleted | Found::Nothing => None,
        }
    }
}

impl<D: Disk> Table<D> {
    /// Opens the table at `path`, checking footer, index, filter and properties. `handle` is its number in the block cache;
    /// `trash` takes its name when it is doomed and dropped.
    pub async fn open(
        disk: D,
        path: String,
        place: TableRef,
        handle: u64,
        trash: Trash,
    ) -> Result<Arc<Table<D>>, StorageError> {
        let file = match disk.open(&path, OpenMode::Read).await {
            Err(DiskError::NotFound { .. }) => return Err(damaged(&path, 0, format!("table {}", place.id), "no file")),
            file => file?,
        };
        let bytes = disk.size(&file).await?;
        if bytes != place.bytes || bytes < ALIGN as u64 || !bytes.is_multiple_of(ALIGN as u64) {
            return Err(damaged(&path, bytes, format!("{} bytes", place.bytes), format!("{bytes} bytes")));
        }
        let last = read_span(&disk, &file, &path, bytes - FOOTER_BYTES as u64, FOOTER_BYTES).await?;
        let footer = Footer::decode(&last, bytes, &path)?;
        if footer.id != place.id {
            return Err(damaged(
                &path,
                bytes - FOOTER_BYTES as u64,
                format!("table {}", place.id),
                format!("table {}", footer.id),
            ));
        }
        let sections = map_sections(&disk, &file, &path, &footer).await?;
        let properties = section(&sections, &footer, &footer.properties).and_then(Properties::decode);
        let skips = |properties: &Properties| footer.skip <= shared_bytes(properties.least(), properties.greatest());
        let Some(properties) = properties.filter(skips) else {
            return Err(damaged(&path, footer.properties.range.start, "properties", "none"));
        };
        let old_index = if footer.version > 1 { None } else { old_index(&sections, &footer) };
        let (damage, places) = (OnceLock::new(), Arc::new(Places::new(footer.blocks as usize)));
        let guide = Guide::default();
        let mut known = Known { path, place, handle, places, footer, sections, properties, old_index, guide, damage };
        known.guide = known.index().map(|index| index.guide()).unwrap_or_default();
        Ok(Arc::new(Table { disk, file, known: Arc::new(known), trash, doomed: AtomicBool::new(false) }))
    }

    /// The same table through a file that another disk opened at its path. It never takes part in removing it.
    pub(crate) fn through<E: Disk>(&self, disk: E, file: E::File) -> Arc<Table<E>> {
        let (known, trash) = (self.known.clone(), Trash::default());
        Arc::new(Table { disk, file, known, trash, doomed: AtomicBool::new(false) })
    }

    /// The manifest no longer names it: its file goes when its last reader has gone.
    pub fn doom(&self) {
        self.doomed.store(true, Ordering::Relaxed);
    }

    /// Reads a block, verifies it, and keeps it in `cache`. One that fails is read once more: the disk may have given the
    /// wrong bytes of a sound file. What fails twice is remembered as damage.
    pub async fn read_block(&self, place: BlockPlace, cache: &impl Blocks) -> Result<Block, StorageError> {
        let block = match self.read_once(place).await {
            Ok(block) => block,
            Err(_) => self.read_once(place).await.inspect_err(|error| self.found_damaged(error))?,
        };
        cache.insert((self.handle, &self.places), place.number, &block);
        Ok(block)
    }

    async fn read_once(&self, place: BlockPlace) -> Result<Block, StorageError> {
        let bytes = self.read_raw(place.offset, place.bytes as usize).await?;
        self.verify_block(bytes, place)
    }

    /// How a block was made smaller. It is read and verified past the block cache, once: a failure is told and forgotten.
    pub async fn compression_of(&self, place: BlockPlace) -> Result<Compression, StorageError> {
        let bytes = self.read_raw(place.offset, place.bytes as usize).await?;
        self.verify_block(bytes.clone(), place)?;
        // Version 1 stored blocks as they were.
        let stored = (self.footer.version > 1).then(|| compression_of(&bytes));
        Ok(stored.flatten().unwrap_or_default())
    }

    /// Bytes of the file, unverified. A range behind the file's end is damage.
    pub async fn read_raw(&self, offset: u64, bytes: usize) -> Result<Bytes, StorageError> {
        read_span(&self.disk, &self.file, &self.path, offset, bytes).await
    }
}

impl Known {
    /// Id, file number, length.
    pub fn place(&self) -> TableRef {
        self.place
    }
    /// The file's path.
    pub fn path(&self) -> &str {
        &self.path
    }
    /// What it holds, in numbers.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }
    /// Bytes mapped, and of what makes searches in them shorter.
    pub fn mapped_bytes(&self) -> usize {
        self.sections.len() + self.guide.bytes()
    }
    /// Index, filter and properties, as one piece, verified when it was opened.
    pub(crate) fn sections(&self) -> &[u8] {
        &self.sections
    }
    /// Where the blocks end and the index starts.
    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }
    /// What was found wrong with its bytes, if anything was: merges leave it alone.
    pub fn damage(&self) -> Option<StorageError> {
        self.damage.get().cloned()
    }
    /// Whether something was found wrong with its bytes.
    pub fn is_damaged(&self) -> bool {
        self.damage.get().is_some()
    }
    /// Remembers an error that a second try gave again, if it is damage and the first one.
    pub(crate) fn found_damaged(&self, error: &StorageError) {
        if error.is_damage() {
            self.damage.get_or_init(|| error.clone());
        }
    }

    /// The index.
    #[inline]
    pub fn index(&self) -> Option<Index<'_>> {
        let section = match &self.old_index {
            Some(made) => made,
            None => section(&self.sections, &self.footer, &self.footer.index)?,
        };
        Some(Index::new(section, self.footer.blocks as usize, self.footer.skip)?.guided(&self.guide))
    }
    /// The filter, if it has one.
    pub fn filter(&self) -> Option<Filter<'_>> {
        Filter::new(section(&self.sections, &self.footer, &self.footer.filter)?, self.footer.pieces)
    }

    /// Where a block stands.
    pub(crate) fn place_of(&self, number: usize) -> Result<BlockPlace, StorageError> {
        let place = self.index().and_then(|index| index.place(number));
        place.ok_or_else(|| damaged(&self.path, self.footer.index.range.start, format!("block {number}"), "none"))
    }

    /// The number of the block that may hold `key`, whose hash is `hash`; none when the table surely has no such key.
    pub fn locate(&self, key: TreeKey<'_>, hash: u64) -> Option<usize> {
        if self.properties.covers(key) { self.locate_inside(key, hash) } else { None }
    }

    /// The same of a key that is known to lie between the table's least and greatest.
    #[inline]
    pub(crate) fn locate_inside(&self, key: TreeKey<'_>, hash: u64) -> Option<usize> {
        if self.may_contain(hash) { self.index()?.find(key) } else { None }
    }

    /// How whoever keeps its blocks knows it.
    pub(crate) fn kept_as(&self) -> (u64, &Arc<Places>) {
        (self.handle, &self.places)
    }

    /// How the block cache knows it.
    #[inline]
    pub(crate) fn in_cache(&self) -> (u64, &Places) {
        (self.handle, &self.places)
    }

    /// Whether it may hold a key of this hash.
    #[inline]
    pub(crate) fn may_contain(&self, hash: u64) -> bool {
        self.filter().is_none_or(|filter| filter.may_contain(self.place.id.filter_hash(hash)))
    }

    /// The block whose bytes these are.
    pub(crate) fn verify_block(&self, bytes: Bytes, place: BlockPlace) -> Result<Block, StorageError> {
        match self.footer.version {
            1 => old::verify(&bytes, &self.place.id, place.offset, &self.path),
            _ => Block::verify(bytes, &self.place.id, place.offset, &self.path),
        }
    }
}

/// Looks `key` up in the block that holds it if any does.
pub fn find_in(block: View<'_>, key: TreeKey<'_>, hash: u64) -> Found {
    let Some(entry) = block.find(key, hash) else { return Found::Nothing };
    entry.record.to_value().map_or(Found::Deleted, Found::Value)
}

/// The bytes of `section`, when `sections` holds index, filter and properties of `footer`.
fn section<'m>(sections: &'m [u8], footer: &Footer, section: &Section) -> Option<&'m [u8]> {
    let start = section.range.start.checked_sub(footer.index.range.start)?;
    let end = section.range.end.checked_sub(footer.index.range.start)?;
    sections.get(start as usize..end as usize)
}

/// The index of a version 1 table as it would be laid today.
fn old_index(sections: &[u8], footer: &Footer) -> Option<Vec<u8>> {
    old::index(section(sections, footer, &footer.index)?, footer.blocks as usize)
}

/// Maps index, filter and properties in one piece and verifies them.
async fn map_sections<D: Disk>(disk: &D, file: &D::File, path: &str, footer: &Footer) -> Result<Mapped, StorageError> {
    let problem = RefCell::new(None);
    let verify = |bytes: &[u8]| {
        *problem.borrow_mut() = problem_of(bytes, footer, path);
        problem.borrow().is_none()
    };
    let mapped = disk.map(file, footer.index.range.start..footer.properties.range.end, &verify).await;
    match (mapped, problem.into_inner()) {
        (Ok(mapped), _) => Ok(mapped),
        (Err(DiskError::Section { .. }), Some(problem)) => Err(problem),
        (Err(error), _) => Err(error.into()),
    }
}

fn problem_of(bytes: &[u8], footer: &Footer, path: &str) -> Option<StorageError> {
    for wanted in [&footer.index, &footer.filter, &footer.properties] {
        let Some(part) = section(bytes, footer, wanted) else {
            return Some(damaged(path, wanted.range.start, "a section", format!("{} bytes", bytes.len())));
        };
        let crc = footer.id.checksum(wanted.range.start, part);
        if crc != wanted.crc {
            let expected = format!("crc {:#010x}", wanted.crc);
            return Some(damaged(path, wanted.range.start, expected, format!("{crc:#010x}")));
        }
    }
    let made = if footer.version > 1 { None } else { old_index(bytes, footer) };
    let part = made.as_deref().or_else(|| section(bytes, footer, &footer.index));
    let index = part.and_then(|part| Index::new(part, footer.blocks as usize, footer.skip));
    if !index.is_some_and(|index| index.verify(footer.blocks_bytes)) {
        return Some(damaged(path, footer.index.range.start, "an index in order", "none"));
    }
    let filter = section(bytes, footer, &footer.filter).and_then(|part| Filter::new(part, footer.pieces));
    if footer.pieces > 0 && !filter.is_some_and(|filter| filter.verify()) {
        return Some(damaged(path, footer.filter.range.start, "filter descriptors in range", "others"));
    }
    None
}

struct Owned(DiskBuf);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Reads `bytes` at `offset`, neither aligned; the answer shares the memory of the pages read.
pub(crate) async fn read_span<D: Disk>(
    disk: &D,
    file: &D::File,
    path: &str,
    offset: u64,
    bytes: usize,
) -> Result<Bytes, StorageError> {
    let start = offset / ALIGN as u64 * ALIGN as u64;
    let skip = (offset - start) as usize;
    let (read, buf) = disk.read_at(file, start, DiskBuf::for_reading(skip + bytes)).await;
    let got = read?;
    if got < skip + bytes {
        return Err(damaged(path, offset, format!("{bytes} bytes"), format!("{} bytes", got.saturating_sub(skip))));
    }
    Ok(Bytes::from_owner(Owned(buf)).slice(skip..skip + bytes))
}
