//! Huge pages, as long as they cost more than they are worth. The allocator asks for them, and each of a dozen threads then takes
//! 2 MiB for the few KiB that it uses: an idle gateway of 40 MB takes 80. Once a gateway has much in memory they spare the
//! processor work, and the little that they waste is no share of it.

use rustix::thread::disable_transparent_huge_pages;
use std::fs;

/// Bytes of resident memory from which on there are huge pages.
const MUCH: u64 = 256 << 20;

/// No huge pages for now. To be called first of all: pages that are there stay as they are. Where the system does not know of
/// them, or does not let us, nothing changes but how much memory is taken.
pub fn begin_small() {
    let _ = disable_transparent_huge_pages(true);
}

/// Allows huge pages once much memory is in use. Returns whether it was looked for the last time.
pub fn look() -> bool {
    if resident().is_some_and(|bytes| bytes < MUCH) {
        return false;
    }
    let _ = disable_transparent_huge_pages(false);
    true
}

/// The memory that this process has, in bytes; `None` on systems without `/proc`.
pub fn resident() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    // Size, resident, …, in pages.
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
