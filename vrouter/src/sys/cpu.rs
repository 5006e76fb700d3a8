//! Whether the CPU has what the programs were compiled for.
//!
//! The question has to be asked by instructions that every CPU has, although it is compiled like all else:
//! so it is comparisons of words and nothing more, no tables, text or allocation, which the compiler would
//! move by wide registers. The standard library's detection is of no use here, since it takes what a program
//! is compiled for as given.
//!
//! Source: psABI for x86-64, 3.1.1 (levels); Intel SDM, CPUID.

/// What `/proc/cpuinfo` lists of a CPU of level x86-64-v3, beyond the first level: leaf of CPUID, bit.
#[cfg(target_arch = "x86_64")]
const FEATURES: [(&str, Leaf, u32); 15] = [
    ("pni", Leaf::OneEcx, 0),
    ("ssse3", Leaf::OneEcx, 9),
    ("fma", Leaf::OneEcx, 12),
    ("cx16", Leaf::OneEcx, 13),
    ("sse4_1", Leaf::OneEcx, 19),
    ("sse4_2", Leaf::OneEcx, 20),
    ("movbe", Leaf::OneEcx, 22),
    ("popcnt", Leaf::OneEcx, 23),
    ("avx", Leaf::OneEcx, 28),
    ("f16c", Leaf::OneEcx, 29),
    ("bmi1", Leaf::SevenEbx, 3),
    ("avx2", Leaf::SevenEbx, 5),
    ("bmi2", Leaf::SevenEbx, 8),
    ("lahf_lm", Leaf::ExtendedEcx, 0),
    ("abm", Leaf::ExtendedEcx, 5),
];
/// The kernel has switched the saving of more registers on, which shows which ones.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
const OSXSAVE: u32 = 1 << 27;
/// Registers of 16 and of 32 bytes, in what the kernel saves (XCR0).
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
const WIDE: u64 = 6;

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaf {
    OneEcx,
    SevenEbx,
    ExtendedEcx,
}

/// The bits of a leaf that have to be there.
#[cfg(target_arch = "x86_64")]
const fn needed(leaf: Leaf) -> u32 {
    let (mut bits, mut at) = (0, 0);
    while at < FEATURES.len() {
        if FEATURES[at].1 as u8 == leaf as u8 {
            bits |= 1 << FEATURES[at].2;
        }
        at += 1;
    }
    bits
}

/// What to say of a CPU that is too old.
pub const TOO_OLD: &str = "this program was compiled for CPUs of level x86-64-v3 (AVX2, BMI, FMA, MOVBE, F16C; Intel \
since 2013, AMD since 2015), and this one has not all of that; see /proc/cpuinfo. `RUSTFLAGS= cargo build --release` \
builds programs for it.\n";

/// Whether the CPU is too old for what this program was compiled for. To be asked before anything else is done:
/// an instruction that is missing would end the program by a signal that says nothing.
#[inline(never)]
pub fn is_too_old() -> bool {
    #[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
    {
        const ONE: u32 = needed(Leaf::OneEcx) | OSXSAVE;
        const SEVEN: u32 = needed(Leaf::SevenEbx);
        const EXTENDED: u32 = needed(Leaf::ExtendedEcx);
        cpuid(0, 0).eax < 7
            || cpuid(1, 0).ecx & ONE != ONE
            || cpuid(7, 0).ebx & SEVEN != SEVEN
            || cpuid(0x8000_0000, 0).eax < 0x8000_0001
            || cpuid(0x8000_0001, 0).ecx & EXTENDED != EXTENDED
            || saved_state() & WIDE != WIDE
    }
    #[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
    {
        false
    }
}

/// A leaf of what the CPU says of itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn cpuid(leaf: u32, part: u32) -> core::arch::x86_64::CpuidResult {
    #[allow(unused_unsafe, reason = "unsafe in the oldest toolchain that builds this")]
    // SAFETY: every x86-64 CPU has CPUID; leaves that it does not know are zeroes or another's.
    unsafe {
        core::arch::x86_64::__cpuid_count(leaf, part)
    }
}

/// The registers that the kernel saves (XCR0). To be asked only where CPUID shows OSXSAVE.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
#[inline(always)]
fn saved_state() -> u64 {
    // SAFETY: OSXSAVE, which the caller has seen, says that the instruction may be used, and that there is XCR0.
    unsafe { core::arch::x86_64::_xgetbv(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
    fn the_cpu_has_what_the_kernel_says_it_has() {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = info.lines().find(|line| line.starts_with("flags")).unwrap();
        let flags: Vec<_> = flags.split_whitespace().collect();
        for (name, leaf, bit) in FEATURES {
            let word = match leaf {
                Leaf::OneEcx => cpuid(1, 0).ecx,
                Leaf::SevenEbx => cpuid(7, 0).ebx,
                Leaf::ExtendedEcx => cpuid(0x8000_0001, 0).ecx,
            };
            assert_eq!(word >> bit & 1 == 1, flags.contains(&name), "{name}");
            assert_eq!(needed(leaf) >> bit & 1, 1, "{name}");
        }
        assert!(!is_too_old(), "this very program runs");
    }
}
