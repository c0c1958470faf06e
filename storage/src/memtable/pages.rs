//! Memory for a memtable: zeroed words, in huge pages where they are worth it.

use memmap2::{Advice, MmapMut};
use zerocopy::{FromBytes, IntoBytes};

/// From here on memory is mapped by itself: one huge page of the machines we know.
const MAP_BYTES_MIN: usize = 2 << 20;

/// Zeroed memory that keeps its size.
#[derive(Debug)]
pub(super) enum Pages {
    Heap(Vec<u64>),
    Mapped(MmapMut),
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::Heap(Vec::new())
    }
}

impl Clone for Pages {
    fn clone(&self) -> Pages {
        let mut copy = Pages::zeroed(self.words().len());
        copy.words_mut().copy_from_slice(self.words());
        copy
    }
}

impl Pages {
    pub fn zeroed(words: usize) -> Pages {
        let bytes = words * size_of::<u64>();
        if bytes < MAP_BYTES_MIN || cfg!(miri) {
            return Pages::Heap(vec![0; words]);
        }
        match MmapMut::map_anon(bytes) {
            Ok(map) => {
                // First touches in small pages are what makes the slowest puts slow; refused is only slower.
                drop(map.advise(Advice::HugePage));
                Pages::Mapped(map)
            }
            Err(_) => Pages::Heap(vec![0; words]),
        }
    }

    pub fn words(&self) -> &[u64] {
        match self {
            Pages::Heap(words) => words,
            Pages::Mapped(map) => <[u64]>::ref_from_bytes(map).expect("a mapping is aligned, and whole words long"),
        }
    }

    pub fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Pages::Heap(words) => words,
            Pages::Mapped(map) => <[u64]>::mut_from_bytes(map).expect("a mapping is aligned, and whole words long"),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Pages::Heap(words) => words.as_bytes(),
            Pages::Mapped(map) => map,
        }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Pages::Heap(words) => words.as_mut_bytes(),
            Pages::Mapped(map) => map,
        }
    }
}
