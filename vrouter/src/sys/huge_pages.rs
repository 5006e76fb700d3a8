//! Huge pages for tables that lookups read all over.

use rustix::mm::{Advice, madvise};

/// Asks the kernel to use transparent huge pages for memory not touched yet, which it does where
/// `/sys/kernel/mm/transparent_hugepage/enabled` says `madvise` or `always`. Whether it does or
/// not changes nothing but speed, hence a refusal is no error.
pub(crate) fn advise(start: *const u8, bytes: usize) {
    // SAFETY: this advice changes neither the content of any memory nor what may access it; a
    // range that is not mapped is refused.
    let _ = unsafe { madvise(start.cast_mut().cast(), bytes, Advice::LinuxHugepage) };
}

/// Puts memory that was touched already, or a mapped file on tmpfs, on huge pages now, whatever the settings say
/// (`MADV_COLLAPSE`, Linux 6.1). Where that does not succeed, it changes nothing.
pub(crate) fn collapse(start: *const u8, bytes: usize) {
    // SAFETY: this advice changes neither the content of any memory nor what may access it; a
    // range that is not mapped is refused.
    let _ = unsafe { libc::madvise(start.cast_mut().cast(), bytes, libc::MADV_COLLAPSE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use fib::{FibWriter, GroupId, Prefix};
    use std::net::Ipv4Addr;

    #[test]
    fn a_large_table_answers_as_a_small_one_does() {
        let mut writer = FibWriter::new();
        writer.advise_memory(advise);
        let group = |i: u32| GroupId::new(i % 1000).unwrap();
        let route = |i: u32| Prefix::new(Ipv4Addr::from_bits(i << 8), 24).unwrap();
        writer.load((0..2_000_000).step_by(16).map(|i| (route(i), group(i)))).unwrap();
        assert!(writer.memory_bytes() > 32 << 20, "large enough for advice");
        let fib = writer.reader();
        assert!((0..2_000_000).step_by(16).all(|i| fib.lookup(route(i).addr()) == Some(group(i))));
        assert_eq!(fib.lookup(route(1).addr()), None);
    }

    #[test]
    fn any_range_is_harmless() {
        advise(std::ptr::null(), 4096);
        advise(std::ptr::without_provenance(usize::MAX & !4095), usize::MAX);
        advise(std::ptr::without_provenance(1), 1);
        collapse(std::ptr::null(), 4096);
        collapse(std::ptr::without_provenance(1), 1);
    }
}
