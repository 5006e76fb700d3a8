//! Connection tracking.
mod account;
mod atomic;
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
mod protocol;
mod sctp;
mod table;
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
pub use tcp::TcpSettings;
pub use track::Traffic;
pub use window::window_scale;

use crate::rule::{Direction, Verdict};
use insert::Opening;

/// The generations of an endpoint's policy. Each grows by one (modulo 2^16) whenever the verdict of any flow may have
/// changed in that direction; never back, not even when the number of the endpoint is given to another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
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

    /// Applies the packets of `mask` that were found to their flows: state, time, counters. A lane that turns out not
    /// to fit moves from `hit` to `invalid`; one that begins anew between the same ends, or whose flow was removed
    /// since the lookup, to `first`. ICMP errors change nothing.
    pub fn track(&self, headers: &Headers, mask: u64, now: Tick, found: &mut Found) {
        self.view().track(headers, mask, now, found);
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
            len: headers.len[lane],
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
    pub fn visit(&self, from: u32, budget: u32, now: Tick, mut look: impl FnMut(&Flow) -> Keep) -> Option<u32> {
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
