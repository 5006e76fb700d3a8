//! Flows for people: whole, a few at a time.

use super::atomic::Ordering;
use super::entry::{Entry, FlowId, SideVerdict, State};
use super::headers::Tuple;
use super::icmp;
use super::phase::{Phase, TICKS_PER_SECOND, Tick};
use super::table::View;
use super::track::Traffic;

/// A flow as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Its id.
    pub id: FlowId,
    /// The opener's tuple.
    pub tuple: Tuple,
    /// The code of the ICMP question that opened it; 0 where the protocol is another.
    pub icmp_code: u8,
    /// How far it has come.
    pub phase: Phase,
    /// Milliseconds until it expires if it stays silent; 0 if it has.
    pub expires_in_ms: u64,
    /// The egress side, of the opener.
    pub egress: SideVerdict,
    /// The ingress side, of the opener's peer.
    pub ingress: SideVerdict,
    /// What the opener sent.
    pub original: Traffic,
    /// What it was answered.
    pub reply: Traffic,
}

/// What to do with a flow that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Leave it.
    Yes,
    /// Remove it.
    No,
}

impl View<'_> {
    /// The flow of an entry, read under its lock.
    pub(super) fn flow(&self, number: u32, now: Tick) -> Option<Flow> {
        let entry = self.entry(number)?;
        let id = FlowId::new(number, entry.state());
        let locked = entry.lock(id)?;
        let flow = self.describe(entry, id, locked.state(), now);
        locked.unlock_unchanged();
        Some(flow)
    }

    /// What an entry says whose words nobody changes.
    pub(super) fn describe(&self, entry: Entry<'_>, id: FlowId, state: State, now: Tick) -> Flow {
        let sides = entry.sides();
        let left = self.fixed.timeouts[state.phase_number()].saturating_sub(now.since(state.last_seen()));
        let [original, reply] = self.counted(id.entry());
        let tuple = Tuple::from_key(&entry.key());
        let code = self.protocol(id.entry()).0[0].load(Ordering::Relaxed) as u8;
        Flow {
            id,
            tuple,
            icmp_code: if icmp::is(tuple.protocol) { code } else { 0 },
            phase: state.phase(),
            expires_in_ms: u64::from(left) * 1000 / u64::from(TICKS_PER_SECOND),
            egress: sides.side(false),
            ingress: sides.side(true),
            original,
            reply,
        }
    }
}
