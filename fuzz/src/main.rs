//! The fuzzer: one program for all targets, which the environment chooses from.

#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libfuzzer_sys::fuzz_target;

/// What a parser may take for itself, whatever it is fed: buffers of a connection, contexts of a
/// codec …
const FIXED_BYTES_MAX: usize = 8 << 20;
/// … and for each byte it is fed.
const BYTES_PER_INPUT_MAX: usize = 256;

/// The system's allocator, counting what is held.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on unchanged; only numbers are kept beside.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        // SAFETY: as demanded of our own caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as demanded of our own caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static TARGET: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let wanted = std::env::var("STRONGROOM_FUZZ_TARGET").expect("STRONGROOM_FUZZ_TARGET names the target");
    let mut targets = strongroom_fuzzing::targets();
    targets.find(|(name, _)| *name == wanted).unwrap_or_else(|| panic!("there is no target {wanted}")).1
});

fuzz_target!(|input: &[u8]| {
    let target = *TARGET;
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let _is_taken = target(input);
    let taken = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    let limit = FIXED_BYTES_MAX + BYTES_PER_INPUT_MAX * input.len();
    assert!(taken <= limit, "{taken} bytes of memory for an input of {}", input.len());
});
