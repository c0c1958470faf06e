//! Bytes of a table for somebody else: proved before they leave, so that rot does not travel.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::sst::damaged;
use crate::sst::footer::FOOTER_BYTES;
use crate::sst::index::BlockPlace;
use crate::sst::reader::Table;
use bytes::Bytes;

/// A larger block would be read again for each of its many pieces: who receives it proves it.
const BLOCK_BYTES_MAX: u32 = 1 << 20;

impl<D: Disk> Table<D> {
    /// Bytes of the file from `offset`, as they were written: blocks are read and verified, index, filter and properties come
    /// from memory, where they were verified, the footer is made again. What fails twice is remembered as damage. A range
    /// behind the file's end is an error.
    pub async fn read_proved(&self, offset: u64, bytes: usize) -> Result<Bytes, StorageError> {
        let end = offset.saturating_add(bytes as u64);
        if end > self.place().bytes {
            return Err(damaged(
                self.path(),
                offset,
                format!("{bytes} bytes"),
                format!("{} in all", self.place().bytes),
            ));
        }
        let mut out = vec![0; bytes];
        lay(&mut out, offset, self.footer().index.range.start, self.sections());
        lay(&mut out, offset, self.place().bytes - FOOTER_BYTES as u64, &self.footer().encode());
        let places = self.blocks_in(offset, end);
        if self.read_blocks(&places, offset, &mut out).await.is_err() {
            let again = self.read_blocks(&places, offset, &mut out).await;
            again.inspect_err(|error| self.found_damaged(error))?;
        }
        Ok(Bytes::from(out))
    }

    /// The blocks that have bytes in `offset..end`.
    fn blocks_in(&self, offset: u64, end: u64) -> Vec<BlockPlace> {
        let Some(index) = self.index() else { return Vec::new() };
        let places = (index.first_behind(offset)..).map_while(|number| index.place(number));
        places.take_while(|place| place.offset < end).collect()
    }

    async fn read_blocks(&self, places: &[BlockPlace], offset: u64, out: &mut [u8]) -> Result<(), StorageError> {
        for place in places {
            if place.bytes > BLOCK_BYTES_MAX {
                let start = place.offset.max(offset);
                let wanted = place.end().min(offset + out.len() as u64) - start;
                lay(out, offset, start, &self.read_raw(start, wanted as usize).await?);
                continue;
            }
            let bytes = self.read_raw(place.offset, place.bytes as usize).await?;
            lay(out, offset, place.offset, &bytes);
            self.verify_block(bytes, *place)?;
        }
        Ok(())
    }
}

/// Copies into `out`, which begins at `out_at` of the file, what it has room for of `bytes`, which begin at `bytes_at`.
fn lay(out: &mut [u8], out_at: u64, bytes_at: u64, bytes: &[u8]) {
    let start = out_at.max(bytes_at);
    let end = (out_at + out.len() as u64).min(bytes_at + bytes.len() as u64);
    if start < end {
        let (to, from) = ((start - out_at) as usize, (start - bytes_at) as usize);
        let count = (end - start) as usize;
        out[to..to + count].copy_from_slice(&bytes[from..from + count]);
    }
}
