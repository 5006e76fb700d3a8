//! Lookup and tracking with AVX-512: eight lanes side by side. This is the lookup; tracking is in `segments`.
//!
//! ```text
//!   group of 8 lanes   step 0    1      2        3        4      ...
//!          0           keys           tags           compare
//!          1                  keys           tags           compare
//!          2                         keys            tags
//! ```
//!
//! | stage | what it does | fetches |
//! |---|---|---|
//! | keys | both ends in order, hash (`hash.rs`, four 32-bit products a 64-bit one) | the lane's bucket |
//! | tags | twelve tags at once | the entry's head |
//! | compare | turns eight heads into four columns: key, time, generations, deny bits | |
//!
//! The stages of different groups alternate, so that about as many lines are on their way at a time as a core can wait
//! for. Lanes of IPv6 and ICMP take part with keys that the scalar code makes; IPv6 is compared there too. So are the
//! few lanes whose tag led to another key, or whose key may lie in a further bucket. The scalar twin is
//! [`View::lookup_scalar`]; tests hold the two together.
//!
//! **Why reading lines that others change is sound.** Every such read is inline assembly, to the compiler foreign code
//! that may touch shared memory as an atomic load does, and not moved across the other reads. The processor performs
//! each aligned word of a wider load in one piece, and loads in program order (Intel SDM vol. 3, 9.1.1 and 9.2; AMD APM
//! vol. 2, 7.2 and 7.3.2). The protocol is that of the scalar code: tag, state, key, state again.
//!
//! **And writing them.** Locks are taken by locked instructions, which nothing passes in either direction. Other stores
//! are assembly too, and the processor makes them visible in program order (the same sections): whoever sees the lock
//! free sees what was written under it. The last store writes two words at once, 16 bytes that are aligned, which
//! processors with AVX do in one piece.
#![allow(unsafe_code)] // Intrinsics, and loads of shared words by assembly.

mod acknowledgments;
mod bodies;
mod columns;
mod heads;
mod segments;

use core::arch::asm;
use core::arch::x86_64::*;

use super::PolicyGenerations;
use super::bucket;
use super::entry::{DENIED, INCARNATION, LAST_SHIFT, PHASE_SHIFT};
use super::found::Found;
use super::hash::SOURCE_IS_LOWER;
use super::headers::{Headers, LANES};
use super::lanes;
use super::lookup::{Sorted, used};
use super::memory::Line;
use super::phase::Tick;
use super::table::View;
use columns::{halves, load, mix, octets, store, words};
use heads::{keys_and_policies, states};
pub(super) use segments::track;

/// Lanes of a group.
const GROUP: usize = 8;
/// Steps between two stages of a group.
const DISTANCE: usize = 3;
/// The bytes of a bucket's first half that are tags.
const TAGS: u16 = 0xfff0;
/// The bits of a 64-bit product's lower half.
const LOW: i64 = 0xffff_ffff;

/// Proof that the processor has the instructions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Available(());

impl Available {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512cd")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2");
        all.then_some(Available(()))
    }
}

/// Looks up the lanes of `mask`, as far as vectors go.
pub(super) fn lookup(
    _: Available,
    view: &View<'_>,
    headers: &Headers,
    mask: u64,
    generations: &[PolicyGenerations],
    now: Tick,
    found: &mut Found,
) -> Sorted {
    // SAFETY: an `Available` exists only if the processor has every feature that `lookup_wide` enables.
    unsafe { lookup_wide(view, headers, mask, generations, now, found) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
fn lookup_wide(
    view: &View<'_>,
    headers: &Headers,
    mask: u64,
    generations: &[PolicyGenerations],
    now: Tick,
    found: &mut Found,
) -> Sorted {
    let mut burst = Burst::new(view, headers, mask, generations, now);
    let groups = used(mask).div_ceil(GROUP);
    for step in 0..groups + 2 * DISTANCE {
        if step < groups {
            burst.keys(step, found);
        }
        if let Some(group) = step.checked_sub(DISTANCE).filter(|group| *group < groups) {
            burst.tags(group, found);
        }
        if let Some(group) = step.checked_sub(DISTANCE + 1).filter(|group| *group < groups) {
            burst.marks(group, found);
        }
        if let Some(group) = step.checked_sub(DISTANCE + 2).filter(|group| *group < groups) {
            burst.next_buckets(group, found);
        }
        if let Some(group) = step.checked_sub(2 * DISTANCE) {
            burst.compare(group, found);
        }
    }
    let Burst { hit, reply, candidates, further, .. } = burst;
    let v4 = mask & !headers.v6;
    found.stale_egress &= hit & v4;
    found.stale_ingress &= hit & v4;
    found.denied &= hit & v4;
    Sorted { hit: hit & v4, reply: reply & hit & v4, candidates: candidates & mask, further: further & mask }
}

/// Addresses in whole cache lines.
#[repr(align(64))]
struct Pointers([*const u8; LANES]);

/// What all stages of a burst need, and what they find.
struct Burst<'a> {
    view: &'a View<'a>,
    headers: &'a Headers,
    mask: u64,
    generations: &'a [PolicyGenerations],
    now: Tick,
    /// Address and number of the buckets.
    buckets: *const u8,
    bucket_count: usize,
    heads: *const u8,
    last_entry: u32,
    /// The bits of a slot that are an entry's number.
    numbers: u32,
    /// Where each lane's bucket lies.
    bucket: Pointers,
    /// Where the head of each lane's candidate lies.
    head: Pointers,
    /// Lanes whose key the scalar code makes.
    apart: u64,
    hit: u64,
    reply: u64,
    candidates: u64,
    further: u64,
}

impl<'a> Burst<'a> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn new(
        view: &'a View<'a>,
        headers: &'a Headers,
        mask: u64,
        generations: &'a [PolicyGenerations],
        now: Tick,
    ) -> Self {
        // SAFETY: 64 protocol numbers are 64 readable bytes.
        let protocols = unsafe { _mm512_loadu_si512(headers.protocol.as_ptr().cast()) };
        let icmp = _mm512_cmpeq_epi8_mask(protocols, _mm512_set1_epi8(super::protocol::ICMP as i8))
            | _mm512_cmpeq_epi8_mask(protocols, _mm512_set1_epi8(super::protocol::ICMPV6 as i8));
        Burst {
            view,
            headers,
            mask,
            generations,
            now,
            buckets: view.parts.buckets.as_ptr().cast(),
            bucket_count: view.parts.buckets.len(),
            heads: view.parts.heads_start(),
            last_entry: view.parts.flows() - 1,
            numbers: view.fixed.layout.numbers,
            bucket: Pointers([core::ptr::null(); LANES]),
            head: Pointers([core::ptr::null(); LANES]),
            apart: mask & (headers.v6 | icmp),
            hit: 0,
            reply: 0,
            candidates: 0,
            further: 0,
        }
    }

    /// Keys, hashes and buckets of a group; fetches the buckets.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn keys(&mut self, group: usize, found: &mut Found) {
        let first = group * GROUP;
        let headers = self.headers;
        let end = |addresses: &[u32; LANES], ports: &[u16; LANES]| {
            _mm512_or_si512(_mm512_slli_epi64::<16>(words(addresses, group)), halves(ports, group))
        };
        let source = end(&headers.src4, &headers.src_port);
        let destination = end(&headers.dst4, &headers.dst_port);
        let (low, high) = (_mm512_min_epu64(source, destination), _mm512_max_epu64(source, destination));
        let source_is_lower = _mm512_cmple_epu64_mask(source, destination);
        // (low << 16 & upper half) | high >> 16
        let address = _mm512_ternarylogic_epi64::<0xea>(
            _mm512_slli_epi64::<16>(low),
            _mm512_set1_epi64(!LOW),
            _mm512_srli_epi64::<16>(high),
        );
        let ports = _mm512_or_si512(
            _mm512_slli_epi64::<48>(low),
            _mm512_srli_epi64::<16>(_mm512_slli_epi64::<48>(high)),
        );
        let zone = _mm512_slli_epi64::<16>(halves(&headers.zone, group));
        let number = _mm512_slli_epi64::<8>(octets(&headers.protocol, group));
        let rest = _mm512_or_si512(ports, _mm512_or_si512(zone, number));
        let hash = self.hash(address, rest);
        let with_side =
            _mm512_mask_or_epi64(rest, source_is_lower, rest, _mm512_set1_epi64(SOURCE_IS_LOWER as i64));
        let count = _mm512_set1_epi64(self.bucket_count as i64);
        let at = _mm512_srli_epi64::<32>(_mm512_mul_epu32(_mm512_srli_epi64::<32>(hash), count));
        let start = _mm512_set1_epi64(self.buckets as i64);
        self.bucket.store(group, _mm512_add_epi64(_mm512_slli_epi64::<BUCKET_BITS>(at), start));
        store(&mut found.address, group, address);
        store(&mut found.rest, group, with_side);
        // SAFETY: a `Hash` is a `u64`, and a group's eight lie in the array.
        unsafe { _mm512_storeu_si512(found.hash[first..first + GROUP].as_mut_ptr().cast(), hash) };
        for lane in lanes(self.apart & 0xff << first) {
            self.view.key_of(self.headers, lane, found);
            let bucket = found.hash[lane].bucket(self.bucket_count);
            self.bucket.0[lane] = self.buckets.wrapping_add(bucket << BUCKET_BITS);
        }
        for lane in first..first + GROUP {
            fetch(self.bucket.get(lane));
        }
    }

    /// See [`Seed`](super::hash::Seed).
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn hash(&self, address: __m512i, rest: __m512i) -> __m512i {
        let secrets = self.view.fixed.seed.0.map(|secret| secret as i64);
        let masked = |word, secret| _mm512_xor_si512(word, _mm512_set1_epi64(secret));
        let inner = mix(masked(address, secrets[0]), masked(rest, secrets[1]));
        let outer = mix(masked(inner, secrets[2]), masked(_mm512_rol_epi64::<24>(rest), secrets[3]));
        let untagged = _mm512_testn_epi64_mask(outer, _mm512_set1_epi64(0xff));
        _mm512_mask_or_epi64(outer, untagged, outer, _mm512_set1_epi64(1))
    }

    /// First candidates of a group in their first buckets; fetches their heads.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn tags(&mut self, group: usize, found: &mut Found) {
        for lane in group * GROUP..(group + 1) * GROUP {
            let tag: *const u64 = &raw const found.hash[lane].0;
            let marked: u32;
            // SAFETY: reads the low byte of a hash and 16 bytes of a bucket, aligned; see the module about shared
            // words. The position is 4 to 15, in units of four bytes, where there is a candidate; otherwise 32, which
            // is in the second line behind the bucket: that is there, since heads and bodies lie behind the buckets.
            unsafe {
                asm!(
                    "vpbroadcastb {tags}, byte ptr [{tag}]",
                    "vpcmpeqb {same} {{{all}}}, {tags}, xmmword ptr [{line}]",
                    "kmovw {marked:e}, {same}",
                    "tzcnt {marked:e}, {marked:e}",
                    "mov {marked:e}, dword ptr [{line} + 4 * {marked:r}]",
                    tag = in(reg) tag,
                    line = in(reg) self.bucket.get(lane),
                    all = in(kreg) TAGS,
                    tags = out(xmm_reg) _,
                    same = out(kreg) _,
                    marked = out(reg) marked,
                    options(nostack, readonly)
                );
            }
            found.entry[lane] = marked;
            fetch(self.heads.wrapping_add((marked & self.numbers) as usize * HEAD));
        }
    }

    /// Sorts out the lanes of a group whose first candidate does not have their mark, most of which have none.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn marks(&mut self, group: usize, found: &mut Found) {
        let first = group * GROUP;
        // SAFETY: eight numbers of entries are 32 bytes of the array.
        let marked = unsafe { _mm256_loadu_si256(found.entry[first..first + GROUP].as_ptr().cast()) };
        // SAFETY: a `Hash` is a `u64`, and a group's eight lie in the array.
        let hash = unsafe { _mm512_loadu_si512(found.hash[first..first + GROUP].as_ptr().cast()) };
        let numbers = _mm256_set1_epi32(self.numbers as i32);
        let marks = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<8>(hash));
        let differs = _mm256_andnot_si256(numbers, _mm256_xor_si256(marked, marks));
        let wrong = _mm256_test_epi32_mask(differs, differs);
        // SAFETY: as above.
        unsafe {
            _mm256_storeu_si256(
                found.entry[first..first + GROUP].as_mut_ptr().cast(),
                _mm256_and_si256(marked, numbers),
            );
        };
        self.candidates |= u64::from(!wrong) << first;
        let wrong = self.mask & u64::from(wrong) << first;
        if wrong != 0 {
            self.choose(wrong, found);
        }
    }

    /// Candidates by tag and mark. Lanes that have none in their first bucket, but may have one in another: the next
    /// one is fetched.
    #[cold]
    #[inline(never)]
    fn choose(&mut self, wrong: u64, found: &mut Found) {
        for lane in lanes(wrong) {
            let hash = found.hash[lane];
            let bucket = self.view.bucket(hash.bucket(self.bucket_count));
            let tags = bucket.tags();
            if let Some(entry) = self.view.candidate_in(bucket, tags, hash) {
                self.candidates |= 1 << lane;
                found.entry[lane] = entry;
                self.view.parts.fetch_head(entry);
            } else if bucket::farthest(tags) != 0 {
                self.further |= 1 << lane;
                self.view.parts.fetch_bucket(hash.probe(1, self.bucket_count));
            }
        }
    }

    /// Candidates of a group in their second buckets, where that may be; fetches their heads.
    #[inline]
    fn next_buckets(&mut self, group: usize, found: &mut Found) {
        let further = self.further & 0xff << (group * GROUP);
        if further != 0 {
            self.candidates |= self.view.next_buckets(further, found);
        }
    }

    /// Compares the keys of a group with their candidates, and notes what a hit is worth.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn compare(&mut self, group: usize, found: &mut Found) {
        let first = group * GROUP;
        // SAFETY: eight numbers of entries are 32 bytes of the array.
        let entries = unsafe { _mm256_loadu_si256(found.entry[first..first + GROUP].as_ptr().cast()) };
        // Within bounds even where memory is damaged.
        let entries =
            _mm512_cvtepu32_epi64(_mm256_min_epu32(entries, _mm256_set1_epi32(self.last_entry as i32)));
        let start = _mm512_set1_epi64(self.heads as i64);
        self.head.store(group, _mm512_add_epi64(_mm512_slli_epi64::<HEAD_BITS>(entries), start));
        let head = core::array::from_fn(|lane| self.head.get(first + lane));
        // SAFETY: every entry is at most the last one, so its head lies in the table.
        let (before, [address, rest, policy], state) =
            unsafe { (states(head), keys_and_policies(head), states(head)) };

        let side = _mm512_xor_si512(rest, load(&found.rest, group));
        let other = _mm512_xor_si512(address, load(&found.address, group));
        let apart = _mm512_set1_epi64(SOURCE_IS_LOWER as i64);
        // (side & !apart) | other
        let differs = _mm512_ternarylogic_epi64::<0xf2>(other, apart, side);
        let same = _mm512_testn_epi64_mask(differs, differs);
        let freed =
            _mm512_test_epi64_mask(_mm512_xor_si512(before, state), _mm512_set1_epi64(INCARNATION as i64));
        let hit = same & !freed & !self.expired(state);
        let reply = _mm512_test_epi64_mask(side, apart);
        let denied = _mm512_test_epi64_mask(state, _mm512_set1_epi64(DENIED as i64));
        let (stale_egress, stale_ingress) = self.stale(policy);
        let id = _mm512_or_si512(
            _mm512_slli_epi64::<32>(entries),
            _mm512_and_si512(state, _mm512_set1_epi64(INCARNATION as i64)),
        );
        // SAFETY: a `FlowId` is a `u64`, and a group's eight lie in the array.
        unsafe { _mm512_storeu_si512(found.flow[first..first + GROUP].as_mut_ptr().cast(), id) };
        self.hit |= u64::from(hit) << first & self.candidates;
        self.reply |= u64::from(reply) << first;
        found.denied |= u64::from(denied) << first;
        found.stale_egress |= u64::from(stale_egress) << first;
        found.stale_ingress |= u64::from(stale_ingress) << first;
    }

    /// See [`State::expired`](super::entry::State::expired).
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn expired(&self, state: __m512i) -> __mmask8 {
        let timeouts = &self.view.fixed.timeouts;
        // SAFETY: 32 timeouts are 128 readable bytes.
        let (some, others) = unsafe {
            (
                _mm512_loadu_si512(timeouts.as_ptr().cast()),
                _mm512_loadu_si512(timeouts.as_ptr().add(16).cast()),
            )
        };
        // The low five bits of each index count, and only even lanes are of use.
        let phase = _mm512_srli_epi64::<PHASE_SHIFT>(state);
        let timeout = _mm512_maskz_permutex2var_epi32(0x5555, some, phase, others);
        let mask = _mm512_set1_epi64(i64::from(Tick::MASK));
        let seen = _mm512_srli_epi64::<LAST_SHIFT>(state);
        let age = _mm512_and_si512(_mm512_sub_epi64(_mm512_set1_epi64(i64::from(self.now.0)), seen), mask);
        let past = _mm512_cmple_epu64_mask(age, _mm512_set1_epi64(i64::from(Tick::MAX_AGE)));
        _mm512_cmpge_epu64_mask(_mm512_maskz_mov_epi64(past, age), timeout)
    }

    /// Lanes whose egress, and whose ingress, verdict is older than the policy.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2")]
    fn stale(&self, policy: __m512i) -> (__mmask8, __mmask8) {
        const NONE: i32 = super::SideVerdict::NO_ENDPOINT as i32;
        // The egress endpoint in even lanes of four bytes, the ingress endpoint in odd ones.
        let endpoints = _mm512_or_si512(
            _mm512_and_si512(_mm512_srli_epi64::<32>(policy), _mm512_set1_epi64(0xffff)),
            _mm512_and_si512(_mm512_srli_epi64::<16>(policy), _mm512_set1_epi64(!LOW)),
        );
        let count = u32::try_from(self.generations.len()).unwrap_or(u32::MAX);
        let known = _mm512_cmplt_epu32_mask(endpoints, _mm512_set1_epi32(count as i32));
        let unknown = u32::from(!known & _mm512_cmpneq_epi32_mask(endpoints, _mm512_set1_epi32(NONE)));
        let known = u32::from(known);
        let side = |of: u32, endpoints: __m256i, recorded: __m256i| -> u8 {
            let known = _pext_u32(known, of) as u8;
            if known == 0 {
                return 0;
            }
            // SAFETY: reads in lanes whose endpoint is below the length. `PolicyGenerations` is two `u16` by its
            // representation, which nobody changes while it is borrowed.
            let current = unsafe {
                _mm256_mmask_i32gather_epi32::<4>(
                    _mm256_setzero_si256(),
                    known,
                    endpoints,
                    self.generations.as_ptr().cast(),
                )
            };
            // The egress generation in the lower half, the ingress one in the upper half.
            let newer = _mm256_cmpgt_epi16_mask(_mm256_sub_epi16(current, recorded), _mm256_setzero_si256());
            let half = if of & 1 != 0 { 0x5555 } else { 0xaaaa };
            _pext_u32(u32::from(newer), half) as u8
        };
        let recorded = _mm512_cvtepi64_epi32(policy);
        let egress = side(0x5555, _mm512_cvtepi64_epi32(endpoints), recorded);
        let ingress = side(0xaaaa, _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(endpoints)), recorded);
        (egress | _pext_u32(unknown, 0x5555) as u8, ingress | _pext_u32(unknown, 0xaaaa) as u8)
    }
}

impl Pointers {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(&mut self, group: usize, pointers: __m512i) {
        let group = &mut self.0[group * GROUP..(group + 1) * GROUP];
        // SAFETY: eight addresses are 64 writable bytes.
        unsafe { _mm512_storeu_si512(group.as_mut_ptr().cast(), pointers) }
    }

    /// Those of a group's lanes.
    #[inline(always)]
    fn group(&self, group: usize) -> [*const u8; GROUP] {
        core::array::from_fn(|lane| self.get(group * GROUP + lane))
    }

    /// A lane's, from memory: the compiler would take it out of the vector's register, which is slower.
    #[inline(always)]
    fn get(&self, lane: usize) -> *const u8 {
        // SAFETY: a reference may be read.
        unsafe { core::ptr::read_volatile(&raw const self.0[lane]) }
    }
}

/// Bytes of a head.
const HEAD: usize = 1 << HEAD_BITS;
const HEAD_BITS: u32 = 5;
/// Bytes of a bucket, as a power of two.
const BUCKET_BITS: u32 = size_of::<Line>().ilog2();

/// Fetches a line; a hint that may be given for any address.
#[inline(always)]
fn fetch(at: *const u8) {
    // SAFETY: the instruction faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}
