//! RocksDB, an installed library. Its log is on and gets a write call a put, not synced; `sync` is set for the batches of
//! the synced row. Compaction is its default, leveled, with two background jobs; filters of 10 bits a key; filters and
//! indexes live in the block cache, so that all that is kept of tables is within one budget, as it is with the others.
//! Direct reads are on in the row that reads from disk, and off elsewhere: there all engines may use the page cache.

use super::{Counted, Peer};
use crate::data::Key;
use crate::error::Failed;
use crate::row::Row;
use crate::turn::{Compression, Turn};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, Options, WriteBatch, WriteOptions};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BACKGROUND_JOBS: i32 = 2;
const FILTER_BITS: f64 = 10.0;
/// What it has begun or means to begin; all must be zero.
const BUSY: [&str; 4] = [
    "rocksdb.mem-table-flush-pending",
    "rocksdb.num-running-flushes",
    "rocksdb.compaction-pending",
    "rocksdb.num-running-compactions",
];
/// Between two of its jobs it may look idle.
const QUIET: Duration = Duration::from_millis(100);
/// What begins an event in its own record of what it does.
const EVENT: &str = "EVENT_LOG_v1 ";

struct Rocks {
    db: DB,
    dir: PathBuf,
    synced: WriteOptions,
    marked_micros: u64,
}

/// Opens it.
pub fn open(turn: &Turn) -> Result<Box<dyn Peer>, Failed> {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(&Cache::new_lru_cache(turn.cache_bytes as usize)?);
    tables.set_bloom_filter(FILTER_BITS, false);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(turn.write_buffer_bytes as usize);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_block_based_table_factory(&tables);
    options.set_use_direct_reads(turn.row == Row::GetDisk);
    options.set_compression_type(match turn.compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
    });
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let db = DB::open(&options, &turn.dir)?;
    Ok(Box::new(Rocks { db, dir: turn.dir.clone(), synced, marked_micros: 0 }))
}

impl Peer for Rocks {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Failed> {
        Ok(self.db.put(key, value)?)
    }

    fn put_synced(&mut self, entries: &[(Key, &[u8])]) -> Result<(), Failed> {
        let mut batch = WriteBatch::default();
        entries.iter().for_each(|(key, value)| batch.put(key, value));
        Ok(self.db.write_opt(batch, &self.synced)?)
    }

    fn get(&mut self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<(), Failed> {
        if let Some(value) = self.db.get_pinned(key)? {
            found(&value);
        }
        Ok(())
    }

    fn scan(&mut self, from: &[u8], most: usize, seen: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), Failed> {
        let mut entries = self.db.raw_iterator();
        entries.seek(from);
        for _ in 0..most {
            let Some((key, value)) = entries.item() else { break };
            seen(key, value);
            entries.next();
        }
        Ok(entries.status()?)
    }

    fn flush(&mut self) -> Result<(), Failed> {
        Ok(self.db.flush()?)
    }

    fn is_busy(&mut self) -> Result<bool, Failed> {
        for property in BUSY {
            if self.db.property_int_value(property)?.is_some_and(|jobs| jobs > 0) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn quiet(&self) -> Duration {
        QUIET
    }

    fn mark(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.marked_micros = now.as_micros() as u64;
    }

    fn close(self: Box<Self>) -> Result<Counted, Failed> {
        let Rocks { db, dir, synced: _, marked_micros } = *self;
        // Its record is whole when it is closed.
        drop(db);
        counted(&dir, marked_micros)
    }
}

/// What its record says of flushes and compactions since a time. (Its statistics would say so too, but counting them costs
/// it part of what is measured.)
fn counted(dir: &Path, since_micros: u64) -> Result<Counted, Failed> {
    let (mut created, mut compacted) = (0, 0);
    for event in fs::read_to_string(dir.join("LOG"))?.lines().filter_map(|line| line.split_once(EVENT)) {
        let event: Value = serde_json::from_str(event.1)?;
        let number = |name: &str| event.get(name).and_then(Value::as_u64).unwrap_or_default();
        if number("time_micros") < since_micros {
            continue;
        }
        match event.get("event").and_then(Value::as_str) {
            Some("table_file_creation") => created += number("file_size"),
            Some("compaction_finished") => compacted += number("total_output_size"),
            _ => {}
        }
    }
    let flushed = created.checked_sub(compacted).ok_or("its record tells of more compacted than created")?;
    Ok(Counted { flushed_bytes: Some(flushed), compacted_bytes: Some(compacted), log_bytes: None })
}
