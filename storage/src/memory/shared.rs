//! Memory that one thread writes and others read meanwhile, word by word.

use crate::memory::Pages;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Words that may be shared between threads. They stay where they are.
pub(crate) struct SharedWords {
    /// Owns them; touched by nobody else while this lives.
    pages: Pages,
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: all access goes through atomics, or through `bytes` and `bytes_mut`, whose callers vouch that nobody else is in the way.
unsafe impl Send for SharedWords {}
// SAFETY: as above.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Shares these pages, as they are.
    pub fn new(mut pages: Pages) -> SharedWords {
        let words = pages.words_mut();
        let (start, count) = (NonNull::from(&mut *words).cast(), words.len());
        SharedWords { pages, start, count }
    }

    /// The words.
    #[inline]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pages are this long, aligned for words, initialised, and neither moved nor freed before `self` is; an
        // `AtomicU64` looks like a `u64` in memory, and nothing reaches these pages but through `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }

    /// Bytes from a word on.
    ///
    /// # Safety
    /// While the answer lives, nobody stores to any of these words; what was stored to them before happened before this call.
    ///
    /// # Panics
    /// When they do not lie in it.
    #[inline]
    pub unsafe fn bytes(&self, word: usize, bytes: usize) -> &[u8] {
        let words = &self.words()[word..word + bytes.div_ceil(size_of::<u64>())];
        // SAFETY: so many bytes are there, initialised; the caller vouches that they do not change.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), bytes) }
    }

    /// Bytes from a word on, to be written.
    ///
    /// # Safety
    /// While the answer lives, nobody else reads or writes any of these words.
    ///
    /// # Panics
    /// When they do not lie in it.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the words are shared; the caller vouches that these are nobody else's")]
    pub unsafe fn bytes_mut(&self, word: usize, bytes: usize) -> &mut [u8] {
        let words = &self.words()[word..word + bytes.div_ceil(size_of::<u64>())];
        // SAFETY: so many bytes are there, initialised, inside the words' `UnsafeCell`s; the caller vouches that they are his.
        unsafe { std::slice::from_raw_parts_mut(words.as_ptr().cast_mut().cast(), bytes) }
    }

    /// Has the system give memory for some words now, so that whoever writes them does not wait for it. Others may use the words
    /// meanwhile. Where the system cannot, it gives memory when they are written.
    pub fn populate(&self, words: Range<usize>) {
        self.pages.populate(words);
    }

    /// The pages, to be used again.
    pub fn into_pages(self) -> Pages {
        self.pages
    }
}
