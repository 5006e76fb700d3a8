//! Asking the policy of ports about the packets of a burst, port by port: what is denied is dropped, every
//! rule that decided is counted, and so are staged rules that would have.

use acl::{Direction, Note};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::ids::PortId;
use crate::pipeline::conntrack::log;
use crate::pipeline::flow_log::Event;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// One of the two policy stages.
pub(super) struct Side {
    /// Which policy is asked.
    pub(super) direction: Direction,
    /// The port whose policy it is.
    pub(super) port: fn(&Burst, usize) -> PortId,
    /// Under which name traces have it.
    pub(super) stage: Stage,
    /// Why denied packets are dropped.
    pub(super) reason: DropReason,
}

impl Side {
    /// Asks about the packets of `mask`; what is denied is dropped.
    pub(super) fn police(&self, mask: u64, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
        let mut rest = mask;
        while let Some(first) = lanes(rest).next() {
            let id = (self.port)(burst, first);
            let same = |lane: usize| u64::from((self.port)(burst, lane) == id) << lane;
            let group = lanes(rest).fold(0, |group, lane| group | same(lane));
            rest &= !group;
            let denied = state.flows.ask(self.direction, group, tables.port(id), &tables.policy);
            // What waited for a neighbour was asked about and counted before.
            let first = group & !burst.held;
            let noted = state.flows.noted() & first;
            if noted != 0 {
                self.note(noted, id, burst, tables, state);
            }
            for lane in lanes(group) {
                let verdict = state.flows.verdict(self.direction, lane);
                burst.meta.rule[lane] = verdict.rule.0;
                state.tracer.note(burst, lane, self.stage, verdict.rule.0, verdict.action as u32);
                if first >> lane & 1 == 1 {
                    state.counters.rules.add(verdict.rule.0, 1, burst.meta.ip_len[lane].into());
                }
                if denied >> lane & 1 == 1 {
                    log(burst, lane, (Event::Denied, self.direction, verdict.rule), id, false, state);
                    state.drop_packet(burst, lane, self.reason);
                }
            }
        }
    }

    /// Counts what Log rules and staged policies say, and logs the former.
    #[cold]
    fn note(&self, mask: u64, id: PortId, burst: &Burst, tables: &Tables, state: &mut WorkerState) {
        for lane in lanes(mask) {
            let (rules, bytes) = (&state.counters.rules, u64::from(burst.meta.ip_len[lane]));
            let mut logged = None;
            state.flows.notes(self.direction, lane, tables.port(id), &mut |note| match note {
                Note::Staged(rule) => rules.add(rule.0, 1, bytes),
                Note::Logged(rule) => {
                    rules.add(rule.0, 1, bytes);
                    // One entry a packet, of the first rule that asks for it.
                    logged = logged.or(Some(rule));
                }
            });
            if let Some(rule) = logged {
                log(burst, lane, (Event::Logged, self.direction, rule), id, false, state);
            }
        }
    }

    /// Notes in traces why packets of known flows pass.
    #[cold]
    pub(super) fn note_known(&self, mask: u64, burst: &mut Burst, state: &mut WorkerState) {
        for lane in lanes(mask) {
            let verdict = state.flows.known_verdict(self.direction, lane);
            burst.meta.rule[lane] = verdict.rule.0;
            state.tracer.note(burst, lane, self.stage, verdict.rule.0, verdict.action as u32);
        }
    }
}
