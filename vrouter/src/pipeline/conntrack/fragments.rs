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

/// Packets remembered at a time; a later one may take the place of an earlier one.
const SLOTS: usize = 1024;
/// How long a first fragment is remembered, in milliseconds: as long as Linux waits for the others.
const MEMORY_MS: u64 = 30_000;

/// First fragments that have passed, by a hash of what the fragments of a packet have in common.
#[derive(Debug)]
pub(super) struct FirstFragments {
    slots: Box<[(u64, u64)]>,
    seed: u64,
}

impl FirstFragments {
    pub(super) fn new(seed: u64) -> Self {
        FirstFragments { slots: vec![(0, 0); SLOTS].into(), seed: seed | 1 }
    }

    fn slot(&mut self, key: u64) -> &mut (u64, u64) {
        &mut self.slots[key as usize % SLOTS]
    }

    fn remember(&mut self, key: u64, now_ms: u64) {
        *self.slot(key) = (key, now_ms + MEMORY_MS);
    }

    fn has_passed(&mut self, key: u64, now_ms: u64) -> bool {
        let (of, until) = *self.slot(key);
        of == key && now_ms < until
    }

    fn hash(&self, words: impl Iterator<Item = u64>) -> u64 {
        // Folded multiplication, as in wyhash: the seed keeps the product from being foreseen.
        words.fold(self.seed, |hash, word| {
            let product = u128::from(hash ^ word) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
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
    OfSource = 0x55,
    /// That of both policies.
    OfBoth = 0xaa,
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
                let own = u64::from(id) << 16 | u64::from(number) << 8 | word as u64;
                let key = state.flows.fragments.hash(words.chain([own]));
                if offset == 0 {
                    state.flows.fragments.remember(key, now_ms);
                    true
                } else {
                    let overwrites_flags = number == protocol::TCP && offset == 8;
                    !overwrites_flags && state.flows.fragments.has_passed(key, now_ms)
                }
            }
            _ => false,
        };
        if !passes {
            state.drop_packet(burst, lane, DropReason::FragmentUnknown);
        }
    }
}
