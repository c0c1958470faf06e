//! Memory in large pages, and what the processor is told ahead of its use.

pub(crate) mod shared;

use crate::gate::Pace;
use memmap2::{Advice, MmapMut};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use zerocopy::{FromBytes, IntoBytes};

/// From here on memory is mapped by itself: one huge page of the machines we know.
const MAP_BYTES_MIN: usize = 2 << 20;

/// Bytes that are cleared in one slice.
const CLEARED_AT_ONCE: usize = 512 << 10;

/// Zeroed memory that keeps its size.
#[derive(Debug)]
pub(crate) enum Pages {
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

    /// Has the system give memory for some words that have none. Nothing is read or written.
    pub fn populate(&self, words: Range<usize>) {
        if let Pages::Mapped(map) = self {
            let (from, count) = (words.start * size_of::<u64>(), words.len() * size_of::<u64>());
            // Where the system cannot, it gives memory when it is written.
            drop(map.advise_range(Advice::PopulateWrite, from, count));
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

/// Mapped pages that are used again: what the system gives anew it clears at the first touch, and looks for a huge page meanwhile,
/// which takes up to milliseconds in the middle of somebody's write.
#[derive(Debug, Default)]
pub(crate) struct PagePool {
    spare: RefCell<Vec<Pages>>,
    spare_bytes: Cell<usize>,
    most_bytes: usize,
}

impl PagePool {
    /// That keeps what nobody uses while it is at most so many bytes with what is used.
    pub fn new(most_bytes: usize) -> PagePool {
        PagePool { most_bytes, ..PagePool::default() }
    }

    /// Bytes that nobody uses.
    pub fn spare_bytes(&self) -> usize {
        self.spare_bytes.get()
    }

    /// Zeroed pages of so many words.
    pub fn take(&self, words: usize) -> Pages {
        let mut spare = self.spare.borrow_mut();
        let Some(at) = spare.iter().position(|pages| pages.words().len() == words) else { return Pages::zeroed(words) };
        let pages = spare.swap_remove(at);
        self.spare_bytes.set(self.spare_bytes.get() - pages.bytes().len());
        pages
    }

    /// Takes pages that nobody needs any more, and clears them slice by slice; those beyond the limit go back to the system.
    /// `used_bytes` are in use elsewhere.
    pub async fn give(&self, mut pages: Pages, used_bytes: usize, pace: &mut Pace) {
        let all = used_bytes + self.spare_bytes.get() + pages.bytes().len();
        if matches!(pages, Pages::Heap(_)) || all > self.most_bytes {
            drop(pages);
            return pace.rest().await;
        }
        self.spare_bytes.set(self.spare_bytes.get() + pages.bytes().len());
        for part in pages.bytes_mut().chunks_mut(CLEARED_AT_ONCE) {
            part.fill(0);
            pace.rest().await;
        }
        self.spare.borrow_mut().push(pages);
    }
}

/// Asks the processor for the cache line that holds this, without waiting for it.
#[inline]
pub(crate) fn prefetch<T>(at: Option<&T>) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(at) = at {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that reads nothing, of an address that a reference vouches for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
