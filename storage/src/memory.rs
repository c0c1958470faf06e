//! What the processor is told ahead.

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
