//! The key of a flow, the same from both of its sides, and its hash.
//!
//! ```text
//!   (source, sport) (destination, dport)  ->  lower end, higher end, "source is the lower end"
//!
//!   word 0..4   addresses   IPv4: lower << 32 | higher, 0, 0, 0      IPv6: lower (2 words), higher (2 words)
//!   word 4      lower port 16 | higher port 16 | zone 16 | protocol 8 | 5 | ICMP asker is lower 1 | IPv6 1 | source is lower 1
//! ```
//!
//! Two hosts may ping each other with one identifier; the asker's bit keeps these flows apart.
//!
//! The last bit is no part of the identity: in an entry it tells from which end the flow was opened, and compared with
//! the packet's it tells the packet's direction. Hashing is by 64 x 64 to 128 bit multiplications of words that are
//! masked with secrets (as wyhash does), so that who does not know the seed cannot choose flows that collide.

/// A key as the table stores it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub(super) addresses: [u64; 4],
    /// Ports, zone, protocol, family and the end that is the source.
    pub(super) rest: u64,
}

/// The bit of [`Key::rest`] that is no part of the identity.
pub(super) const SOURCE_IS_LOWER: u64 = 1;
/// The bit of [`Key::rest`] for IPv6.
pub(super) const IPV6: u64 = 2;

/// The bit of [`Key::rest`] for ICMP flows whose questions come from the lower end.
const ASKER_IS_LOWER: u64 = 4;

#[inline(always)]
fn rest(low: u16, high: u16, zone: u16, protocol: u8, flags: u64) -> u64 {
    u64::from(low) << 48 | u64::from(high) << 32 | u64::from(zone) << 16 | u64::from(protocol) << 8 | flags
}

impl Key {
    #[inline(always)]
    pub(super) fn v4(src: u32, dst: u32, sport: u16, dport: u16, zone: u16, protocol: u8) -> Self {
        let a = u64::from(src) << 16 | u64::from(sport);
        let b = u64::from(dst) << 16 | u64::from(dport);
        let (low, high) = (a.min(b), a.max(b));
        Key {
            addresses: [(low >> 16) << 32 | high >> 16, 0, 0, 0],
            rest: rest(low as u16, high as u16, zone, protocol, u64::from(a <= b)),
        }
    }

    #[inline(always)]
    pub(super) fn v6(src: u128, dst: u128, sport: u16, dport: u16, zone: u16, protocol: u8) -> Self {
        let source_is_lower = (src, sport) <= (dst, dport);
        let ((low, low_port), (high, high_port)) =
            if source_is_lower { ((src, sport), (dst, dport)) } else { ((dst, dport), (src, sport)) };
        Key {
            addresses: [(low >> 64) as u64, low as u64, (high >> 64) as u64, high as u64],
            rest: rest(low_port, high_port, zone, protocol, IPV6 | u64::from(source_is_lower)),
        }
    }

    /// The key of an ICMP question or answer, made from one without regard to that.
    #[inline(always)]
    pub(super) fn of_icmp(self, answer: bool) -> Self {
        let asker_is_lower = (self.rest & SOURCE_IS_LOWER != 0) != answer;
        Key { rest: self.rest | if asker_is_lower { ASKER_IS_LOWER } else { 0 }, ..self }
    }

    /// Without the words that keys of IPv4 do not have.
    pub(super) fn normal(self) -> Self {
        let [first, ..] = self.addresses;
        if self.is_v6() { self } else { Key { addresses: [first, 0, 0, 0], ..self } }
    }

    #[inline(always)]
    pub(super) fn is_v6(&self) -> bool {
        self.rest & IPV6 != 0
    }

    #[inline(always)]
    pub(super) fn protocol(&self) -> u8 {
        (self.rest >> 8) as u8
    }
}

/// The secret of a table's hash.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub(super) [u64; 4]);

impl Seed {
    pub(super) fn new(seed: [u64; 2]) -> Self {
        // Four secrets out of two, by splitmix64 (Steele, Lea, Flood 2014).
        let mut state = seed[0];
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(7) ^ seed[1];
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        };
        Seed([next(), next(), next(), next()])
    }

    /// The hash of any key.
    #[inline(always)]
    pub(super) fn hash(&self, key: &Key) -> Hash {
        if !key.is_v6() {
            return self.hash_v4(key);
        }
        let [_, s1, s2, s3] = self.0;
        let [a, b, c, d] = key.addresses;
        // The rotation keeps the two addresses apart: equal ones must not cancel.
        self.finish(mix(a ^ s1, b ^ s2) ^ mix(c ^ s2, d ^ s3).rotate_left(32), key.rest)
    }

    /// The hash of an IPv4 key.
    #[inline(always)]
    pub(super) fn hash_v4(&self, key: &Key) -> Hash {
        self.finish(key.addresses[0], key.rest)
    }

    #[inline(always)]
    fn finish(&self, addresses: u64, rest: u64) -> Hash {
        let [s0, s1, s2, s3] = self.0;
        let rest = rest & !SOURCE_IS_LOWER;
        Hash::new(mix(mix(addresses ^ s0, rest ^ s1) ^ s2, rest.rotate_left(24) ^ s3))
    }
}

/// The full product of two words, its halves folded.
#[inline(always)]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// What a key hashes to: the high half chooses buckets, the low byte is the tag, bits above it the mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub(super) struct Hash(pub(super) u64);

impl Hash {
    /// A tag is never 0, which marks an empty slot.
    #[inline(always)]
    fn new(word: u64) -> Self {
        Hash(word | u64::from(word as u8 == 0))
    }

    #[inline(always)]
    pub(super) fn tag(self) -> u8 {
        self.0 as u8
    }

    /// What a slot holds beside the number of an entry, in the bits that `numbers` does not use.
    #[inline(always)]
    pub(super) fn mark(self, numbers: u32) -> u32 {
        (self.0 >> 8) as u32 & !numbers
    }

    /// The first bucket of the key among `buckets`.
    #[inline(always)]
    pub(super) fn bucket(self, buckets: usize) -> usize {
        (((self.0 >> 32) * buckets as u64) >> 32) as usize
    }

    /// The `n`-th bucket that the key may be in; the 0-th is [`bucket`](Self::bucket).
    #[inline]
    pub(super) fn probe(self, n: usize, buckets: usize) -> usize {
        // A step below the number of buckets over the number of probes never comes round to a bucket again.
        let step = 1 + (self.0 >> 8 & 0xffff) as usize % (buckets / super::bucket::PROBES);
        let at = self.bucket(buckets) + n * step;
        if at >= buckets { at - buckets } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbouring_flows_spread_evenly() {
        let seed = Seed::new([1, 2]);
        let mut counts = [0u32; 1024];
        let mut tags = [0u32; 256];
        for host in 0..256u32 {
            for port in 0..256u16 {
                let hash = seed.hash(&Key::v4(0x0a00_0000 + host, 0x0a64_0001, 32768 + port, 80, 0, 6));
                counts[hash.bucket(1024)] += 1;
                tags[usize::from(hash.tag())] += 1;
            }
        }
        let far = |counts: &[u32], mean: f64| {
            counts.iter().map(|c| (f64::from(*c) - mean).abs() / mean.sqrt()).fold(0.0, f64::max)
        };
        assert!(far(&counts, 64.0) < 6.0);
        // Tag 1 also stands for 0.
        assert!(tags[0] == 0 && far(&tags[2..], 256.0) < 6.0);
    }

    proptest! {
        #[test]
        fn both_directions_have_one_key(
            src: u32, dst: u32, src6: u128, dst6: u128, sport: u16, dport: u16, zone: u16, protocol: u8,
        ) {
            let seed = Seed::new([3, 4]);
            for (there, back) in [
                (Key::v4(src, dst, sport, dport, zone, protocol), Key::v4(dst, src, dport, sport, zone, protocol)),
                (
                    Key::v6(src6, dst6, sport, dport, zone, protocol),
                    Key::v6(dst6, src6, dport, sport, zone, protocol),
                ),
            ] {
                prop_assert_eq!(there.addresses, back.addresses);
                prop_assert_eq!((there.rest ^ back.rest) & !SOURCE_IS_LOWER, 0);
                prop_assert_eq!(seed.hash(&there), seed.hash(&back));
                if (src, sport) != (dst, dport) && !there.is_v6() {
                    prop_assert_ne!(there.rest, back.rest);
                }
            }
        }

        #[test]
        fn the_buckets_of_a_key_are_different(hash: u64, buckets in super::super::bucket::PROBES..1000) {
            let mut probes: Vec<_> =
                (0..super::super::bucket::PROBES).map(|n| Hash(hash).probe(n, buckets)).collect();
            prop_assert!(probes.iter().all(|at| *at < buckets));
            probes.sort_unstable();
            probes.dedup();
            prop_assert_eq!(probes.len(), super::super::bucket::PROBES);
        }
    }
}
