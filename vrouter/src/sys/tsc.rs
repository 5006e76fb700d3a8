//! The processor's time stamp counter.

#[cfg(target_arch = "x86_64")]
use super::cpu::cpuid;

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

/// Whether the counter runs evenly, whatever the processor does to save power.
#[cfg(target_arch = "x86_64")]
pub(crate) fn is_steady() -> bool {
    const POWER: u32 = 0x8000_0007;
    const INVARIANT_TSC: u32 = 1 << 8;
    // Miri has no such instruction.
    !cfg!(miri) && cpuid(0x8000_0000, 0).eax >= POWER && cpuid(POWER, 0).edx & INVARIANT_TSC != 0
}

/// There is none: what [`now`] reads is the system's clock.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn is_steady() -> bool {
    false
}
