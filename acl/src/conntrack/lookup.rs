//! Looking up a burst.
//!
//! ```text
//!   all lanes: key and hash             (no memory)
//!   all lanes: read tags of the bucket  (one miss a lane, all under way together)
//!   all lanes: find the slot, read head 0 of the entry   (one more miss a lane, together)
//!   all lanes: compare the key, the time, the generations
//!   lanes whose bucket overflows and that have not found theirs: once more, with the next bucket
//! ```
//!
//! The reads of one step do not depend on each other, so a processor that executes out of order has as many under way
//! as it has room for; what a prefetch instruction would add was measured and is not worth unsafe code.

use super::bucket;
use super::entry::FlowId;
use super::found::Found;
use super::hash::{Hash, IPV6, Key, SOURCE_IS_LOWER, Seed};
use super::headers::Headers;
use super::phase::{Phase, Tick};
use super::table::View;
use super::{PolicyGenerations, icmp, lanes};

impl View<'_> {
    /// Looks up the lanes of `mask`.
    pub(super) fn lookup(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) {
        found.clear();
        keys(headers, mask, &self.fixed.seed, found);
        let buckets = self.fixed.layout.buckets;
        for lane in 0..used(mask) {
            found.bucket[lane] = found.hash[lane].bucket(buckets) as u32;
        }
        let overflowing = self.probe::<true>(mask, generations, now, found);
        let mut pending = mask & overflowing & !found.hit;
        let mut probe = 1;
        while pending != 0 && probe < bucket::PROBES {
            for lane in lanes(pending) {
                if usize::from(found.farthest[lane]) < probe {
                    pending &= !(1 << lane);
                } else {
                    found.bucket[lane] = found.hash[lane].probe(probe, buckets) as u32;
                }
            }
            self.probe::<false>(pending, generations, now, found);
            pending &= !found.hit;
            probe += 1;
        }
        found.related = found.hit & headers.quoted;
        for lane in lanes(mask & !found.hit) {
            self.miss(headers, lane, found);
        }
    }

    /// Looks for the lanes in the buckets named in `found.bucket`. Returns the lanes whose buckets overflow.
    #[inline(always)]
    fn probe<const FIRST: bool>(&self, mask: u64, generations: &[PolicyGenerations], now: Tick, found: &mut Found) -> u64 {
        for lane in lanes(mask) {
            found.words[lane] = self.bucket(found.bucket[lane] as usize).tags()[0];
        }
        let (mut candidates, mut overflowing) = (0, 0);
        for lane in lanes(mask) {
            let bucket = self.bucket(found.bucket[lane] as usize);
            let words = [found.words[lane], bucket.tags()[1]];
            let slots = bucket::candidates(words, found.hash[lane].tag());
            if FIRST {
                // Only a key's first bucket knows about its others.
                let farthest = bucket::farthest(words);
                overflowing |= u64::from(farthest != 0) << lane;
                found.farthest[lane] = farthest as u8;
            }
            candidates |= u64::from(!slots.is_empty()) << lane;
            found.slots[lane] = slots;
            // Any slot where there is none.
            found.entry[lane] = bucket.entry(slots.first());
        }
        for lane in lanes(candidates) {
            found.words[lane] = self.entry(found.entry[lane]).map_or(0, |entry| entry.state().0);
        }
        let mut hits = Hits::default();
        for lane in lanes(candidates) {
            self.compare(lane, generations, now, found, &mut hits);
        }
        found.hit |= hits.hit;
        found.reply |= hits.reply;
        found.stale_egress |= hits.stale_egress;
        found.stale_ingress |= hits.stale_ingress;
        found.denied |= hits.denied;
        overflowing
    }

    /// Compares a lane's key with its candidates; notes what a hit is worth.
    #[inline(always)]
    fn compare(
        &self,
        lane: usize,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
        hits: &mut Hits,
    ) {
        let mut slots = found.slots[lane];
        let mut number = found.entry[lane];
        loop {
            let Some(entry) = self.entry(number) else { return };
            let state = entry.state();
            let difference = entry.difference(found.rest[lane]);
            let wanted = &found.addresses[lane];
            let mut other = difference & !SOURCE_IS_LOWER | entry.address(0) ^ wanted[0];
            if found.rest[lane] & IPV6 != 0 {
                for (word, wanted) in wanted.iter().enumerate().skip(1) {
                    other |= entry.address(word) ^ wanted;
                }
            }
            if other == 0 {
                let policy = entry.policy();
                let Some(state) = entry.still(state) else { return };
                if state.expired(now, &self.fixed.timeouts) {
                    return;
                }
                let newer = |endpoint: u16, recorded: u16, of: fn(&PolicyGenerations) -> u16| {
                    match generations.get(usize::from(endpoint)) {
                        Some(current) => is_newer(of(current), recorded),
                        // An endpoint that has no policy any more: ask, and be told so.
                        None => endpoint != super::SideVerdict::NO_ENDPOINT,
                    }
                };
                let egress = newer((policy >> 32) as u16, policy as u16, |of| of.egress);
                let ingress = newer((policy >> 48) as u16, (policy >> 16) as u16, |of| of.ingress);
                hits.hit |= 1 << lane;
                hits.reply |= (difference & SOURCE_IS_LOWER) << lane;
                hits.stale_egress |= u64::from(egress) << lane;
                hits.stale_ingress |= u64::from(ingress) << lane;
                hits.denied |= u64::from(state.denied()) << lane;
                found.flow[lane] = FlowId::new(number, state);
                return;
            }
            // Another flow with the same tag.
            slots = slots.without_first();
            if slots.is_empty() {
                return;
            }
            let bucket = self.bucket(found.bucket[lane] as usize);
            number = bucket.entry(slots.first());
        }
    }

    /// Sorts a lane that has no flow.
    pub(super) fn miss(&self, headers: &Headers, lane: usize, found: &mut Found) {
        let bit = 1 << lane;
        if headers.quoted & bit != 0 {
            found.unrelated |= bit;
            return;
        }
        match self.opening_state(headers, lane) {
            Ok(_) => found.first |= bit,
            Err(reason) => found.refuse(lane, reason),
        }
    }

    /// Looks up one key: for errors, tests and people.
    pub(super) fn lookup_one(&self, key: &Key, hash: Hash, now: Tick) -> Option<(FlowId, bool)> {
        let hit = self.find(key, hash)?;
        let live = hit.state.phase() != Phase::Free && !hit.state.expired(now, &self.fixed.timeouts);
        live.then(|| (FlowId::new(hit.entry, hit.state), hit.reply))
    }
}

/// The masks of a round of hits, kept in registers.
#[derive(Default)]
struct Hits {
    hit: u64,
    reply: u64,
    stale_egress: u64,
    stale_ingress: u64,
    denied: u64,
}

/// Lanes up to the last one of a mask: bursts are filled from the front, so it is cheaper to compute a key too much
/// than to step from bit to bit.
#[inline(always)]
fn used(mask: u64) -> usize {
    64 - mask.leading_zeros() as usize
}

/// Keys and hashes of the lanes.
#[inline(always)]
fn keys(headers: &Headers, mask: u64, seed: &Seed, found: &mut Found) {
    let icmp = |lane: usize, key: Key| {
        let number = headers.protocol[lane];
        if icmp::is(number) { key.of_icmp(icmp::answers(number, headers.kind[lane])) } else { key }
    };
    for lane in 0..used(mask & !headers.v6) {
        let (sport, dport) = (headers.src_port[lane], headers.dst_port[lane]);
        let (zone, number) = (headers.zone[lane], headers.protocol[lane]);
        let key = icmp(lane, Key::v4(headers.src4[lane], headers.dst4[lane], sport, dport, zone, number));
        found.addresses[lane][0] = key.addresses[0];
        found.rest[lane] = key.rest;
        found.hash[lane] = seed.hash_v4(&key);
    }
    for lane in lanes(mask & headers.v6) {
        let (sport, dport) = (headers.src_port[lane], headers.dst_port[lane]);
        let (zone, number) = (headers.zone[lane], headers.protocol[lane]);
        let key = icmp(lane, Key::v6(headers.src6[lane], headers.dst6[lane], sport, dport, zone, number));
        found.addresses[lane] = key.addresses;
        found.rest[lane] = key.rest;
        found.hash[lane] = seed.hash(&key);
    }
}

/// Whether a policy generation is newer than the one that a verdict was made under: modulo 2^16, so neither may be more
/// than 2^15 ahead. The sweep keeps old verdicts within reach.
#[inline(always)]
pub(super) fn is_newer(current: u16, recorded: u16) -> bool {
    (current.wrapping_sub(recorded) as i16) > 0
}
