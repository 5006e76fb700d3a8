//! Flows whose policy has changed since it was asked about them: it is asked again, in the direction
//! in which the flow was opened, whichever way the packet at hand goes.

use core::net::IpAddr;

use acl::conntrack::{Addresses, Flow, Keep, SideVerdict, Tick, has_ports};
use acl::{Action, Direction};

use super::{FlowState, read};
use crate::burst::lanes;
use crate::ids::PortId;
use crate::tables::{HostStage, Port, Role, Tables};

/// Asks about every stale flow that the lookup found. What is denied is in `found.denied` then; a flow
/// whose endpoint is gone, or has other addresses, is over, and its packet may open a new one.
#[cold]
pub(super) fn run(flows: &mut FlowState, tables: &Tables, now: Tick) {
    let table = &tables.policy.flows;
    for lane in lanes(flows.found.stale_egress | flows.found.stale_ingress) {
        let bit = 1 << lane;
        let flow = table.get(flows.found.flow[lane], now);
        let keep = flow.as_ref().map_or(Keep::No, |flow| judge(flows, lane, flow, tables));
        if keep == Keep::Yes {
            continue;
        }
        if let Some(flow) = flow {
            table.remove(flow.id);
        }
        flows.found.hit &= !bit;
        flows.found.denied &= !bit;
        if flows.found.related & bit != 0 {
            flows.found.related &= !bit;
            flows.found.unrelated |= bit;
        } else {
            flows.found.first |= bit;
        }
    }
    // The lanes have been filled with the flows' own headers.
    flows.filled = 0;
}

fn judge(flows: &mut FlowState, lane: usize, flow: &Flow, tables: &Tables) -> Keep {
    let bit = 1_u64 << lane;
    let (source, destination) = match flow.tuple.addresses {
        Addresses::V4(source, destination) => (source.into(), destination.into()),
        Addresses::V6(source, destination) => (source.into(), destination.into()),
    };
    fill(flows, lane, flow, tables);
    let mut denied = false;
    for (direction, side, address) in
        [(Direction::Egress, flow.egress, source), (Direction::Ingress, flow.ingress, destination)]
    {
        if side.endpoint == SideVerdict::NO_ENDPOINT {
            continue;
        }
        let Some(port) = tables.port(PortId(side.endpoint)) else { return Keep::No };
        match port.role {
            Role::Pod if port.has_address(address) => {
                let program = port.policy.as_ref().map(|policy| policy.program(direction));
                flows.ask(direction, bit, program, &tables.policy);
            }
            Role::Pod => return Keep::No,
            _ => ask_host(flows, lane, (direction, port), [source, destination], tables),
        }
        let generations = tables.policy.generations.get(usize::from(side.endpoint)).copied();
        let generations = generations.unwrap_or_default();
        let generation = match direction {
            Direction::Egress => generations.egress,
            Direction::Ingress => generations.ingress,
        };
        let verdict = flows.verdict(direction, lane);
        // Rule numbers begin at 1 and grow with the rules that were ever seen: they fit.
        let _ = tables.policy.flows.record(flow.id, direction, verdict, generation);
        denied |= verdict.action == Action::Deny;
    }
    flows.found.denied = flows.found.denied & !bit | if denied { bit } else { 0 };
    Keep::Yes
}

/// Asks the host endpoint at a port where the flow enters (egress) or leaves (ingress).
fn ask_host(
    flows: &mut FlowState,
    lane: usize,
    (slot, port): (Direction, &Port),
    [source, destination]: [IpAddr; 2],
    tables: &Tables,
) {
    let bit = 1 << lane;
    flows.pass(slot, bit);
    let Some(policy) = port.host_policy.as_deref() else { return };
    let stage = |own| if own { HostStage::Normal } else { HostStage::Forward };
    let asked: &[(HostStage, Direction)] = match (slot, port.role) {
        (Direction::Egress, _) => &[
            (HostStage::PreDnat, Direction::Ingress),
            (stage(tables.is_own(destination)), Direction::Ingress),
        ],
        (Direction::Ingress, Role::Host) => &[(HostStage::Normal, Direction::Ingress)],
        (Direction::Ingress, _) => &[(stage(tables.is_own(source)), Direction::Egress)],
    };
    for (stage, direction) in asked {
        let Some(program) = policy.program(*stage, *direction) else { continue };
        if flows.ask(slot, bit, Some(program), &tables.policy).open == 0 {
            return;
        }
    }
}

/// Sets a lane to the headers of the flow's opener.
fn fill(flows: &mut FlowState, lane: usize, flow: &Flow, tables: &Tables) {
    let policy = &tables.policy;
    let (v6, classes) = match flow.tuple.addresses {
        Addresses::V4(source, destination) => {
            let class = |address: core::net::Ipv4Addr| policy.classes4.lookup4(address.to_bits());
            (false, (class(source), class(destination)))
        }
        Addresses::V6(source, destination) => {
            let class = |address: core::net::Ipv6Addr| policy.classes6.lookup6(address.to_bits());
            (true, (class(source), class(destination)))
        }
    };
    let transport = if read::is_icmp(flow.tuple.protocol) {
        Some((u16::from(read::question(&flow.tuple)), u16::from(flow.icmp_code)))
    } else {
        has_ports(flow.tuple.protocol).then_some((flow.tuple.src_port, flow.tuple.dst_port))
    };
    flows.asked.set(lane, v6, classes, flow.tuple.protocol, transport);
    flows.filled |= 1 << lane;
}
