//! Reading entries back while the log runs: for followers that are behind.

use super::Log;
use super::index::{Place, Span};
use super::record::{Assembler, Piece, pieces};
use super::segment::Handle;
use super::segment::batch::{self, BATCH_BYTES_MAX, Batch, Opened, PAGE_BYTES};
use super::segment::sector::Seed;
use crate::disk::{Disk, DiskBuf};
use crate::error::StorageError;
use ringkv_wire::entry::Entry;
use ringkv_wire::ids::ShardId;
use std::rc::Rc;

/// Read at once, so that small batches in a row cost one operation.
const WINDOW_BYTES: u64 = 128 << 10;

/// A part of one segment, in memory. Holding it keeps the segment from being recycled.
struct Window<F> {
    handle: Rc<Handle<F>>,
    offset: u64,
    buf: DiskBuf,
    got: usize,
}

impl<F> Window<F> {
    fn at(&self, segment: u64, offset: u64) -> Option<&[u8]> {
        let within = offset.checked_sub(self.offset).filter(|_| self.handle.sequence == segment)?;
        self.buf.get(..self.got)?.get(within as usize..).filter(|bytes| bytes.len() >= PAGE_BYTES)
    }
}

pub(crate) async fn read_entries<D: Disk>(
    log: Log<D>,
    shard: ShardId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<Entry>, StorageError> {
    let spans: Vec<Span> = {
        let state = log.shared.state.borrow();
        let Some(shard) = state.mirror.shards.get(&shard) else { return Ok(Vec::new()) };
        let durable = state.durable;
        // Bounded work: small entries in many batches are answered in several calls.
        shard.spans_from(from).take_while(|span| span.done <= durable).take(max_bytes / PAGE_BYTES + 64).collect()
    };
    let seed = log.shared.state.borrow().stream.seed;
    let mut reader = Reader { seed, log, window: None };
    let (mut out, mut bytes) = (Vec::new(), 0);
    for span in spans {
        let Some(entries) = reader.span(shard, span).await? else { break };
        for entry in entries.into_iter().filter(|entry| entry.index >= from) {
            bytes += entry.encoded_bytes();
            if bytes > max_bytes && !out.is_empty() {
                return Ok(out);
            }
            out.push(entry);
        }
    }
    Ok(out)
}

struct Reader<D: Disk> {
    log: Log<D>,
    seed: Seed,
    window: Option<Window<D::File>>,
}

impl<D: Disk> Reader<D> {
    /// The entries of one span; `None` when its segment was recycled meanwhile.
    async fn span(&mut self, shard: ShardId, span: Span) -> Result<Option<Vec<Entry>>, StorageError> {
        let mut assembler = Assembler::new();
        let mut out: Vec<Entry> = Vec::new();
        let mut place = span.at;
        loop {
            let Some(batch) = self.batch(place).await? else { return Ok(None) };
            let (next, number) = (place.offset + batch.bytes, batch.number);
            let split = pieces(batch.records, batch.count).map_err(|e| self.damaged(place, e.to_string()))?;
            for piece in split {
                let Piece::Fragment { first, last, bytes } = piece else { continue };
                let entry = assembler.feed(first, last, bytes, ()).map_err(|e| self.damaged(place, e.to_string()))?;
                let ours = entry.map(|(entry, ())| entry).filter(|entry| entry.shard == shard);
                if let Some(entry) = ours.filter(|entry| (span.first..=span.last).contains(&entry.index)) {
                    // The same batch may hold an entry and the one that replaced it.
                    out.retain(|earlier| earlier.index < entry.index);
                    out.push(entry);
                }
            }
            if number >= span.done {
                break;
            }
            place = self.after(place.segment, next, number + 1);
        }
        if out.len() as u64 == span.last - span.first + 1 {
            return Ok(Some(out));
        }
        Err(self.damaged(span.at, format!("{} entries", out.len())))
    }

    /// Where the batch behind the one that ends at `offset` stands.
    fn after(&self, segment: u64, offset: u64, number: u64) -> Place {
        let ended = self.log.shared.state.borrow().segments.get(&segment).is_some_and(|s| offset >= s.end);
        if ended { Place { segment: segment + 1, offset: 0, number } } else { Place { segment, offset, number } }
    }

    /// Reads and verifies one batch; `None` when its segment was recycled.
    async fn batch(&mut self, place: Place) -> Result<Option<Batch>, StorageError> {
        for bytes in [WINDOW_BYTES, BATCH_BYTES_MAX as u64] {
            let held = self.window.as_ref().is_some_and(|w| w.at(place.segment, place.offset).is_some());
            if (!held || bytes > WINDOW_BYTES) && !self.read(place, bytes).await? {
                return Ok(None);
            }
            let image = self.window.as_ref().and_then(|w| w.at(place.segment, place.offset)).unwrap_or_default();
            return match batch::open(image, place.offset, place.segment, self.seed) {
                Opened::Batch(batch) if batch.number == place.number => Ok(Some(batch)),
                Opened::More if bytes == WINDOW_BYTES => continue,
                Opened::Batch(batch) => Err(self.damaged(place, format!("batch {}", batch.number))),
                Opened::Broken { expected, got } => {
                    Err(self.damaged(place, format!("chain {got:#010x} instead of {expected:#010x}")))
                }
                _ => Err(self.damaged(place, "rot, or something else".to_owned())),
            };
        }
        Ok(None)
    }

    async fn read(&mut self, place: Place, wanted: u64) -> Result<bool, StorageError> {
        let (handle, end) = {
            let state = self.log.shared.state.borrow();
            let Some(segment) = state.segments.get(&place.segment) else { return Ok(false) };
            (segment.handle.clone(), segment.end)
        };
        let bytes = wanted.min(end.saturating_sub(place.offset));
        let (got, buf) =
            self.log.shared.disk.read_at(&handle.file, place.offset, DiskBuf::zeroed(bytes as usize)).await;
        self.window = Some(Window { handle, offset: place.offset, buf, got: got? });
        Ok(true)
    }

    fn damaged(&self, place: Place, got: String) -> StorageError {
        let path = self.window.as_ref().map(|window| window.handle.path.clone()).unwrap_or_default();
        StorageError::Damaged { path, offset: place.offset, expected: format!("batch {}", place.number), got }
    }
}
