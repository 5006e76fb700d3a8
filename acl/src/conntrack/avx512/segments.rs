//! Tracking with AVX-512: plain segments of established connections, eight lanes side by side.
//!
//! ```text
//!   group of 8 lanes   step 0       1         2         3             4              5
//!          0           prepare                          claim, read   finish
//!          1                        prepare                           claim, read    finish
//!          2                                  prepare                                claim, read
//! ```
//!
//! | stage | what it does |
//! |---|---|
//! | prepare | fetches the bodies; chooses the lanes whose flows are settled |
//! | claim | locks their connections |
//! | read | reads the connections' words, counters and verdicts, and the flows' states again |
//! | finish | judges all; writes the ends, the counters, then windows and last segment, which unlocks |
//!
//! It is the protocol of `tcp::connection`. A locked instruction waits until all that was stored before it is in the
//! cache, and the words of a connection come late after it. So in each step a group is claimed, then the one in front
//! of it is finished, whose words are there, then the claimed one is read.
//!
//! A lane that turns out not to be of this case has changed nothing, and is tracked one by one, when nothing is locked:
//! a group that was claimed meanwhile is given back for it, since waiting for a lock is allowed only to who holds none.
//!
//! **Order.** Different flows have none among them. Of a flow's segments in a group only the first is taken, and only if
//! it is plain; the others come after it, in their order, and before the next group is claimed. A flow of which a segment
//! is still to be finished is found locked; then the group waits for that.
//!
//! **Lanes that are not taken** have a line of their own in place of a body and of a head, so that nothing here branches
//! from lane to lane.
//!
//! The scalar twin is [`View::track_scalar`]; `tests/conntrack_twin.rs` holds the two together, to the last word of the
//! table.
#![allow(unsafe_code)] // Intrinsics, and pointers to shared words.

use core::arch::x86_64::*;

use super::acknowledgments::{Known, Segments, acknowledgments};
use super::bodies::{columns, lock, write};
use super::columns::{halves, store_some, words};
use super::heads::states;
use super::{Available, GROUP, HEAD_BITS, Pointers, fetch};
use crate::conntrack::entry::{INCARNATION, SETTLED, State};
use crate::conntrack::found::Found;
use crate::conntrack::headers::{Headers, LANES};
use crate::conntrack::lanes;
use crate::conntrack::lookup::used;
use crate::conntrack::memory::Line;
use crate::conntrack::phase::{Phase, Tick};
use crate::conntrack::protocol;
use crate::conntrack::table::View;
use crate::conntrack::tcp::connection::Connection;
use crate::conntrack::tcp::established::{PLAIN, PLAIN_OF};
use crate::conntrack::track::{HIGHEST, PACKET};

/// Steps from preparing a group to claiming it.
const DISTANCE: usize = 3;
/// Fewer segments of a burst, or of a group, are faster one by one.
const FEW: u32 = 8;
const FEW_IN_GROUP: u32 = 5;
/// Bytes of a body, as a power of two.
const BODY_BITS: u32 = size_of::<Line>().ilog2();

/// Tracks the lanes of `tracked`, all of which are hits.
pub(in super::super) fn track(
    _: Available,
    view: &View<'_>,
    headers: &Headers,
    tracked: u64,
    now: Tick,
    found: &mut Found,
) {
    // SAFETY: an `Available` exists only if the processor has every feature that `track_wide` enables.
    unsafe { track_wide(view, headers, tracked, now, found) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
fn track_wide(view: &View<'_>, headers: &Headers, tracked: u64, now: Tick, found: &mut Found) {
    let (segments, plain) = segments(headers, tracked);
    if plain.count_ones() < FEW {
        return view.track_scalar(headers, tracked, now, found);
    }
    if segments != tracked {
        // Their flows are others.
        view.track_scalar(headers, tracked & !segments, now, found);
    }
    let nobody = Line::default();
    let mut burst = Burst {
        view,
        headers,
        segments,
        plain,
        now,
        groups: used(segments).div_ceil(GROUP),
        bodies: view.parts.bodies_start(),
        heads: view.parts.heads_start(),
        last_entry: view.parts.flows() - 1,
        nobody: (&raw const nobody).cast(),
        body: Pointers([core::ptr::null(); LANES]),
        head: Pointers([core::ptr::null(); LANES]),
        wanted: [0; LANES / GROUP],
        ours: [0; LANES / GROUP],
    };
    for group in 0..DISTANCE {
        burst.prepare(group, found);
    }
    let mut words = Words::none();
    for group in 0..=burst.groups {
        burst.prepare(group + DISTANCE, found);
        let mut claimed = burst.claim_ahead(group, found);
        if let Some(before) = group.checked_sub(1) {
            let left = burst.finish(before, &words, found);
            if left != 0 {
                if claimed {
                    burst.give_back(group, found);
                    claimed = false;
                }
                view.track_each(headers, left, now, found);
            }
        }
        if group < burst.groups {
            if !claimed {
                burst.claim(group);
            }
            words = burst.read(group, found);
        }
    }
}

/// Lanes that are TCP segments, and those of them that are plain; see
/// [`is_plain`](crate::conntrack::tcp::established::is_plain).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn segments(headers: &Headers, tracked: u64) -> (u64, u64) {
    // SAFETY: 64 protocol numbers, and 64 flags, are 64 readable bytes.
    let (protocols, flags) = unsafe {
        (
            _mm512_loadu_si512(headers.protocol.as_ptr().cast()),
            _mm512_loadu_si512(headers.kind.as_ptr().cast()),
        )
    };
    let segments = _mm512_mask_cmpeq_epi8_mask(tracked, protocols, _mm512_set1_epi8(protocol::TCP as i8));
    let telling = _mm512_and_si512(flags, _mm512_set1_epi8(PLAIN_OF as i8));
    (segments, _mm512_mask_cmpeq_epi8_mask(segments, telling, _mm512_set1_epi8(PLAIN as i8)))
}

/// What all groups of a burst need.
struct Burst<'a> {
    view: &'a View<'a>,
    headers: &'a Headers,
    /// The lanes to be tracked, all of TCP.
    segments: u64,
    /// Of those, plain segments.
    plain: u64,
    now: Tick,
    groups: usize,
    bodies: *const u8,
    heads: *const u8,
    last_entry: u32,
    /// A line that is no entry's, for lanes that are not taken.
    nobody: *const u8,
    /// Where each lane's body and head lie.
    body: Pointers,
    head: Pointers,
    /// By group: the lanes that are to be claimed, and those whose connection is locked by us.
    wanted: [__mmask8; LANES / GROUP],
    ours: [__mmask8; LANES / GROUP],
}

/// What was read of a group that is claimed.
#[derive(Clone, Copy)]
struct Words {
    settled: __mmask8,
    connection: [__m512i; 4],
    counted: [__m512i; 2],
    verdicts: __m512i,
}

impl Words {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn none() -> Self {
        let zero = _mm512_setzero_si512();
        Words { settled: 0, connection: [zero; 4], counted: [zero; 2], verdicts: zero }
    }
}

impl Burst<'_> {
    /// Fetches the bodies of a group, if there is one, and chooses the lanes that are of the common case, as far as that
    /// can be seen before they are locked.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
    fn prepare(&mut self, group: usize, found: &Found) {
        if group >= self.groups {
            return;
        }
        let first = group * GROUP;
        let plain = (self.plain >> first) as __mmask8;
        let settled = self.settled(group, found);
        let entries = _mm512_srli_epi64::<32>(flows(found, group));
        let segments = _mm512_set1_epi64((self.segments >> first & 0xff) as i64);
        let earliest = _mm512_testn_epi64_mask(_mm512_conflict_epi64(entries), segments);
        // Within bounds even where memory is damaged.
        let last_entry = _mm512_set1_epi64(i64::from(self.last_entry));
        let wanted = _mm512_mask_cmple_epu64_mask(plain & earliest, entries, last_entry);
        let nobody = _mm512_set1_epi64(self.nobody as i64);
        let place = |start: *const u8, offsets, lanes| {
            _mm512_mask_add_epi64(nobody, lanes, offsets, _mm512_set1_epi64(start as i64))
        };
        let bodies = _mm512_slli_epi64::<BODY_BITS>(entries);
        self.body.store(group, place(self.bodies, bodies, __mmask8::MAX));
        for lane in 0..GROUP {
            fetch(self.body.get(first + lane));
        }
        self.head.store(group, place(self.heads, _mm512_slli_epi64::<HEAD_BITS>(entries), wanted));
        // SAFETY: every head is that of an entry in range, or a line of ours.
        let wanted = wanted & are_settled(unsafe { states(self.head.group(group)) }, settled);
        if wanted != __mmask8::MAX {
            self.body.store(group, place(self.bodies, bodies, wanted));
        }
        self.wanted[group] = if wanted.count_ones() < FEW_IN_GROUP { 0 } else { wanted };
    }

    /// What the states of a group's flows are if they are settled.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn settled(&self, group: usize, found: &Found) -> __m512i {
        let settled = State::settled(Phase::TcpEstablished, self.now).0 as i64;
        let incarnation = _mm512_and_si512(flows(found, group), _mm512_set1_epi64(INCARNATION as i64));
        _mm512_or_si512(incarnation, _mm512_set1_epi64(settled))
    }

    /// Locks the connections of a group, as far as they are not locked.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
    fn claim(&mut self, group: usize) {
        let wanted = self.wanted[group];
        if wanted != 0 {
            // SAFETY: every body is that of an entry in range, or a line of ours.
            self.ours[group] = wanted & unsafe { lock(self.body.group(group)) };
        }
    }

    /// Claims a group while the one in front of it is claimed, unless something is left of that as far as is known;
    /// returns whether all went well.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
    fn claim_ahead(&mut self, group: usize, found: &Found) -> bool {
        if let Some(before) = group.checked_sub(1)
            && self.ours[before] != (self.segments >> (before * GROUP)) as __mmask8
        {
            return false;
        }
        if group >= self.groups {
            return false;
        }
        self.claim(group);
        let all = self.ours[group] == self.wanted[group];
        if !all {
            self.give_back(group, found);
        }
        all
    }

    /// Unlocks the connections of a group, which are as they were.
    #[cold]
    #[inline(never)]
    fn give_back(&mut self, group: usize, found: &Found) {
        let ours = u64::from(self.ours[group]) << (group * GROUP);
        self.ours[group] = 0;
        self.unlock(ours, found);
    }

    fn unlock(&self, ours: u64, found: &Found) {
        for lane in lanes(ours) {
            Connection(self.view.protocol(found.flow[lane].entry()).0).give_back();
        }
    }

    /// Reads the words of a group that is claimed, and the flows' states once more.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
    fn read(&self, group: usize, found: &Found) -> Words {
        if self.ours[group] == 0 {
            return Words::none();
        }
        let (at, head) = (self.body.group(group), self.head.group(group));
        // SAFETY: every body and head is that of an entry in range, or a line of ours.
        let (state, connection, others) = unsafe { (states(head), columns::<0>(at), columns::<32>(at)) };
        let [counted, counted_back, _, verdicts] = others;
        let settled = are_settled(state, self.settled(group, found));
        Words { settled, connection, counted: [counted, counted_back], verdicts }
    }

    /// Applies the segments of a group that was claimed and read; returns those that are left, of all in the group.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,bmi1,bmi2")]
    fn finish(&mut self, group: usize, read: &Words, found: &mut Found) -> u64 {
        let first = group * GROUP;
        let segments = self.segments & 0xff << first;
        let (ours, [opener, peer, windows, last]) = (self.ours[group], read.connection);
        if ours == 0 {
            return segments;
        }
        let reply = (found.reply >> first) as __mmask8;
        let known = Known {
            sender: _mm512_mask_mov_epi64(opener, reply, peer),
            receiver: _mm512_mask_mov_epi64(peer, reply, opener),
            windows,
            last,
        };
        let headers = self.headers;
        let columns = Segments {
            reply,
            seq: words(&headers.seq, group),
            ack: words(&headers.ack, group),
            payload: words(&headers.payload, group),
            window: halves(&headers.window, group),
        };
        let (fits, after) = acknowledgments(known, columns);
        let done = ours & read.settled & both(fits);
        let [counted, counted_back] = read.counted;
        if done != self.wanted[group] {
            self.leave_out(group, done, found);
        }
        let at = self.body.group(group);

        let packet = _mm512_or_si512(words(&headers.len, group), _mm512_set1_epi64(PACKET as i64));
        let counted = _mm512_mask_add_epi64(counted, !reply, counted, packet);
        let counted_back = _mm512_mask_add_epi64(counted_back, reply, counted_back, packet);
        // SAFETY: every body is that of an entry in range whose connection we have locked, or a line of ours.
        unsafe {
            write::<0>(
                at,
                _mm512_mask_mov_epi64(after.sender, reply, opener),
                _mm512_mask_mov_epi64(peer, reply, after.sender),
            );
            write::<32>(at, counted, counted_back);
        }
        let grown = _mm512_mask_mov_epi64(counted, reply, counted_back);
        let full = _mm512_mask_test_epi64_mask(done, grown, _mm512_set1_epi64(HIGHEST as i64));
        if full != 0 {
            self.carry(u64::from(full) << first, found);
        }
        // SAFETY: as above. This unlocks them.
        unsafe { write::<16>(at, after.windows, after.last) };
        store_some(&mut found.verdicts, group, done, read.verdicts);
        segments & !(u64::from(done) << first)
    }

    /// Unlocks the connections of lanes that are not of the common case, and gives all lanes but those that are `done`
    /// a body that is nobody's.
    #[cold]
    #[inline(never)]
    fn leave_out(&mut self, group: usize, done: __mmask8, found: &Found) {
        let first = group * GROUP;
        for lane in lanes(u64::from(!done)) {
            self.body.0[first + lane] = self.nobody;
        }
        let unfit = u64::from(self.ours[group] & !done) << first;
        self.unlock(unfit, found);
    }

    #[cold]
    #[inline(never)]
    fn carry(&self, full: u64, found: &Found) {
        for lane in lanes(full) {
            self.view.carry(found.flow[lane].entry(), found.reply >> lane & 1 != 0);
        }
    }
}

/// The flows of a group.
#[inline]
#[target_feature(enable = "avx512f")]
fn flows(found: &Found, group: usize) -> __m512i {
    // SAFETY: a `FlowId` is a `u64`, and a group's eight lie in the array.
    unsafe { _mm512_loadu_si512(found.flow[group * GROUP..(group + 1) * GROUP].as_ptr().cast()) }
}

/// Lanes whose states are those of settled flows; see [`State::is_settled`].
#[inline]
#[target_feature(enable = "avx512f")]
fn are_settled(state: __m512i, settled: __m512i) -> __mmask8 {
    _mm512_testn_epi64_mask(_mm512_xor_si512(state, settled), _mm512_set1_epi64(SETTLED as i64))
}

/// Lanes of which both halves are in the mask.
#[inline]
#[target_feature(enable = "bmi2")]
fn both(halves: __mmask16) -> __mmask8 {
    _pext_u32(u32::from(halves & halves >> 1), 0x5555) as __mmask8
}
