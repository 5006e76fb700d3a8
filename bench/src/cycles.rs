//! The processor's time stamp counter: cycles at its nominal frequency.
#![allow(unsafe_code)]

/// The counter now. On other processors than x86-64: nanoseconds, so "cycles" are those
/// of a 1 GHz clock there.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn now() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor and reads no memory; where the
    // operating system forbids it (PR_SET_TSC), it has to be allowed to measure.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter now: nanoseconds since the first call.
#[cfg(not(target_arch = "x86_64"))]
pub fn now() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
