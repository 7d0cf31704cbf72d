//! An allocator that counts. A test that uses it is a binary of its own: it replaces the allocator of the process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Per thread, so that workers and the test harness don't count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes allocated and not freed by this thread, now and at most since [`reset_peak`]. What another thread frees
    /// is still held here: tests that ask for bytes use one thread.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Allocations of the calling thread so far.
#[allow(dead_code, reason = "not every test binary counts allocations")]
pub(crate) fn so_far() -> u64 {
    ALLOCATIONS.get()
}

/// From here on [`peak_growth`] is measured.
#[allow(dead_code, reason = "not every test binary asks for bytes")]
pub(crate) fn reset_peak() -> isize {
    PEAK.set(HELD.get());
    HELD.get()
}

/// How many bytes more than `since` the calling thread held at most.
#[allow(dead_code, reason = "not every test binary asks for bytes")]
pub(crate) fn peak_growth(since: isize) -> isize {
    PEAK.get() - since
}

fn hold(bytes: isize) {
    HELD.set(HELD.get() + bytes);
    PEAK.set(PEAK.get().max(HELD.get()));
}

struct Counting;

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-layout.size().cast_signed());
        // SAFETY: the pointer is from `System.alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the pointer is from `System.alloc`; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
