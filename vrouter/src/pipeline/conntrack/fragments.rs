//! Fragments behind the first: they pass where the first one has passed.
//!
//! ```text
//!   first fragment, let pass  ->  remember (source, destination, protocol, identification)
//!   later fragment            ->  remembered: passes        not: dropped, `fragment-unknown`
//! ```
//!
//! This happens twice, as policy is asked twice: at the source's policy, so that a pod which may not
//! send makes the router look nothing up, and when both policies have been asked.
//!
//! This is virtual reassembly: without its first fragment no packet can be put together, so nothing
//! gets through that policy has not seen the ports of. A later fragment that overtakes the first is
//! lost, and the sender's retransmission makes up for it. Each worker remembers for itself: devices
//! spread fragments by their addresses alone, so those of a packet meet at one worker.
//!
//! TCP fragments at offset 8 are never taken: they would overwrite the flags (RFC 1858, RFC 3128).

use encap::wire::{ipv6, ipv6_ext, protocol};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;

/// Buckets of the table, and packets that each remembers at a time.
const BUCKETS: usize = 256;
const WAYS: usize = 4;
/// How long a first fragment is remembered, in milliseconds: as long as Linux waits for the others.
const MEMORY_MS: u64 = 30_000;

/// A packet whose first fragment has passed.
#[derive(Clone, Copy, Default, Debug)]
struct Passed {
    /// Hash of what its fragments have in common.
    key: u64,
    until_ms: u64,
    /// Who has let it pass, as bits of [`Word`]. One entry holds both: were they two, they would
    /// now and then meet in one place, and the second word would wipe out the first.
    words: u8,
}

/// First fragments that have passed.
#[derive(Debug)]
pub(super) struct FirstFragments {
    buckets: Box<[[Passed; WAYS]]>,
    seed: u64,
}

impl FirstFragments {
    pub(super) fn new(seed: u64) -> Self {
        FirstFragments { buckets: vec![[Passed::default(); WAYS]; BUCKETS].into(), seed: seed | 1 }
    }

    /// Takes the place of the packet that is nearest to its end, if there are too many.
    fn remember(&mut self, key: u64, word: Word, now_ms: u64) {
        let bucket = &mut self.buckets[key as usize % BUCKETS];
        let place = match bucket.iter().position(|passed| passed.key == key) {
            Some(place) => place,
            None => (0..WAYS).min_by_key(|&place| bucket[place].until_ms).unwrap_or(0),
        };
        let passed = &mut bucket[place];
        let known = passed.key == key && now_ms < passed.until_ms;
        let words = if known { passed.words } else { 0 } | word as u8;
        *passed = Passed { key, until_ms: now_ms + MEMORY_MS, words };
    }

    fn has_passed(&self, key: u64, word: Word, now_ms: u64) -> bool {
        let bucket = &self.buckets[key as usize % BUCKETS];
        let mut of_this_packet = bucket.iter().filter(|passed| passed.key == key);
        of_this_packet.any(|passed| passed.words & word as u8 != 0 && now_ms < passed.until_ms)
    }

    fn hash(&self, words: impl Iterator<Item = u64>) -> u64 {
        // Folded multiplication, as in wyhash: the seed keeps the product from being foreseen.
        // An odd factor loses no bit of what it multiplies.
        let factor = (self.seed ^ 0x9e37_79b9_7f4a_7c15) | 1;
        words.fold(self.seed, |hash, word| {
            let product = u128::from(hash ^ word) * u128::from(factor);
            (product >> 64) as u64 ^ product as u64 ^ hash.rotate_left(23)
        })
    }
}

/// Where a fragment belongs.
struct Fragment {
    id: u32,
    /// In bytes.
    offset: u16,
}

fn fragment(burst: &Burst, lane: usize, ip: &[u8]) -> Option<Fragment> {
    if burst.v4 >> lane & 1 == 1 {
        let [a, b, c, d] = *ip.get(4..8)?.first_chunk()?;
        let offset = (u16::from_be_bytes([c, d]) & 0x1fff) << 3;
        return Some(Fragment { id: u32::from(u16::from_be_bytes([a, b])), offset });
    }
    let (header, payload) = ip.split_first_chunk::<{ ipv6::HEADER_LEN }>()?;
    let info = ipv6_ext::walk(header[6], payload).ok()?.fragment?;
    Some(Fragment { id: info.id, offset: info.offset })
}

/// Whose word on the first fragment counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// That of the source's policy.
    OfSource = 1,
    /// That of both policies.
    OfBoth = 2,
}

/// Lets later fragments share the lot of the first. All of `mask` are fragments.
#[cold]
pub(super) fn run(burst: &mut Burst, mask: u64, word: Word, state: &mut WorkerState) {
    let now_ms = state.now.0 / 1_000_000;
    for lane in lanes(mask) {
        let ip = burst.network(lane, state.pool.area());
        let found = fragment(burst, lane, ip);
        let addresses = if burst.v4 >> lane & 1 == 1 { ip.get(12..20) } else { ip.get(8..40) };
        let number = burst.meta.protocol[lane];
        let passes = match (found, addresses) {
            (Some(Fragment { id, offset }), Some(addresses)) => {
                let words = addresses.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
                let own = u64::from(id) << 8 | u64::from(number);
                let key = state.flows.fragments.hash(words.chain([own]));
                if offset == 0 {
                    state.flows.fragments.remember(key, word, now_ms);
                    true
                } else {
                    let overwrites_flags = number == protocol::TCP && offset == 8;
                    !overwrites_flags && state.flows.fragments.has_passed(key, word, now_ms)
                }
            }
            _ => false,
        };
        if !passes {
            state.drop_packet(burst, lane, DropReason::FragmentUnknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fragments of a packet that come in different bursts: both words are there for the later ones.
    #[test]
    fn one_word_on_a_packet_does_not_wipe_out_the_other() {
        for (seed, id) in (0..100_u64).flat_map(|seed| (0..100).map(move |id| (seed, id))) {
            let mut fragments = FirstFragments::new(seed << 40 ^ 0x1234_5678_9abc_def1);
            let key = fragments.hash([0x0a4d_010a_0a4d_020a, id << 8 | 17].into_iter());
            assert!(!fragments.has_passed(key, Word::OfSource, id));
            fragments.remember(key, Word::OfSource, id);
            assert!(!fragments.has_passed(key, Word::OfBoth, id));
            fragments.remember(key, Word::OfBoth, id);
            assert!(fragments.has_passed(key, Word::OfSource, id), "packet {id}");
            assert!(fragments.has_passed(key, Word::OfBoth, id), "packet {id}");
        }
    }

    /// A word of long ago is none, for a packet whose identification comes round again.
    #[test]
    fn words_end_with_their_time() {
        let mut fragments = FirstFragments::new(1);
        fragments.remember(7, Word::OfSource, 0);
        assert!(fragments.has_passed(7, Word::OfSource, MEMORY_MS - 1));
        assert!(!fragments.has_passed(7, Word::OfSource, MEMORY_MS));
        fragments.remember(7, Word::OfBoth, MEMORY_MS);
        assert!(!fragments.has_passed(7, Word::OfSource, MEMORY_MS));
    }

    /// Packets that share a bucket leave each other in peace until it is full; then the oldest goes.
    #[test]
    fn a_full_bucket_forgets_its_oldest() {
        let mut fragments = FirstFragments::new(1);
        let key = |n: usize| (3 + n * BUCKETS) as u64;
        for n in 0..=WAYS {
            fragments.remember(key(n), Word::OfSource, n as u64);
        }
        let known: Vec<bool> = (0..=WAYS).map(|n| fragments.has_passed(key(n), Word::OfSource, 10)).collect();
        assert_eq!(known, [false, true, true, true, true]);
    }
}
