//! One number per flow, the same for both of its directions.
//!
//! The hash picks an ECMP path, a tunnel's source port (RFC 7348 §5) and a conntrack bucket; a reply must land where
//! its request did, so the two endpoints are put in order before they are mixed:
//!
//! ```text
//!   (src, sport)  (dst, dport)  -> lower, higher -> 64 x 64 -> 128 bit multiplications, halves folded by xor
//! ```
//!
//! Ordering keeps what an xor of both sides would lose (an xor maps all flows of a host with itself, and swapped ports,
//! to the same value). The seed keeps outsiders from choosing flows that collide; it is no cryptographic hash.

mod tunnelled;

use core::net::{Ipv4Addr, Ipv6Addr};

pub use tunnelled::tunnelled;

// Odd numbers with as many ones as zeros, taken from the hex digits of pi.
const K0: u64 = 0x243f_6a88_85a3_08d3;
const K1: u64 = 0x1319_8a2e_0370_7345;
const K2: u64 = 0xa409_3822_299f_31d1;
const K3: u64 = 0x082e_fa98_ec4e_6c89;

/// The full product of two words, its halves folded: every bit of both reaches every bit of the result.
#[inline(always)]
const fn mix(a: u64, b: u64) -> u64 {
    let product = a as u128 * b as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The protocol and seed, spread over a word.
#[inline(always)]
const fn salt(protocol: u8, seed: u32) -> u64 {
    ((seed as u64) << 32 | seed as u64) ^ (protocol as u64) << 56
}

/// The hash of an IPv4 flow; equal under exchange of (`src`, `sport`) and (`dst`, `dport`). Ports are 0 where the
/// protocol has none and in fragments.
#[inline]
pub fn symmetric_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, sport: u16, dport: u16, seed: u32) -> u32 {
    let a = u64::from(src.to_bits()) << 16 | u64::from(sport);
    let b = u64::from(dst.to_bits()) << 16 | u64::from(dport);
    let salt = salt(protocol, seed);
    let mixed = mix(a.min(b) ^ salt ^ K0, a.max(b) ^ K1);
    fold(mix(mixed ^ K2, salt ^ K3))
}

/// The hash of an IPv6 flow; equal under exchange of (`src`, `sport`) and (`dst`, `dport`).
#[inline]
pub fn symmetric_v6(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, sport: u16, dport: u16, seed: u32) -> u32 {
    let a = (src.to_bits(), sport);
    let b = (dst.to_bits(), dport);
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let salt = salt(protocol, seed);
    let ports = u64::from(low.1) << 16 | u64::from(high.1);
    let first = mix(low.0 as u64 ^ salt ^ K0, (low.0 >> 64) as u64 ^ K1);
    let second = mix(high.0 as u64 ^ salt ^ K2, (high.0 >> 64) as u64 ^ K3);
    // The rotation keeps the two addresses apart: without it equal ones would cancel.
    let mixed = mix(first ^ ports ^ K3, second.rotate_left(32) ^ K1);
    fold(mix(mixed ^ K2, salt ^ K3))
}

#[inline(always)]
const fn fold(word: u64) -> u32 {
    (word ^ word >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v6(last: u128) -> Ipv6Addr {
        Ipv6Addr::from_bits(0xfd00_0010 << 96 | last)
    }

    /// The largest deviation of any of `buckets` from the mean, in standard deviations of a fair throw.
    fn worst_deviation(hashes: &[u32], buckets: usize) -> f64 {
        let mut counts = vec![0f64; buckets];
        hashes.iter().for_each(|hash| counts[*hash as usize % buckets] += 1.0);
        let mean = hashes.len() as f64 / buckets as f64;
        counts.iter().map(|count| (count - mean).abs() / mean.sqrt()).fold(0.0, f64::max)
    }

    #[test]
    fn neighbouring_flows_spread_evenly_over_paths_and_buckets() {
        let mut v4 = Vec::new();
        let mut v6_hashes = Vec::new();
        for host in 0..64u32 {
            for port in 0..1024u16 {
                let (src, dst) = (Ipv4Addr::from_bits(0x0a64_2440 + host), Ipv4Addr::new(10, 100, 169, 176));
                v4.push(symmetric_v4(src, dst, 6, 32768 + port, 80, 1));
                v6_hashes.push(symmetric_v6(v6(host.into()), v6(0x9999), 6, 32768 + port, 80, 1));
            }
        }
        for hashes in [&v4, &v6_hashes] {
            for buckets in [2, 3, 16, 256, 1024] {
                assert!(worst_deviation(hashes, buckets) < 6.0, "{buckets} buckets");
                // High bits as well: a table may use the ones a path choice did not.
                let high: Vec<u32> = hashes.iter().map(|hash| hash >> 16).collect();
                assert!(worst_deviation(&high, buckets) < 6.0, "{buckets} buckets, high half");
            }
        }
    }

    #[test]
    fn flows_of_a_host_with_itself_differ_by_ports() {
        let host = Ipv4Addr::new(10, 0, 0, 1);
        let mut hashes: Vec<u32> = (0..1000).map(|port| symmetric_v4(host, host, 17, port, 53, 0)).collect();
        let mut hashes6: Vec<u32> =
            (0..1000).map(|port| symmetric_v6(v6(1), v6(1), 17, port, 53, 0)).collect();
        for hashes in [&mut hashes, &mut hashes6] {
            hashes.sort_unstable();
            hashes.dedup();
            assert!(hashes.len() >= 999, "{} distinct of 1000", hashes.len());
        }
    }

    #[test]
    fn every_input_bit_moves_about_half_of_the_output() {
        let base = symmetric_v4(
            Ipv4Addr::from_bits(0x0a00_0001),
            Ipv4Addr::from_bits(0x0a00_0002),
            6,
            1000,
            2000,
            7,
        );
        let mut moved = 0;
        for bit in 0..32 {
            let src = Ipv4Addr::from_bits(0x0a00_0001 ^ 1 << bit);
            moved +=
                (base ^ symmetric_v4(src, Ipv4Addr::from_bits(0x0a00_0002), 6, 1000, 2000, 7)).count_ones();
        }
        assert!((14 * 32..18 * 32).contains(&moved), "{moved} of 1024 bits");
        assert_ne!(
            base,
            symmetric_v4(
                Ipv4Addr::from_bits(0x0a00_0001),
                Ipv4Addr::from_bits(0x0a00_0002),
                17,
                1000,
                2000,
                7
            )
        );
        assert_ne!(
            base,
            symmetric_v4(
                Ipv4Addr::from_bits(0x0a00_0001),
                Ipv4Addr::from_bits(0x0a00_0002),
                6,
                1000,
                2000,
                8
            )
        );
    }

    proptest! {
        #[test]
        fn both_directions_agree(a: u32, b: u32, a6: u128, b6: u128, protocol: u8, sport: u16, dport: u16, seed: u32) {
            let (a, b) = (Ipv4Addr::from_bits(a), Ipv4Addr::from_bits(b));
            prop_assert_eq!(
                symmetric_v4(a, b, protocol, sport, dport, seed),
                symmetric_v4(b, a, protocol, dport, sport, seed)
            );
            let (a, b) = (Ipv6Addr::from_bits(a6), Ipv6Addr::from_bits(b6));
            prop_assert_eq!(
                symmetric_v6(a, b, protocol, sport, dport, seed),
                symmetric_v6(b, a, protocol, dport, sport, seed)
            );
        }
    }
}
