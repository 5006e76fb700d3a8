//! Looking up a burst.
//!
//! ```text
//!   all lanes: key, hash; fetch the first bucket        the line arrives while the next lanes are hashed
//!   all lanes: find the slot; fetch the entry's head    the same
//!   all lanes: compare the key, the time, the generations
//!   the few lanes whose keys may be in further buckets: one by one
//! ```
//!
//! Fetches are spread between the work of other lanes, since a core has room for two dozen misses at a time and forgets
//! fetches beyond that.

use super::bucket;
use super::entry::{Entry, FlowId};
use super::found::Found;
use super::hash::{Hash, IPV6, Key, SOURCE_IS_LOWER};
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
        let buckets = self.fixed.layout.buckets;
        self.keys(headers, mask, found);
        let (mut candidates, mut further) = (0, 0);
        for lane in lanes(mask) {
            let mut bucket = self.bucket(found.bucket[lane] as usize);
            let (tags, tag) = (bucket.tags(), found.hash[lane].tag());
            let mut slots = bucket::candidates(tags, tag);
            let farthest = bucket::farthest(tags);
            if farthest != 0 {
                further |= 1 << lane;
                if slots.is_empty() {
                    // The next of the key's buckets has nearly all of those that are not in the first.
                    bucket = self.bucket(found.hash[lane].probe(1, buckets));
                    slots = bucket::candidates(bucket.tags(), tag);
                    if farthest == 1 && slots.is_empty() {
                        further &= !(1 << lane);
                    }
                }
            }
            let entry = bucket.entry(slots.first());
            if !slots.is_empty() {
                candidates |= 1 << lane;
                self.parts.fetch_head(entry);
                if found.rest[lane] & IPV6 != 0 {
                    self.parts.fetch_extras(entry);
                }
            }
            found.entry[lane] = entry;
        }
        let (mut hit, mut reply) = (0, 0);
        for lane in lanes(candidates) {
            if let Some(difference) = self.compare(lane, generations, now, found) {
                hit |= 1 << lane;
                reply |= (difference & SOURCE_IS_LOWER) << lane;
            }
        }
        // Another key with the same tag, or a key that is farther: rare.
        for lane in lanes(mask & (further | candidates) & !hit) {
            if let Some(difference) = self.search(lane, generations, now, found) {
                hit |= 1 << lane;
                reply |= (difference & SOURCE_IS_LOWER) << lane;
            }
        }
        (found.hit, found.reply, found.related) = (hit, reply, hit & headers.quoted);
        for lane in lanes(mask & !hit) {
            self.miss(headers, lane, found);
        }
    }

    /// Keys and hashes of the lanes; fetches their first buckets.
    #[inline(always)]
    fn keys(&self, headers: &Headers, mask: u64, found: &mut Found) {
        let seed = &self.fixed.seed;
        let v4 = used(mask & !headers.v6);
        let mut icmp = 0_u8;
        for number in &headers.protocol[..v4] {
            icmp |= u8::from(icmp::is(*number));
        }
        for lane in 0..v4 {
            let key = key_v4(headers, lane);
            self.set_key(lane, &key, seed.hash_v4(&key), found);
        }
        if icmp != 0 {
            for lane in (0..v4).filter(|lane| icmp::is(headers.protocol[*lane])) {
                let key = key_v4(headers, lane).of_icmp(is_answer(headers, lane));
                self.set_key(lane, &key, seed.hash_v4(&key), found);
            }
        }
        for lane in lanes(mask & headers.v6) {
            let (sport, dport) = (headers.src_port[lane], headers.dst_port[lane]);
            let (zone, number) = (headers.zone[lane], headers.protocol[lane]);
            let mut key = Key::v6(headers.src6[lane], headers.dst6[lane], sport, dport, zone, number);
            if icmp::is(number) {
                key = key.of_icmp(is_answer(headers, lane));
            }
            found.addresses[lane] = key.addresses;
            self.set_key(lane, &key, seed.hash(&key), found);
        }
    }

    #[inline(always)]
    fn set_key(&self, lane: usize, key: &Key, hash: Hash, found: &mut Found) {
        found.addresses[lane][0] = key.addresses[0];
        found.rest[lane] = key.rest;
        found.hash[lane] = hash;
        let bucket = hash.bucket(self.fixed.layout.buckets);
        found.bucket[lane] = bucket as u32;
        self.parts.fetch_bucket(bucket);
    }

    /// Looks for a lane in all buckets that its key may be in.
    #[cold]
    fn search(
        &self,
        lane: usize,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) -> Option<u64> {
        let hit = self.find(&found.key(lane), found.hash[lane])?;
        found.entry[lane] = hit.entry;
        self.compare(lane, generations, now, found)
    }

    /// Compares a lane's key with its candidate, and notes what a hit is worth. Returns what differs of the key.
    #[inline(always)]
    fn compare(
        &self,
        lane: usize,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) -> Option<u64> {
        let number = found.entry[lane];
        let entry = self.entry(number)?;
        let state = entry.state();
        let difference = entry.difference(found.rest[lane]);
        let wanted = &found.addresses[lane];
        let mut other = difference & !SOURCE_IS_LOWER | entry.address(0) ^ wanted[0];
        if found.rest[lane] & IPV6 != 0 {
            other |= differs_v6(entry, wanted);
        }
        let policy = entry.policy();
        let state = entry.still(state)?;
        if other != 0 || state.expired(now, &self.fixed.timeouts) {
            return None;
        }
        let egress = is_stale((policy >> 32) as u16, policy as u16, generations, |of| of.egress);
        let ingress = is_stale((policy >> 48) as u16, (policy >> 16) as u16, generations, |of| of.ingress);
        found.flow[lane] = FlowId::new(number, state);
        if egress | ingress | state.denied() {
            found.stale_egress |= u64::from(egress) << lane;
            found.stale_ingress |= u64::from(ingress) << lane;
            found.denied |= u64::from(state.denied()) << lane;
        }
        Some(difference)
    }

    /// Sorts a lane that has no flow.
    pub(super) fn miss(&self, headers: &Headers, lane: usize, found: &mut Found) {
        let bit = 1 << lane;
        if headers.quoted & bit != 0 {
            found.unrelated |= bit;
            return;
        }
        match self.may_open(headers, lane) {
            Ok(()) => found.first |= bit,
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

/// Lanes up to the last one of a mask: bursts are filled from the front, so it is cheaper to compute a key too much
/// than to step from bit to bit.
#[inline(always)]
fn used(mask: u64) -> usize {
    64 - mask.leading_zeros() as usize
}

#[inline(always)]
fn key_v4(headers: &Headers, lane: usize) -> Key {
    let (sport, dport) = (headers.src_port[lane], headers.dst_port[lane]);
    let (zone, number) = (headers.zone[lane], headers.protocol[lane]);
    Key::v4(headers.src4[lane], headers.dst4[lane], sport, dport, zone, number)
}

fn is_answer(headers: &Headers, lane: usize) -> bool {
    icmp::answers(headers.protocol[lane], headers.kind[lane])
}

/// What differs of the address words behind the first. Apart, to leave the registers to IPv4.
#[inline(never)]
fn differs_v6(entry: Entry<'_>, wanted: &[u64; 4]) -> u64 {
    (1..4).fold(0, |other, word| other | entry.address(word) ^ wanted[word])
}

/// Whether a verdict of an endpoint is older than its policy.
#[inline(always)]
fn is_stale(
    endpoint: u16,
    recorded: u16,
    generations: &[PolicyGenerations],
    of: fn(&PolicyGenerations) -> u16,
) -> bool {
    match generations.get(usize::from(endpoint)) {
        Some(current) => is_newer(of(current), recorded),
        // An endpoint that has no policy any more: ask, and be told so.
        None => endpoint != super::SideVerdict::NO_ENDPOINT,
    }
}

/// Whether a policy generation is newer than the one that a verdict was made under: modulo 2^16, so neither may be more
/// than 2^15 ahead. The sweep keeps old verdicts within reach.
#[inline(always)]
pub(super) fn is_newer(current: u16, recorded: u16) -> bool {
    (current.wrapping_sub(recorded) as i16) > 0
}
