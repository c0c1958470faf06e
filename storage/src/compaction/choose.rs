//! Which tables to merge.

use crate::disk::Disk;
use crate::sst::reader::Table;
use std::ops::Range;
use std::rc::Rc;

/// Tables to merge: the newest ones, up to the first that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    count: usize,
    /// Nothing is older: tombstones have done their work.
    pub to_the_oldest: bool,
}

impl Choice {
    /// Their places in the list, newest first.
    pub fn range(&self) -> Range<usize> {
        0..self.count
    }
}

/// What a choice needs to know of a table.
pub trait Readable {
    /// False once damage was found in it.
    fn is_readable(&self) -> bool;
}

impl<D: Disk> Readable for Rc<Table<D>> {
    fn is_readable(&self) -> bool {
        self.damage().is_none()
    }
}

/// A full merge when more than `most` tables can be merged. A table that cannot be read is left alone with all that is
/// older, so that merging it is not tried again and again, and newer tables still do not pile up.
pub fn choose(tables: &[impl Readable], most: usize) -> Option<Choice> {
    let count = tables.iter().take_while(|table| table.is_readable()).count();
    (count > most).then_some(Choice { count, to_the_oldest: count == tables.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Readable for bool {
        fn is_readable(&self) -> bool {
            *self
        }
    }

    #[test]
    fn all_or_those_newer_than_the_damage() {
        assert_eq!(choose(&[true; 8], 8), None);
        assert_eq!(choose(&[true; 9], 8), Some(Choice { count: 9, to_the_oldest: true }));
        assert_eq!(choose(&[true, true, true, false, true], 2), Some(Choice { count: 3, to_the_oldest: false }));
        assert_eq!(choose(&[true, true, false, true, true], 2), None);
        assert_eq!(choose(&[false; 9], 0), None);
    }
}
