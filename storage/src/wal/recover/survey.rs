//! Which segments are born, and which of them make the log.

use super::image::{Image, Source};
use crate::disk::Disk;
use crate::error::StorageError;
use crate::wal::record::{Cut, Logged, Piece, pieces};
use crate::wal::segment::batch::{FIRST, HEAD};
use std::collections::BTreeMap;

/// A segment's complete head, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Where the log before this segment ends, when a recovery made it.
    pub(super) cut: Option<Cut>,
}

/// Reads a segment's head; `None`: unborn.
pub(super) async fn head<D: Disk>(image: &mut Image<D>) -> Result<Option<Head>, StorageError> {
    let (mut offset, mut before, mut states, mut cut, mut began) = (0, None, 0, None, 0);
    while let Some(batch) = image.batch(offset).await? {
        let wanted = if offset == 0 { FIRST | HEAD } else { HEAD };
        let continues = before.is_none_or(|chained| chained == (batch.number - 1, batch.before));
        if batch.flags != wanted || !continues {
            return Ok(None);
        }
        if offset == 0 {
            began = batch.number;
        }
        let (records, count) = (batch.records.clone(), batch.count);
        let all = pieces(records, count).map_err(|e| image.damaged(offset, "records", e.to_string()))?;
        for piece in all {
            match piece {
                Piece::Whole(Logged::Shard { .. }) => states += 1,
                Piece::Whole(Logged::Cut(here)) => cut = Some(here),
                Piece::Whole(Logged::HeadComplete { states: all, first, .. }) if (all, first) == (states, began) => {
                    return Ok(Some(Head { cut }));
                }
                Piece::Whole(Logged::HeadComplete { states: all, first, .. }) => {
                    let expected = format!("a head of {all} states from batch {first}");
                    return Err(image.damaged(offset, expected, format!("{states} states from batch {began}")));
                }
                Piece::Whole(_) | Piece::Fragment { .. } => {}
            }
        }
        before = Some((batch.number, batch.chain));
        offset += batch.bytes;
    }
    Ok(None)
}

/// Surveys all segments. The value is `None` for an unborn one.
pub(super) async fn survey<D: Disk>(
    source: &Source<'_, D>,
    sequences: &[u64],
) -> Result<BTreeMap<u64, Option<Head>>, StorageError> {
    let mut out = BTreeMap::new();
    for &sequence in sequences {
        let mut image = source.open(sequence).await?;
        out.insert(sequence, head(&mut image).await?);
    }
    Ok(out)
}

/// The segments that make the log, oldest first: from the newest born one back, each to the one before it, or to the one its
/// cut names.
pub(super) fn chain(heads: &BTreeMap<u64, Option<Head>>) -> Vec<(u64, Head)> {
    let born = |sequence: &u64| heads.get(sequence).copied().flatten().map(|head| (*sequence, head));
    let mut out: Vec<(u64, Head)> = heads.keys().rev().find_map(born).into_iter().collect();
    while let Some((sequence, head)) = out.last() {
        let before = head.cut.map_or(sequence - 1, |cut| cut.segment);
        match born(&before).filter(|(before, _)| before < sequence) {
            Some(older) => out.push(older),
            None => break,
        }
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_goes_back_over_cuts_and_stops_at_a_gap() {
        let plain = Some(Head { cut: None });
        let cut = |segment| Some(Head { cut: Some(Cut { batch: 1, segment, chain: 0 }) });
        let run = |heads: &[(u64, Option<Head>)]| -> Vec<u64> {
            chain(&heads.iter().copied().collect()).into_iter().map(|(sequence, _)| sequence).collect()
        };
        assert_eq!(run(&[(3, plain), (4, plain), (5, plain), (6, None)]), [3, 4, 5]);
        assert_eq!(run(&[(2, plain), (4, plain), (5, plain)]), [4, 5]);
        assert_eq!(run(&[(3, plain), (4, plain), (5, cut(3))]), [3, 5], "4 is void");
        assert_eq!(run(&[(3, plain), (4, cut(0))]), [4]);
        assert_eq!(run(&[(3, None)]), [0_u64; 0]);
    }
}
