//! Looking for rot before a reader meets it.

use crate::disk::Disk;
use crate::error::StorageError;
use crate::sst::damaged;
use crate::sst::reader::Table;
use crate::sst::scan::TableScan;
use std::sync::Arc;

/// Bytes behind the blocks that are compared at once.
const PIECE_BYTES: u64 = 128 << 10;

/// Reads about `bytes` bytes of the file from `offset`, which an earlier call gave or is 0, and checks them: blocks by their
/// checksums, all that is behind them against what was verified at opening. Answers where to go on, none at the end; damage is
/// remembered by the table.
pub async fn scrub_table<D: Disk>(table: &Arc<Table<D>>, offset: u64, bytes: u64) -> Result<Option<u64>, StorageError> {
    let (mut at, until) = (offset, offset.saturating_add(bytes));
    let first = table.index().map_or(0, |index| index.first_behind(offset));
    let mut scan = TableScan::starting_at(table.clone(), first);
    while at < until {
        let Some((place, _)) = scan.next_block().await? else { break };
        at = place.end();
    }
    while at < until {
        let left = table.place().bytes.saturating_sub(at);
        if left == 0 {
            return Ok(None);
        }
        let piece = left.min(PIECE_BYTES);
        if check_piece(table, at, piece as usize).await.is_err() {
            check_piece(table, at, piece as usize).await.inspect_err(|error| table.found_damaged(error))?;
        }
        at += piece;
    }
    Ok(Some(at))
}

/// Compares a piece without blocks with what it must be.
async fn check_piece<D: Disk>(table: &Table<D>, at: u64, bytes: usize) -> Result<(), StorageError> {
    let (got, expected) = (table.read_raw(at, bytes).await?, table.read_proved(at, bytes).await?);
    match got.iter().zip(&expected).position(|(a, b)| a != b) {
        None => Ok(()),
        Some(n) => {
            Err(damaged(table.path(), at + n as u64, format!("byte {:#04x}", expected[n]), format!("{:#04x}", got[n])))
        }
    }
}
