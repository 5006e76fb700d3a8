//! Connection tracking: which flow a packet belongs to, what policy said about it, and whether it fits.
//!
//! One table for all workers, since both directions of a flow may arrive at different ones. It is a pure structure: no
//! input or output, no clock (the time is passed in once a burst), no thread, no allocation after creation.
//!
//! ```text
//!   burst of headers ── lookup ──► hit ── track ──► passes, counted, timer set     established flows end here
//!        │                          │                  └► invalid, with a reason
//!        │                          ├► stale_*   ask policy again (original direction) ── record ──► track
//!        │                          └► denied    drop, by the rule that `verdict` names
//!        ├► first      ask policy ── allowed: insert ── denied: drop
//!        ├► invalid    drop, by `reason`
//!        └► unrelated  an ICMP error about no known flow: drop
//!   once a burst: expire(now, a few dozen entries)
//! ```
//!
//! # Memory
//!
//! At most 128 bytes a flow, everything counted ([`Capacity::lines`]), as cache lines of eight words reached by number:
//!
//! ```text
//!              8 bytes      8        8        8        8        8        8        8
//!  bucket    │lock,overfl.│ tags   │ 12 numbers of entries, two a word                 │  64 B for 8.1 flows 7.90 B
//!            │ tags 0..4  │ 4..12  │                                                    │
//!  head      │ state,time │address │ ports..│ policy │                                    32 B a flow        32 B
//!  body      │ TCP: side 0│ side 1 │windows │ last   │count → │count ← │ above  │verdicts│  64 B a flow       64 B
//!  extra     │ IPv6 addresses     │ (IPv4: kept for address translation)                   24 B a flow        24 B
//! ```
//!
//! A hit of IPv4 reads two lines, bucket and head; tracking reads the body; IPv6 reads the extra. One entry serves both
//! directions: the key is made of the two ends in order of their numbers, so one slot of the index is enough (two slots
//! would take another 8 bytes a flow and twice the index in the cache). The memory is [`Line`]s of the caller's: boxed,
//! or a mapped file, whose flows a successor process takes over ([`Conntrack::take_over`]).
//!
//! # Concurrency
//!
//! * **Reading** takes no lock and repeats nothing. Slots of the index never move. A tag leads to an entry; the key in
//!   the entry decides; and an entry that was freed meanwhile is noticed by its incarnation, which is read before and
//!   after the key. Both a missing tag and a changed incarnation mean that there was a moment within the lookup in which
//!   the flow was not in the table.
//! * **Opening and removing** happen under the lock of the key's first bucket, so a key is never there twice; where it
//!   lies in another bucket, that one is locked too, in order of numbers.
//! * **Tracking** locks the entry alone (bit 0 of its state) for the few dozen instructions of one packet; but not for a
//!   datagram that changes nothing except the counters of its direction, which have a word of their own, and for a
//!   segment that changes nothing but windows and counters only the words of its connection (`tcp::connection`), so that
//!   one line is written. With AVX-512 those of up to sixteen such segments at a time, none of which is waited for: what
//!   is taken is tried again alone. Locks are ordered buckets, entries, connections; no section under a lock loops over
//!   other threads' work. What was found taken is counted ([`Conntrack::contention`]).
//! * **Order of memory.** An entry is written before its state (release), the state before the tag that leads to it
//!   (release); readers load the tag, then the state (acquire), then the key. Freeing changes the incarnation before the
//!   words are used again (release fence); readers compare it after the key (acquire fence). A verdict is stored before
//!   its generation (release), and readers load the generation (acquire) before the deny bits: who need not ask has the
//!   verdict that belongs to the generation. `tests/conntrack_loom.rs` tries the executions of these protocols.
//!
//! # Policy
//!
//! A flow keeps the verdict of each local side: of its opener's endpoint for egress, of the peer's for ingress, with the
//! generation of that endpoint's policy in that direction ([`PolicyGenerations`]). A change of policy raises the
//! generation; the next packet of each of the endpoint's flows is then reported as stale, and no other flow is. The
//! generations belong to the tables that a worker's burst runs under, so that a verdict is never noted under a policy
//! that it was not made by; a worker with older tables does not take a newer verdict back.
//!
//! # Bounds
//!
//! The table never grows. Who must give way when it runs full: [`Limits`] and the module `account`. Timers:
//! [`Timers`]. TCP's rules and their sources: the module `tcp`.
//!
//! ```
//! use acl::conntrack::*;
//! use acl::{Action, RuleId, Verdict};
//!
//! let capacity = Capacity { flows: 1000, endpoints: 16 };
//! let table = Conntrack::new(capacity, [0x5eed, 0x5ec2e7], &Settings::of(capacity))?;
//! let (mut headers, mut found) = (Box::<Headers>::default(), Box::<Found>::default());
//! let generations = [PolicyGenerations::default(); 16];
//! let now = Tick::from_millis(5000);
//! let request = Tuple {
//!     addresses: Addresses::V4([10, 0, 0, 1].into(), [10, 0, 0, 2].into()),
//!     src_port: 40_000, dst_port: 53, protocol: 17, icmp_type: 0, zone: 0,
//! };
//!
//! headers.set(0, &request);
//! table.lookup(&headers, 1, &generations, now, &mut found);
//! assert_eq!(found.first, 1);
//! let verdict = Verdict { action: Action::Allow, rule: RuleId(7) };
//! let egress = SideVerdict { endpoint: 3, verdict, generation: 0 };
//! table.insert(&headers, 0, egress, SideVerdict::NONE, now, &found)?;
//!
//! headers.set(0, &request.reversed());
//! table.lookup(&headers, 1, &generations, now, &mut found);
//! table.track(&headers, found.hit, now, &mut found);
//! assert_eq!((found.hit, found.reply), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod account;
mod atomic;
#[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
mod avx512;
mod bucket;
mod entry;
mod error;
mod expire;
mod found;
mod free_list;
mod hash;
mod headers;
mod icmp;
mod insert;
mod inspect;
mod lookup;
mod memory;
mod phase;
mod prefetch;
mod protocol;
mod sctp;
mod table;
mod take_over;
mod tcp;
mod track;
mod window;

use core::ops::Deref;

pub use entry::{FlowId, SideVerdict};
pub use error::{Invalid, LayoutError, Refused};
pub use found::Found;
pub use headers::{Addresses, Headers, LANES, NO_SCALE, TcpSegment, Tuple, has_ports};
pub use icmp::IcmpMessage;
pub use insert::Opened;
pub use inspect::{Flow, Keep};
pub use memory::{Capacity, LAYOUT_VERSION, Line};
pub use phase::{Phase, TICKS_PER_SECOND, Tick, Timers};
pub use table::{Conntrack, Limits, Settings};
pub use take_over::TakenOver;
pub use tcp::TcpSettings;
pub use track::Traffic;
pub use window::window_scale;

use crate::rule::{Direction, Verdict};
use insert::Opening;

/// The generations of an endpoint's policy. Each grows by one (modulo 2^16) whenever the verdict of any flow may have
/// changed in that direction; never back, not even when the number of the endpoint is given to another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(4))]
pub struct PolicyGenerations {
    /// Of the policy for what the endpoint sends.
    pub egress: u16,
    /// Of the policy for what it receives.
    pub ingress: u16,
}

impl<M: Deref<Target = [Line]>> Conntrack<M> {
    /// Looks up the packets of `mask` and sorts every one of them into `found`'s masks. Only reads the table.
    ///
    /// `generations` are those of the policies that this worker's burst runs under, by endpoint number.
    pub fn lookup(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) {
        self.view().lookup(headers, mask, generations, now, found);
    }

    /// The same as [`lookup`](Self::lookup) without vector instructions.
    pub fn lookup_scalar(
        &self,
        headers: &Headers,
        mask: u64,
        generations: &[PolicyGenerations],
        now: Tick,
        found: &mut Found,
    ) {
        self.view().lookup_scalar(headers, mask, generations, now, found);
    }

    /// Applies the packets of `mask` that were found to their flows: state, time, counters. A lane that turns out not
    /// to fit moves from `hit` to `invalid`; one that begins anew between the same ends, or whose flow was removed
    /// since the lookup, to `first`. ICMP errors change nothing.
    pub fn track(&self, headers: &Headers, mask: u64, now: Tick, found: &mut Found) {
        self.view().track(headers, mask, now, found);
    }

    /// The same as [`track`](Self::track) without vector instructions.
    pub fn track_scalar(&self, headers: &Headers, mask: u64, now: Tick, found: &mut Found) {
        self.view().track_scalar(headers, mask & found.hit & !found.related, now, found);
    }

    /// Opens the flow of a lane in `first` that policy has let pass, or finds that another packet did. In the second
    /// case the packet itself was not applied to the flow: pass it on, or look it up again.
    ///
    /// `egress` is the verdict about the packet's source, `ingress` that about its destination.
    ///
    /// # Errors
    /// [`Refused`]: the packet is to be dropped.
    pub fn insert(
        &self,
        headers: &Headers,
        lane: usize,
        egress: SideVerdict,
        ingress: SideVerdict,
        now: Tick,
        found: &Found,
    ) -> Result<Opened, Refused> {
        let view = self.view();
        let (phase, protocol) = view.opening_state(headers, lane).map_err(Refused::NotFirst)?;
        let reopens = found.reopens >> lane & 1 != 0;
        let opening = Opening {
            key: found.key(lane),
            hash: found.hash[lane],
            phase,
            protocol,
            egress,
            ingress,
            seen: now,
            counted: track::counted_once(headers.len[lane]),
            replaces: reopens.then_some(found.flow[lane]),
        };
        view.open(&opening, now)
    }

    /// Notes a newer verdict of one side of a flow. `generation` is that of the policy that gave it. Returns whether it
    /// was noted: not where the flow is gone, or has a verdict of a newer generation.
    ///
    /// # Errors
    /// [`Refused::RuleOutOfRange`].
    pub fn record(
        &self,
        flow: FlowId,
        side: Direction,
        verdict: Verdict,
        generation: u16,
    ) -> Result<bool, Refused> {
        if verdict.rule.0 > entry::MAX_RULE {
            return Err(Refused::RuleOutOfRange);
        }
        let view = self.view();
        let Some(entry) = view.entry(flow.entry()) else { return Ok(false) };
        let Some(mut locked) = entry.lock(flow) else { return Ok(false) };
        let ingress = side == Direction::Ingress;
        let old = entry.sides().side(ingress);
        let newer = !lookup::is_newer(old.generation, generation);
        if newer {
            locked.set_side(ingress, SideVerdict { verdict, generation, ..old });
        }
        locked.unlock_unchanged();
        Ok(newer)
    }

    /// What one side's policy said about a flow, if it still lives.
    pub fn verdict(&self, flow: FlowId, side: Direction) -> Option<Verdict> {
        let view = self.view();
        let entry = view.entry(flow.entry())?;
        let locked = entry.lock(flow)?;
        let verdict = entry.sides().side(side == Direction::Ingress).verdict;
        locked.unlock_unchanged();
        Some(verdict)
    }

    /// Looks at the next `budget` entries and removes the flows among them that have expired; returns how many. Any
    /// worker may call it; together they go round the table.
    pub fn expire(&self, now: Tick, budget: u32, generations: &[PolicyGenerations]) -> u32 {
        self.view().expire(now, budget, generations)
    }

    /// The flow that a packet with this tuple belongs to, and whether it would be a reply.
    pub fn find(&self, tuple: &Tuple, now: Tick) -> Option<(FlowId, bool)> {
        let view = self.view();
        let key = tuple.key();
        view.lookup_one(&key, view.fixed.seed.hash(&key), now)
    }

    /// A flow, if it still lives.
    pub fn get(&self, flow: FlowId, now: Tick) -> Option<Flow> {
        self.view().flow(flow.entry(), now).filter(|found| found.id == flow)
    }

    /// Shows `look` the flows among the `budget` entries from number `from` on; removes those that it does not want to
    /// keep. Returns the number to go on from, `None` at the end.
    pub fn visit(
        &self,
        from: u32,
        budget: u32,
        now: Tick,
        mut look: impl FnMut(&Flow) -> Keep,
    ) -> Option<u32> {
        let view = self.view();
        let flows = self.capacity().flows;
        let end = from.saturating_add(budget).min(flows);
        for number in from..end {
            if let Some(flow) = view.flow(number, now)
                && look(&flow) == Keep::No
            {
                view.remove_if(flow.id, |_| true);
            }
        }
        (end < flows).then_some(end)
    }

    /// Removes a flow; returns whether it lived.
    pub fn remove(&self, flow: FlowId) -> bool {
        self.view().remove_if(flow, |_| true)
    }
}

/// The positions of the set bits, lowest first.
#[inline(always)]
fn lanes(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        // The set top bit changes nothing, but spares the case of 64 and the slow instruction that knows it.
        let lane = (mask | 1 << 63).trailing_zeros() as usize;
        mask &= mask - 1;
        Some(lane)
    })
}
