//! What the programs were compiled for and the CPU may not have.

/// A level of x86-64 that programs are compiled for (psABI 3.1.1).
pub const LEVEL: &str = if cfg!(target_feature = "avx2") { "x86-64-v3" } else { "x86-64" };

/// Features of the CPU that this program was compiled to use and that are not there, as `/proc/cpuinfo`
/// names them. To be asked before anything else is done: what is missing would end the program by a signal
/// that says nothing.
///
/// The standard library's detection takes what a program is compiled for as given, so the CPU is asked itself.
#[inline(never)]
pub fn missing_features() -> Vec<&'static str> {
    if cfg!(target_feature = "avx2") { missing(features()) } else { Vec::new() }
}

/// Names of the features of x86-64-v3 beyond the first level, and whether they are there.
type Features = [(&'static str, bool); 14];

fn missing(features: Features) -> Vec<&'static str> {
    features.into_iter().filter(|(_, there)| !there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "x86_64")]
fn features() -> Features {
    let [_, _, ecx1, _] = cpuid(1, 0);
    let [_, ebx7, ..] = if cpuid(0, 0)[0] >= 7 { cpuid(7, 0) } else { [0; 4] };
    let [_, _, extended, _] =
        if cpuid(0x8000_0000, 0)[0] > 0x8000_0000 { cpuid(0x8000_0001, 0) } else { [0; 4] };
    let bit = |word: u32, n: u32| word >> n & 1 == 1;
    // The kernel has to save the wide registers too.
    let saved = bit(ecx1, 27) && saved_state() & 6 == 6;
    [
        ("cx16", bit(ecx1, 13)),
        ("lahf_lm", bit(extended, 0)),
        ("popcnt", bit(ecx1, 23)),
        ("pni", bit(ecx1, 0)),
        ("ssse3", bit(ecx1, 9)),
        ("sse4_1", bit(ecx1, 19)),
        ("sse4_2", bit(ecx1, 20)),
        ("movbe", bit(ecx1, 22)),
        ("f16c", bit(ecx1, 29) && saved),
        ("fma", bit(ecx1, 12) && saved),
        ("avx2", bit(ebx7, 5) && bit(ecx1, 28) && saved),
        ("bmi1", bit(ebx7, 3)),
        ("bmi2", bit(ebx7, 8)),
        ("abm", bit(extended, 5)),
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Features {
    [("", true); 14]
}

/// EAX, EBX, ECX and EDX of a leaf.
#[cfg(target_arch = "x86_64")]
pub(super) fn cpuid(leaf: u32, part: u32) -> [u32; 4] {
    #[allow(unused_unsafe, reason = "unsafe in the oldest toolchain that builds this")]
    // SAFETY: every x86-64 CPU has CPUID; leaves that it does not know are zeroes or the highest one's.
    let leaf = unsafe { core::arch::x86_64::__cpuid_count(leaf, part) };
    [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]
}

/// The registers that the kernel saves (XCR0). To be asked only where CPUID shows OSXSAVE.
#[cfg(target_arch = "x86_64")]
fn saved_state() -> u64 {
    #[target_feature(enable = "xsave")]
    fn read() -> u64 {
        // SAFETY: there is XCR0 where there is the instruction.
        unsafe { core::arch::x86_64::_xgetbv(0) }
    }
    // SAFETY: OSXSAVE, which the caller has seen, says that the instruction may be used.
    unsafe { read() }
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
        for (name, there) in features() {
            assert_eq!(there, flags.contains(&name), "{name}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut features = [("there", true); 14];
        assert!(missing(features).is_empty());
        features[3] = ("popcnt", false);
        features[10] = ("avx2", false);
        assert_eq!(missing(features), ["popcnt", "avx2"]);
        assert!(missing_features().is_empty(), "this very program runs");
    }
}
