//! The processor's time stamp counter.

/// The counter now: cycles of the nominal frequency. On other processors than x86-64
/// nanoseconds, so "cycles" are those of a 1 GHz clock there.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(crate) fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and reads no memory. Where the
    // operating system forbids it (PR_SET_TSC), the process asked for that itself.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter now: nanoseconds.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
