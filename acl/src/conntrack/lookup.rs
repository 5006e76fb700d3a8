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

#[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
use super::avx512;
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
    #[inline]
    pub(super) fn lookup(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) {
        found.clear();
        #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
        if let Some(available) = self.fixed.wide {
            let sorted = avx512::lookup(available, self, headers, mask, generations, now, found);
            return self.finish(headers, mask, generations, now, found, sorted);
        }
        self.lookup_scalar(headers, mask, generations, now, found);
    }

    /// The same without vector instructions.
    pub(super) fn lookup_scalar(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) {
        found.clear();
        self.keys(headers, mask, found);
        let mut sorted = Sorted::default();
        for lane in lanes(mask) {
            let bucket = self.bucket(found.bucket[lane] as usize);
            let tags = bucket.tags();
            if let Some(entry) = self.candidate_in(bucket, tags, found.hash[lane]) {
                sorted.candidates |= 1 << lane;
                found.entry[lane] = entry;
                self.parts.fetch_head(entry);
            } else if bucket::farthest(tags) != 0 {
                sorted.further |= 1 << lane;
                self.parts.fetch_bucket(found.hash[lane].probe(1, self.fixed.layout.buckets));
            }
        }
        sorted.candidates |= self.next_buckets(sorted.further, found);
        for lane in lanes(sorted.candidates & !headers.v6) {
            if let Some(difference) = self.compare(lane, generations, now, found) {
                sorted.hit |= 1 << lane;
                sorted.reply |= (difference & SOURCE_IS_LOWER) << lane;
            }
        }
        self.finish(headers, mask, generations, now, found, sorted);
    }

    /// What both kernels leave: IPv6, keys in further buckets, other keys with the same tag, and what a miss is.
    #[inline]
    fn finish(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
        sorted: Sorted,
    ) {
        let Sorted { mut hit, mut reply, candidates, further } = sorted;
        if further | candidates & !hit != 0 {
            let more = self.rest(headers, generations, now, found, sorted);
            hit |= more.hit;
            reply |= more.reply;
        }
        (found.hit, found.reply, found.related) = (hit, reply, hit & headers.quoted);
        for lane in lanes(mask & !hit) {
            self.miss(headers, lane, found);
        }
    }

    /// Candidates in the second bucket of a key, which has nearly all of those that are not in the first; fetches their
    /// heads. Returns the lanes that have one.
    #[cold]
    pub(super) fn next_buckets(&self, further: u64, found: &mut Found) -> u64 {
        let mut candidates = 0;
        for lane in lanes(further) {
            let bucket = self.bucket(found.hash[lane].probe(1, self.fixed.layout.buckets));
            if let Some(entry) = self.candidate_in(bucket, bucket.tags(), found.hash[lane]) {
                candidates |= 1 << lane;
                found.entry[lane] = entry;
                self.parts.fetch_head(entry);
            }
        }
        candidates
    }

    /// Lanes that have a candidate or may have one in a further bucket, and are not hit yet.
    fn rest(
        &self,
        headers: &Headers,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
        sorted: Sorted,
    ) -> Sorted {
        let mut more = Sorted::default();
        let v6 = sorted.candidates & headers.v6;
        let mut ahead = lanes(v6);
        for lane in ahead.by_ref().take(AHEAD) {
            self.parts.fetch_extras(found.entry[lane]);
        }
        for lane in lanes(v6) {
            if let Some(lane) = ahead.next() {
                self.parts.fetch_extras(found.entry[lane]);
            }
            if let Some(difference) = self.compare(lane, generations, now, found) {
                more.hit |= 1 << lane;
                more.reply |= (difference & SOURCE_IS_LOWER) << lane;
            }
        }
        // Another key with the same tag, or a key that is farther: rare.
        for lane in lanes((sorted.further | sorted.candidates) & !(sorted.hit | more.hit)) {
            if let Some(difference) = self.search(lane, generations, now, found) {
                more.hit |= 1 << lane;
                more.reply |= (difference & SOURCE_IS_LOWER) << lane;
            }
        }
        more
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
            self.parts.fetch_bucket(found.bucket[lane] as usize);
        }
        let icmp = if icmp == 0 { 0 } else { mask & !headers.v6 };
        for lane in lanes(icmp | mask & headers.v6) {
            self.key_of(headers, lane, found);
            self.parts.fetch_bucket(found.bucket[lane] as usize);
        }
    }

    /// Key and hash of one lane, whatever it is.
    pub(super) fn key_of(&self, headers: &Headers, lane: usize, found: &mut Found) {
        let number = headers.protocol[lane];
        let mut key = if headers.v6 >> lane & 1 == 0 {
            key_v4(headers, lane)
        } else {
            let (sport, dport) = (headers.src_port[lane], headers.dst_port[lane]);
            Key::v6(headers.src6[lane], headers.dst6[lane], sport, dport, headers.zone[lane], number)
        };
        if icmp::is(number) {
            key = key.of_icmp(is_answer(headers, lane));
        }
        let [_, others @ ..] = key.addresses;
        found.others[lane] = others;
        self.set_key(lane, &key, self.fixed.seed.hash(&key), found);
    }

    #[inline(always)]
    fn set_key(&self, lane: usize, key: &Key, hash: Hash, found: &mut Found) {
        found.address[lane] = key.addresses[0];
        found.rest[lane] = key.rest;
        found.hash[lane] = hash;
        found.bucket[lane] = hash.bucket(self.fixed.layout.buckets) as u32;
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
        let mut other = difference & !SOURCE_IS_LOWER | entry.address(0) ^ found.address[lane];
        if found.rest[lane] & IPV6 != 0 {
            other |= differs_v6(entry, &found.others[lane]);
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

/// What a kernel has found out about the lanes of a burst.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sorted {
    /// IPv4 lanes whose first candidate is their flow.
    pub(super) hit: u64,
    /// Of those, lanes that go against the flow's original direction.
    pub(super) reply: u64,
    /// Lanes that have a candidate in their first two buckets, which `Found::entry` names.
    pub(super) candidates: u64,
    /// Lanes that have none in their first bucket, but may have one in a further one.
    pub(super) further: u64,
}

/// IPv6 lanes whose extra words are on their way while one is compared.
const AHEAD: usize = 12;

/// Lanes up to the last one of a mask: bursts are filled from the front, so it is cheaper to compute a key too much
/// than to step from bit to bit.
#[inline(always)]
pub(super) fn used(mask: u64) -> usize {
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
fn differs_v6(entry: Entry<'_>, wanted: &[u64; 3]) -> u64 {
    (0..3).fold(0, |other, word| other | entry.address(1 + word) ^ wanted[word])
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
