//! What policy said, for counters and for the log: which rule, and of which packet.
//!
//! Fragments behind the first pass where it has passed, and ICMP errors where the flow does that they are
//! about. No rule was asked of either, and none counts them; ports and drop reasons do.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use acl::conntrack::{Addresses, Flow, has_ports};
use acl::{Direction, Note, Program, RuleId};

use super::{FlowState, read};
use crate::burst::{Burst, LANES, are_few, lanes};
use crate::counters::RuleCounters;
use crate::ids::PortId;
use crate::pipeline::flow_log::{Entry, Event};
use crate::pipeline::state::WorkerState;
use crate::vector;

/// Counts packets of known flows under the rules that let the flows pass: those of the same rules together.
#[inline]
pub(super) fn count_known(flows: &FlowState, mask: u64, burst: &Burst, counters: &RuleCounters) {
    let mut rest = mask;
    while let Some(first) = lanes(rest).next() {
        let (alike, bytes) = alike(flows.found.packed_verdicts(), &burst.meta.ip_len, first, rest);
        for side in [Direction::Egress, Direction::Ingress] {
            let rule = flows.found.verdict(first, side).rule;
            if rule != RuleId::NONE {
                counters.add(rule.0, u64::from(alike.count_ones()), bytes);
            }
        }
        rest &= !alike;
    }
}

/// The lanes of `mask` with the same word as the lane `first`, and the sum of their lengths.
#[inline]
fn alike(words: &[u64; LANES], lens: &[u32; LANES], first: usize, mask: u64) -> (u64, u64) {
    if are_few(mask) {
        let same = |lane: &usize| words[*lane] == words[first];
        let add =
            |(alike, bytes): (u64, u64), lane: usize| (alike | 1 << lane, bytes + u64::from(lens[lane]));
        return lanes(mask).filter(same).fold((0, 0), add);
    }
    many_alike(words, lens, first, mask)
}

vector::widest! {
    fn many_alike(words: &[u64; LANES], lens: &[u32; LANES], first: usize, mask: u64) -> (u64, u64) {
        let word = words[first];
        let alike = vector::mask(mask, |lane| words[lane] == word);
        let mut bytes = 0;
        vector::each(mask, |lane| bytes += if alike >> lane & 1 == 1 { u64::from(lens[lane]) } else { 0 });
        (alike, bytes)
    }
}

impl FlowState {
    /// What Log rules and staged policies of a program say of a lane that was asked about.
    pub(in crate::pipeline) fn notes(&self, program: &Program, lane: usize, note: &mut impl FnMut(Note)) {
        program.notes(&self.asked, lane, note);
    }
}

/// Logs a packet. `turned`: it goes against the direction in which its flow was opened.
#[cold]
pub(in crate::pipeline) fn log(
    burst: &Burst,
    lane: usize,
    (event, direction, rule): (Event, Direction, RuleId),
    port: PortId,
    turned: bool,
    state: &mut WorkerState,
) {
    let lost = &state.counters.run.flow_log_lost;
    if !state.flow_log.admits(port, state.now, lost) {
        return;
    }
    let (headers, code) = (&state.flows.headers, state.flows.code[lane]);
    let mut ends: [IpAddr; 2] = if headers.v6 >> lane & 1 == 1 {
        [headers.src6[lane], headers.dst6[lane]].map(|address| Ipv6Addr::from_bits(address).into())
    } else {
        [headers.src4[lane], headers.dst4[lane]].map(|address| Ipv4Addr::from_bits(address).into())
    };
    let protocol = headers.protocol[lane];
    let mut ports = (headers.src_port[lane], headers.dst_port[lane]);
    if turned {
        ends.swap(0, 1);
        ports = (ports.1, ports.0);
    }
    let [source, destination] = ends;
    let transport = if read::is_icmp(protocol) {
        Some((headers.kind[lane].into(), code.into()))
    } else {
        has_ports(protocol).then_some(ports)
    };
    let len = burst.meta.ip_len[lane];
    let at = state.now;
    let entry = Entry { at, event, direction, port, rule, source, destination, protocol, transport, len };
    state.flow_log.push(entry, lost);
}

/// The packet that opened a flow, as policy was asked about it.
pub fn opener(flow: &Flow) -> (IpAddr, IpAddr, Option<(u16, u16)>) {
    let tuple = &flow.tuple;
    let (source, destination) = match tuple.addresses {
        Addresses::V4(source, destination) => (source.into(), destination.into()),
        Addresses::V6(source, destination) => (source.into(), destination.into()),
    };
    let transport = match read::is_icmp(tuple.protocol) {
        true => Some((read::question(tuple).into(), flow.icmp_code.into())),
        false => has_ports(tuple.protocol).then_some((tuple.src_port, tuple.dst_port)),
    };
    (source, destination, transport)
}
