//! What the writer changes sixteen slots or words at a time.
//!
//! The stores are assembly, to the compiler foreign code that may touch shared memory as atomic stores do. The
//! processor performs each aligned word of a wider store in one piece, and stores in program order, so that each
//! is a Release store (Intel SDM vol. 3, 9.1.1 and 9.2; AMD APM vol. 2, 7.2 and 7.3.2).

use crate::arena::SLOTS;
use crate::atomic::{AtomicU16, AtomicU32};
use crate::entry::{Entry, Taken};
use core::arch::asm;
use core::arch::x86_64::{
    _mm256_set1_epi16, _mm512_cmpeq_epi32_mask, _mm512_cmple_epu32_mask, _mm512_loadu_si512,
    _mm512_set1_epi32, _mm512_srli_epi32, _mm512_testn_epi32_mask,
};

/// [`Chosen::overwrite`](crate::kernel::Chosen::overwrite).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::kernel) fn overwrite_avx512(
    slots: &[AtomicU32; SLOTS],
    within: u16,
    new: Entry,
    taken: Taken,
) -> (u16, u16) {
    // SAFETY: sixteen slots are read, which nobody writes but this thread.
    let entries = unsafe { _mm512_loadu_si512(slots.as_ptr().cast()) };
    let children = _mm512_testn_epi32_mask(entries, _mm512_set1_epi32(Entry::LEAF as i32));
    // The mark of a leaf and the length of its prefix.
    let marks = _mm512_srli_epi32::<{ Entry::LEN_SHIFT }>(entries);
    let mark = |len: u8| _mm512_set1_epi32((Entry::LEAF >> Entry::LEN_SHIFT) as i32 | i32::from(len));
    let taken = match taken {
        Taken::UpTo(len) => {
            let none = _mm512_cmpeq_epi32_mask(entries, _mm512_set1_epi32(Entry::NONE.0 as i32));
            _mm512_cmple_epu32_mask(marks, mark(len)) | none
        }
        Taken::Of(len) => _mm512_cmpeq_epi32_mask(marks, mark(len)),
    };
    let stored = taken & !children & within;
    // SAFETY: stores to those of sixteen slots that are in the mask; see the module about shared words.
    unsafe {
        asm!(
            "vmovdqu32 [{slots}]{{{stored}}}, {new}",
            slots = in(reg) slots.as_ptr(),
            stored = in(kreg) stored,
            new = in(zmm_reg) _mm512_set1_epi32(new.0 as i32),
            options(nostack, preserves_flags)
        );
    }
    (stored, children & within)
}

/// [`Chosen::store_words`](crate::kernel::Chosen::store_words).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(in crate::kernel) fn store_words_avx512(words: &[AtomicU16; SLOTS], lanes: u16, new: u16) {
    // SAFETY: stores to those of sixteen words that are in the mask; see the module about shared words.
    unsafe {
        asm!(
            "vmovdqu16 [{words}]{{{lanes}}}, {new}",
            words = in(reg) words.as_ptr(),
            lanes = in(kreg) u32::from(lanes),
            new = in(ymm_reg) _mm256_set1_epi16(new as i16),
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GroupId;
    use crate::atomic::Ordering;
    use crate::kernel::{Chosen, Kernel};
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let group = (0..=GroupId::MAX.raw()).prop_map(|raw| GroupId::new(raw).unwrap());
        prop_oneof![
            3 => (0..=128_u8, group).prop_map(|(len, group)| Entry::leaf(len, group)),
            1 => Just(Entry::NONE),
            1 => (0..1_u32 << 27).prop_map(Entry::child),
        ]
    }

    fn taken() -> impl Strategy<Value = Taken> {
        (any::<bool>(), 0..=128_u8)
            .prop_map(|(up_to, len)| if up_to { Taken::UpTo(len) } else { Taken::Of(len) })
    }

    proptest! {
        #[test]
        fn sixteen_slots_at_once_are_sixteen_slots(
            old in prop::array::uniform16(entry()),
            within: u16,
            new in entry(),
            taken in taken(),
        ) {
            let outcomes = [Kernel::Scalar, Kernel::Avx512].map(|kernel| {
                let slots = old.map(|entry| AtomicU32::new(entry.0));
                let said = Chosen::new(kernel).overwrite(&slots, within, new, taken);
                (said, slots.map(|slot| slot.load(Ordering::Relaxed)))
            });
            prop_assert_eq!(outcomes[0], outcomes[1]);
        }

        #[test]
        fn sixteen_words_at_once_are_sixteen_words(old: [u16; SLOTS], lanes: u16, new: u16) {
            for kernel in [Kernel::Scalar, Kernel::Avx512] {
                let words = old.map(AtomicU16::new);
                Chosen::new(kernel).store_words(&words, lanes, new);
                for (lane, word) in words.iter().enumerate() {
                    let expected = if lanes >> lane & 1 == 1 { new } else { old[lane] };
                    prop_assert_eq!(word.load(Ordering::Relaxed), expected);
                }
            }
        }
    }
}
