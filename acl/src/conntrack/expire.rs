//! The sweep: a clock hand that goes round the entries, a few each call.
//!
//! A flow is dead from the tick in which its timer ends, swept or not: lookups do not find it, and a packet with its
//! key opens a new one. The sweep only gives back memory, so it may take its time; one round in the shortest timer is
//! enough. No call looks at more entries than its budget, whatever happens in the table.
//!
//! It also keeps the generations of verdicts comparable: one that the policy has left far behind is set to just behind
//! it, so that 16 bits never go round unnoticed.

use super::PolicyGenerations;
use super::atomic::Ordering;
use super::entry::{Entry, FlowId, SideVerdict, State};
use super::phase::{Phase, Tick};
use super::table::View;

/// Generations that a verdict may be behind (or ahead) before the sweep brings it near: an endpoint's policy would have
/// to change 24,576 times in one round of the sweep to be mistaken.
const FAR: u16 = 1 << 13;

impl View<'_> {
    /// Looks at the next `budget` entries; returns how many flows it removed.
    pub(super) fn expire(&self, now: Tick, budget: u32, generations: &[PolicyGenerations]) -> u32 {
        let flows = u64::from(self.fixed.layout.capacity.flows);
        let budget = u64::from(budget).min(flows);
        let start = self.parts.sweep_hand().fetch_add(budget, Ordering::Relaxed);
        let mut number = (start % flows) as u32;
        let mut removed = 0;
        for _ in 0..budget {
            if let Some(entry) = self.entry(number) {
                let state = entry.state();
                if state.phase_number() != Phase::Free as usize {
                    if state.expired(now, &self.fixed.timeouts) {
                        let dead = |state: State| state.expired(now, &self.fixed.timeouts);
                        removed += u32::from(self.remove_if(FlowId::new(number, state), dead));
                    } else {
                        self.refresh(entry, FlowId::new(number, state), generations);
                    }
                }
            }
            number = if u64::from(number) + 1 == flows { 0 } else { number + 1 };
        }
        removed
    }

    /// Brings generations near that are far from the current ones, as "just older".
    #[inline(always)]
    fn refresh(&self, entry: Entry<'_>, id: FlowId, generations: &[PolicyGenerations]) {
        let policy = entry.policy();
        for ingress in [false, true] {
            let shift = if ingress { 16 } else { 0 };
            let Some(current) = generations.get(usize::from((policy >> (32 + shift)) as u16)) else {
                continue;
            };
            let current = if ingress { current.ingress } else { current.egress };
            let distance = current.wrapping_sub((policy >> shift) as u16);
            if (FAR..FAR.wrapping_neg()).contains(&distance)
                && let Some(mut locked) = entry.lock(id)
            {
                let side = entry.sides().side(ingress);
                locked.set_side(ingress, SideVerdict { generation: current.wrapping_sub(1), ..side });
                locked.unlock_unchanged();
            }
        }
    }
}
