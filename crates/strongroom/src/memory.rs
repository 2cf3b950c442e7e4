//! What the allocator of the C library does with memory that was given back to it.

/// Each arena keeps what its threads have freed, and each backup brings threads of its own. Without a
/// bound there are eight arenas for each processor, and a server keeps in them, after some dozens of
/// backups, twice what it ever used at once.
#[cfg(target_env = "gnu")]
const ARENAS_MAX: libc::c_int = 2;

/// Bounds what is kept. To be called before there are threads.
#[cfg(target_env = "gnu")]
pub(crate) fn bound() {
    #[expect(unsafe_code, reason = "the one way to say it that does not depend on the environment")]
    // SAFETY: two numbers change how the allocator behaves from now on; no memory is touched. A number it
    // does not know it refuses, and nothing has changed.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn bound() {}
