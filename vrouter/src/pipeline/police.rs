//! Asking policy about the packets of a burst, port by port: what is denied is dropped, every rule that
//! decided is counted, and so are staged rules that would have.

use acl::{Direction, Note, Program};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::ids::PortId;
use crate::pipeline::conntrack::log;
use crate::pipeline::flow_log::Event;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// One of the places where policy is asked.
pub(super) struct Side {
    /// Which verdict of the flow it is.
    pub(super) slot: Direction,
    /// Under which name traces have it.
    pub(super) stage: Stage,
    /// Why denied packets are dropped.
    pub(super) reason: DropReason,
}

/// Whose policy is asked.
pub(super) struct Asked<'a> {
    /// The policy; without one all is denied.
    pub(super) program: Option<&'a Program>,
    /// The port whose policy it is.
    pub(super) port: PortId,
    /// Which way its rules are meant.
    pub(super) direction: Direction,
    /// Lanes that were not asked about before.
    pub(super) counted: u64,
}

/// Takes the lanes of one port out of `rest`.
#[inline]
pub(super) fn take_port(
    rest: &mut u64,
    burst: &Burst,
    port: fn(&Burst, usize) -> PortId,
) -> Option<(PortId, u64)> {
    let id = port(burst, lanes(*rest).next()?);
    let group = lanes(*rest).fold(0, |group, lane| group | u64::from(port(burst, lane) == id) << lane);
    *rest &= !group;
    Some((id, group))
}

/// The port where a packet came in.
pub(super) fn in_port(burst: &Burst, lane: usize) -> PortId {
    burst.meta.in_port[lane]
}

/// The port where a packet is to leave.
pub(super) fn out_port(burst: &Burst, lane: usize) -> PortId {
    burst.meta.out_port[lane]
}

impl Side {
    /// Asks about the packets of `mask`; what is denied is dropped. Returns the lanes that nothing has
    /// decided, which pass.
    pub(super) fn police(
        &self,
        mask: u64,
        asked: &Asked<'_>,
        burst: &mut Burst,
        tables: &Tables,
        state: &mut WorkerState,
    ) -> u64 {
        let decided = state.flows.ask(self.slot, mask, asked.program, &tables.policy);
        let noted = decided.noted & asked.counted;
        if noted != 0 {
            self.note(noted, asked, burst, state);
        }
        for lane in lanes(mask & !decided.open) {
            let verdict = state.flows.verdict(self.slot, lane);
            burst.meta.rule[lane] = verdict.rule.0;
            state.tracer.note(burst, lane, self.stage, verdict.rule.0, verdict.action as u32);
            if asked.counted >> lane & 1 == 1 {
                state.counters.rules.add(verdict.rule.0, 1, burst.meta.ip_len[lane].into());
            }
            if decided.denied >> lane & 1 == 1 {
                let told = (Event::Denied, asked.direction, verdict.rule);
                log(burst, lane, told, asked.port, false, state);
                state.drop_packet(burst, lane, self.reason);
            }
        }
        decided.open
    }

    /// Counts what Log rules and staged policies say, and logs the former.
    #[cold]
    fn note(&self, mask: u64, asked: &Asked<'_>, burst: &Burst, state: &mut WorkerState) {
        let Some(program) = asked.program else { return };
        for lane in lanes(mask) {
            let (rules, bytes) = (&state.counters.rules, u64::from(burst.meta.ip_len[lane]));
            let mut logged = None;
            state.flows.notes(program, lane, &mut |note| match note {
                Note::Staged(rule) => rules.add(rule.0, 1, bytes),
                Note::Logged(rule) => {
                    rules.add(rule.0, 1, bytes);
                    // One entry a packet, of the first rule that asks for it.
                    logged = logged.or(Some(rule));
                }
            });
            if let Some(rule) = logged {
                log(burst, lane, (Event::Logged, asked.direction, rule), asked.port, false, state);
            }
        }
    }

    /// Notes in traces why packets of known flows pass.
    #[cold]
    pub(super) fn note_known(&self, mask: u64, burst: &mut Burst, state: &mut WorkerState) {
        for lane in lanes(mask) {
            let verdict = state.flows.known_verdict(self.slot, lane);
            burst.meta.rule[lane] = verdict.rule.0;
            state.tracer.note(burst, lane, self.stage, verdict.rule.0, verdict.action as u32);
        }
    }
}
