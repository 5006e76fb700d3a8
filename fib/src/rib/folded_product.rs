//! A fast hash for tables whose keys come from the network.
//!
//! Each word is mixed in by a multiplication of 64 by 64 bits whose halves are folded together,
//! so that every bit of the key reaches every bit of the hash. The start is random in each
//! table: whoever announces routes cannot choose prefixes that collide. It is no cryptographic
//! hash.

use core::hash::{BuildHasher, Hasher};
use std::collections::hash_map::RandomState;

/// Makes the hashers of one table.
#[derive(Clone)]
pub(super) struct FoldedProduct(u64);

impl Default for FoldedProduct {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for FoldedProduct {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

/// A hash on its way.
pub(super) struct Folding(u64);

impl Folding {
    #[inline(always)]
    fn mix(&mut self, word: u64) {
        // The first digits of pi: odd, and as many ones as zeros.
        const PI: u128 = 0x243f_6a88_85a3_08d3;
        let product = u128::from(self.0 ^ word) * PI;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folding {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
    }

    #[inline(always)]
    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    #[inline(always)]
    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    #[inline(always)]
    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    #[inline(always)]
    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }
}
