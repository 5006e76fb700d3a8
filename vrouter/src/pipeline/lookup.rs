//! Stage 6: the longest-prefix match, the adjacency, and what has to happen before
//! the packet can be sent there.
//!
//! The FIB is asked for the whole burst at once. A destination without a usable
//! way is answered by ICMP and dropped; one that is ours goes to `receive`; one
//! whose neighbour is still being asked for waits in `hold`. What is alive after
//! this stage has an adjacency with a port and a MAC address.

use encap::flow_hash;
use encap::wire::ethernet::MacAddr;
use fib::NO_ROUTE;

use crate::burst::{Burst, LANES, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::icmp_error::{self, Unreachable};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::pipeline::{hold, receive};
use crate::tables::{Action, Adjacency, NeighborState, Tables};

/// Finds the adjacency of every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mut groups = [NO_ROUTE; LANES];
    let (v4, v6) = (burst.alive & burst.v4, burst.alive & burst.v6);
    if v4 != 0 {
        tables.fib4.lookup_burst(&burst.meta.dst4, v4, &mut groups);
    }
    if v6 != 0 {
        tables.fib6.lookup_burst(&burst.meta.dst6, v6, &mut groups);
    }
    for lane in lanes(burst.alive) {
        let raw = groups[lane];
        burst.meta.group[lane] = raw;
        if raw == NO_ROUTE {
            no_way(burst, lane, DropReason::NoRoute, tables, state);
            continue;
        }
        // A FIB entry is written only after tables that hold its group were adopted.
        let Some(group) = tables.groups.get(raw as usize) else {
            no_way(burst, lane, DropReason::NextHopUnresolved, tables, state);
            continue;
        };
        let id = group.pick(|| flow(burst, lane, state));
        burst.meta.adjacency[lane] = id;
        state.tracer.note(burst, lane, Stage::Lookup, raw, id.0);
        let adjacency = &tables.adjacencies[id.index()];
        burst.meta.out_port[lane] = adjacency.port;
        burst.meta.mtu[lane] = adjacency.mtu;
        burst.to_host |= u64::from(adjacency.local) << lane;
        burst.tunnelled |= u64::from(adjacency.tunnel.is_some()) << lane;
        match adjacency.action {
            Action::Direct => {
                burst.direct |= 1 << lane;
                burst.meta.mac[lane] = wire_order(adjacency.destination_mac);
            }
            Action::Neighbor(slot) => match tables.neighbors.get(slot) {
                NeighborState::Usable(mac)
                    if state.hold.is_empty() || !must_queue(burst, lane, adjacency, state) =>
                {
                    burst.meta.mac[lane] = wire_order(mac);
                }
                NeighborState::Usable(_) | NeighborState::Unresolved => {
                    hold::wait(burst, lane, adjacency, tables, state);
                }
                NeighborState::Failed => no_way(burst, lane, DropReason::NeighborFailed, tables, state),
            },
            Action::Glean => hold::wait(burst, lane, adjacency, tables, state),
            Action::Receive => {
                burst.meta.mac[lane] = wire_order(adjacency.destination_mac);
                receive::packet(burst, lane, adjacency, tables, state);
            }
            Action::Drop(reason) => no_way(burst, lane, reason, tables, state),
        }
    }
}

/// A MAC address as `rewrite` stores it: the first octet lowest.
#[inline]
fn wire_order(mac: MacAddr) -> u64 {
    mac.to_u64().swap_bytes() >> 16
}

/// Whether earlier packets to the same next hop still wait: the order of a flow is kept.
#[cold]
fn must_queue(burst: &Burst, lane: usize, adjacency: &Adjacency, state: &WorkerState) -> bool {
    let waited = burst.held >> lane & 1 == 1;
    !waited && adjacency.next_hop.is_some_and(|next_hop| state.hold.holds(adjacency.port, next_hop))
}

/// Answers by ICMP as RFC 1812 4.3.3.1 and RFC 4443 3.1 ask, and drops.
#[cold]
fn no_way(burst: &mut Burst, lane: usize, reason: DropReason, tables: &Tables, state: &mut WorkerState) {
    let answer = match reason {
        DropReason::NoRoute => Some(Unreachable::Net),
        DropReason::Prohibit => Some(Unreachable::Prohibited),
        DropReason::Blackhole => None,
        _ => Some(Unreachable::Host),
    };
    if let Some(answer) = answer {
        icmp_error::unreachable(burst, lane, answer, tables, state);
    }
    state.drop_packet(burst, lane, reason);
}

fn flow(burst: &Burst, lane: usize, state: &WorkerState) -> u32 {
    let area = state.pool.area();
    let meta = &burst.meta;
    let has_ports = meta.l4[lane] != 0
        && burst.fragments >> lane & 1 == 0
        && encap::wire::ipv4::has_ports(meta.protocol[lane]);
    let ports = if has_ports { area.bytes(burst.frame(lane), meta.l4[lane], 4) } else { &[] };
    let (sport, dport) = match *ports {
        [a, b, c, d] => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        _ => (0, 0),
    };
    if burst.v4 >> lane & 1 == 1 {
        let source = core::net::Ipv4Addr::from(meta.src4[lane]);
        flow_hash::symmetric_v4(source, meta.dst4[lane], meta.protocol[lane], sport, dport, state.hash_seed)
    } else {
        let mut source = [0; 16];
        if let Some(octets) = burst.network(lane, area).get(8..24) {
            source.copy_from_slice(octets);
        }
        flow_hash::symmetric_v6(
            source.into(),
            meta.dst6[lane],
            meta.protocol[lane],
            sport,
            dport,
            state.hash_seed,
        )
    }
}
