//! How a burst goes down the table: 64 addresses side by side, as wide as the CPU allows.
//!
//! ```text
//!  lanes 0..16   root read -> line read -> ...      all lanes take a step before any takes the
//!  lanes 16..32  root read -> line read -> ...      next, so that up to 64 reads from memory are
//!  lanes 32..48  root read -> line read -> ...      under way at once
//!  lanes 48..64  root read -> line read -> ...
//! ```
//!
//! | kernel | front, 16 lanes | root | a line |
//! |---|---|---|---|
//! | [`Kernel::Scalar`] | 16 loads | 16 loads | 16 loads |
//! | [`Kernel::Avx2`] | 16 loads | two gathers of 8 | two gathers of 8 |
//! | [`Kernel::Avx512`] | a gather of 16 | 16 loads | a gather of 16 under a mask |
//!
//! The [ranges](crate::ranges) of large IPv6 tables are for [`Kernel::Avx512`], with
//! [`Kernel::Scalar`] as its twin; [`Kernel::Avx2`] goes down the trie.
//!
//! The front's words are prefetched before they are read: see `x86::prefetch_words`.
//!
//! The scalar kernel runs on any CPU (and under Miri) and is the twin that the others are tested
//! against. What remains is the crate's only unsafe code: it does what [`Generation::load`] does,
//! without bounds checks, on several slots at once.
//!
//! **Why reading many slots at once is sound while the writer changes them.** A gather is written
//! as inline assembly, so that to the compiler it is foreign code that may touch shared memory,
//! as an atomic load is, and no plain read that would race. What it means is up to the CPU: each
//! element of a gather is one aligned load of four bytes, which x86 performs in one piece (Intel
//! SDM vol. 3, 9.1.1; AMD APM vol. 2, 7.3.2), hence yields the old or the new content of a slot,
//! or of each of the two words of the front that share the four bytes.
//! Elements may be read in any order, but each only decides about its own lane. The next step
//! reads at addresses that this one yielded, and x86 makes stores visible in program order, so
//! whoever has read a child entry sees the line as it was filled before.

#![allow(unsafe_code, reason = "vector instructions and loads without bounds checks")]

use crate::Address;
use crate::arena::{Generation, NIBBLE, SLOTS};
use crate::atomic::{AtomicU16, AtomicU32, Ordering};
use crate::entry::{Entry, Taken};
use crate::front::Front;
use crate::ranges::Ranges;
use core::net::Ipv4Addr;

#[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
mod x86;
#[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
use std::arch::is_x86_feature_detected;

/// A way of looking up a burst. All of them give the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernel {
    /// Plain loads, for any CPU.
    Scalar,
    /// Gathers of 8 lanes (x86-64-v3: AVX2, BMI2).
    Avx2,
    /// Gathers of 16 lanes (x86-64-v4: AVX-512 F, BW, VL, with BMI2).
    Avx512,
}

impl Kernel {
    /// All kernels, the widest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Scalar];

    /// Whether this CPU can run it.
    pub fn is_available(self) -> bool {
        #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
        match self {
            Self::Scalar => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2"),
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("bmi2")
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(any(miri, feature = "loom")))))]
        matches!(self, Self::Scalar)
    }

    /// The fastest that this CPU can run for large tables, most of which the front or the ranges
    /// answer: the widest.
    pub fn best<A: Address>() -> Self {
        Self::ALL.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Scalar)
    }

    /// The fastest that this CPU can run down the trie: the widest for IPv4; gathers of 8 for IPv6,
    /// since they overlap better where it is deep.
    pub(crate) fn best_in_trie<A: Address>() -> Self {
        let order = if A::BITS == 32 { Self::ALL } else { [Self::Avx2, Self::Avx512, Self::Scalar] };
        order.into_iter().find(|kernel| kernel.is_available()).unwrap_or(Self::Scalar)
    }
}

/// A kernel that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct Chosen(Kernel);

impl Chosen {
    /// `kernel`, or the scalar one if this CPU cannot run it.
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self(if kernel.is_available() { kernel } else { Kernel::Scalar })
    }

    /// [`Front::burst`].
    #[inline]
    pub(crate) fn front(self, front: &Front, addrs: &[Ipv4Addr; 64], mask: u64, out: &mut [u32; 64]) -> u64 {
        match self.0 {
            // SAFETY: `new` has made sure that the CPU has what the kernel needs.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx512 => unsafe { x86::front_avx512(front, addrs, mask, out) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx2 => unsafe { x86::front_avx2(front, addrs, mask, out) },
            _ => front.burst(addrs, mask, out),
        }
    }

    /// [`Ranges::burst`]. Gathers of 8 go down the trie sooner: all lanes in `mask` are returned.
    #[inline]
    pub(crate) fn ranges<A: Address>(
        self,
        ranges: &Ranges,
        addrs: &[A; 64],
        mask: u64,
        out: &mut [u32; 64],
    ) -> u64 {
        match self.0 {
            // SAFETY: `new` has made sure that the CPU has what the kernel needs.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx512 => unsafe { x86::ranges_avx512(ranges, addrs, mask, out) },
            Kernel::Avx2 => mask,
            _ => ranges.burst(addrs, mask, out),
        }
    }

    /// For the writer: stores `new` in the leaves of a line that are `within` and `taken`. Returns which they
    /// were, and which of `within` are no leaves.
    #[inline]
    pub(crate) fn overwrite(
        self,
        slots: &[AtomicU32; SLOTS],
        within: u16,
        new: Entry,
        taken: Taken,
    ) -> (u16, u16) {
        match self.0 {
            // SAFETY: `new` has made sure that the CPU has what the kernel needs.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx512 => unsafe { x86::overwrite_avx512(slots, within, new, taken) },
            _ => overwrite_scalar(slots, within, new, taken),
        }
    }

    /// For the writer: stores `new` in the words that `lanes` has.
    #[inline]
    pub(crate) fn store_words(self, words: &[AtomicU16; SLOTS], lanes: u16, new: u16) {
        match self.0 {
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx512 => unsafe { x86::store_words_avx512(words, lanes, new) },
            // Release: whoever is sent down sees the trie as it was by then.
            _ => self::lanes(lanes.into()).for_each(|lane| words[lane].store(new, Ordering::Release)),
        }
    }

    /// Looks up the lanes in `mask`; see [`Fib::lookup_burst`](crate::Fib::lookup_burst).
    #[inline]
    pub(crate) fn burst<A: Address>(
        self,
        table: &Generation,
        addrs: &[A; 64],
        mask: u64,
        out: &mut [u32; 64],
    ) {
        match self.0 {
            // SAFETY: `new` has made sure that the CPU has what the kernel needs.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx512 => unsafe { x86::avx512(table, addrs, mask, out) },
            // SAFETY: as above.
            #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
            Kernel::Avx2 => unsafe { x86::avx2(table, addrs, mask, out) },
            _ => scalar(table, addrs, mask, out),
        }
    }
}

impl Generation {
    /// As [`load`](Generation::load).
    ///
    /// # Safety
    /// `slot` is one of the root or of a line that an entry of this generation names.
    #[inline(always)]
    unsafe fn load_unchecked(&self, slot: usize) -> Entry {
        debug_assert!(slot < self.lines().len() * SLOTS);
        #[cfg(feature = "loom")]
        return self.load(slot);
        // SAFETY: a generation's lines are one allocation of slots, of which this is one; Acquire
        // as in `load`.
        #[cfg(not(feature = "loom"))]
        Entry(unsafe { (*self.base().add(slot)).load(Ordering::Acquire) })
    }
}

#[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
impl Ranges {
    /// As [`load`](Ranges::load).
    ///
    /// # Safety
    /// `word` is one of the memory's.
    #[inline(always)]
    unsafe fn load_unchecked(&self, word: usize) -> Entry {
        debug_assert!(word < self.lines() * SLOTS);
        // SAFETY: the lines are one allocation of words, of which this is one; Acquire as in `load`.
        Entry(unsafe {
            (*self.base().cast::<core::sync::atomic::AtomicU32>().add(word)).load(Ordering::Acquire)
        })
    }
}

/// Has the cache line of what `word` points to brought nearer, where the CPU can.
#[cfg(not(feature = "loom"))]
#[inline(always)]
pub(crate) fn prefetch<T>(word: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    x86::prefetch(word);
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = word;
}

/// The leaf that decides about `addr`.
#[inline(always)]
pub(crate) fn leaf<A: Address>(table: &Generation, addr: A) -> Entry {
    let depth = table.root_bits();
    // SAFETY: the root has a slot for each number of `depth` bits.
    let entry = unsafe { table.load_unchecked(addr.slice(0, depth)) };
    leaf_below(table, entry, depth, addr)
}

/// The leaf that decides about `addr`, from `entry` on, which the table has at `depth`.
#[inline(always)]
pub(crate) fn leaf_below<A: Address>(table: &Generation, mut entry: Entry, mut depth: u8, addr: A) -> Entry {
    while entry.is_child() {
        // SAFETY: a child entry is the first of 16 slots inside the lines.
        entry = unsafe { table.load_unchecked(entry.0 as usize | addr.nibble(depth)) };
        depth = depth.wrapping_add(NIBBLE);
    }
    entry
}

/// The twin in plain Rust of what the writer does with a line.
fn overwrite_scalar(slots: &[AtomicU32; SLOTS], within: u16, new: Entry, taken: Taken) -> (u16, u16) {
    let (mut stored, mut children) = (0, 0);
    for lane in lanes(within.into()) {
        let old = Entry(slots[lane].load(Ordering::Relaxed));
        if old.is_child() {
            children |= 1 << lane;
        } else if taken.takes(old) {
            slots[lane].store(new.0, Ordering::Release);
            stored |= 1 << lane;
        }
    }
    (stored, children)
}

/// The twin in plain Rust.
fn scalar<A: Address>(table: &Generation, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) {
    let mut depth = table.root_bits();
    let mut descending = 0_u64;
    for lane in lanes(mask) {
        let entry = table.load(addrs[lane].slice(0, depth));
        out[lane] = entry.0;
        descending |= u64::from(entry.is_child()) << lane;
    }
    while descending != 0 {
        for lane in lanes(descending) {
            let entry = table.load(out[lane] as usize + addrs[lane].nibble(depth));
            out[lane] = entry.0;
            descending &= !(u64::from(!entry.is_child()) << lane);
        }
        depth = depth.wrapping_add(NIBBLE);
    }
    for lane in lanes(mask) {
        out[lane] = Entry(out[lane]).raw_group();
    }
}

/// The positions of the set bits, lowest first.
#[inline(always)]
pub(crate) fn lanes(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lane = (mask != 0).then_some(mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lane)
    })
}
