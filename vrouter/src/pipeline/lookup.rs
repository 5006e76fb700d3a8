//! Stage 6: the longest-prefix match, the adjacency, and what has to happen before
//! the packet can be sent there.
//!
//! The FIB is asked for the whole burst at once. A destination without a usable
//! way is answered by ICMP and dropped; one that is ours goes to `receive`; one
//! whose neighbour is still being asked for waits in `hold`. What is alive after
//! this stage has an adjacency with a port and a MAC address.

mod ways;

use encap::wire::ethernet::MacAddr;
use fib::NO_ROUTE;

use crate::burst::{Burst, Meta, are_few, lanes};
use crate::drop_reason::DropReason;
use crate::ids::{AdjacencyId, PortId};
use crate::pipeline::icmp_error::{self, Unreachable};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::pipeline::{hold, path_mtu, receive, vrf};
use crate::tables::{Action, Adjacency, Group, NeighborState, Tables};
use crate::vector;

pub use ways::Ways;

/// Finds the adjacency of every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let (mut v4, mut v6) = (burst.alive & burst.v4, burst.alive & burst.v6);
    if !tables.vrfs.is_empty() {
        let elsewhere = vrf::lookup(burst, v4 | v6, tables);
        (v4, v6) = (v4 & !elsewhere, v6 & !elsewhere);
    }
    let meta = &mut burst.meta;
    if v4 != 0 {
        tables.fib4.lookup_burst(&meta.dst4, v4, &mut meta.group);
    }
    if v6 != 0 {
        tables.fib6.lookup_burst(&meta.dst6, v6, &mut meta.group);
    }
    let all = burst.alive;
    let rest = if are_few(all) { all } else { together(burst, tables, state) };
    one_by_one(burst, rest, tables, state);
    let to_node = burst.alive & burst.to_host;
    if to_node != 0 {
        path_mtu::run(burst, to_node, tables, state);
    }
}

/// Finds the ways of packets that many others of the burst go along with, and returns the rest.
/// Most bursts go few ways. Where one does not, looking for others that go along costs more than it
/// saves.
fn together(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) -> u64 {
    let mut rest = burst.alive;
    while let Some(lane) = lanes(rest).next() {
        let raw = burst.meta.group[lane];
        let along = same_group(&burst.meta, raw, rest);
        if are_few(along) || along & burst.traced != 0 {
            break;
        }
        let found = match resolve(burst, lane, raw, tables, state) {
            Found::Way(found) => found,
            Found::FlowsWay(found) => {
                found.note(burst, lane);
                return rest & (rest - 1);
            }
            Found::Nothing => return rest & (rest - 1),
        };
        // What lanes without a packet hold means nothing, so that a burst with one way is filled.
        if along == burst.alive {
            note_whole(&found, &mut burst.meta, along);
            found.mark(burst, along);
        } else {
            found.note_all(burst, along);
        }
        rest &= !along;
    }
    rest
}

/// Finds the way of each packet, that of each group once.
fn one_by_one(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) {
    if mask == 0 {
        return;
    }
    state.ways.begin(tables, &state.hold);
    // Kept apart from the burst's until the end: every packet would wait for what the one before has written there.
    let (mut direct, mut to_host, mut tunnelled) = (0, 0, 0);
    for lane in lanes(mask) {
        let raw = burst.meta.group[lane];
        if let Some(found) = state.ways.get(raw) {
            state.tracer.note(burst, lane, Stage::Lookup, raw, found.adjacency.0);
            found.write(&mut burst.meta, lane);
            direct |= u64::from(found.direct) << lane;
            to_host |= u64::from(found.to_host) << lane;
            tunnelled |= u64::from(found.tunnelled) << lane;
            continue;
        }
        match resolve(burst, lane, raw, tables, state) {
            Found::Way(found) => {
                state.ways.keep(found);
                found.note(burst, lane);
            }
            Found::FlowsWay(found) => found.note(burst, lane),
            Found::Nothing => {}
        }
    }
    burst.direct |= direct;
    burst.to_host |= to_host;
    burst.tunnelled |= tunnelled;
}

/// The way of a packet.
#[derive(Clone, Copy, Debug)]
struct Way {
    group: u32,
    adjacency: AdjacencyId,
    port: PortId,
    mtu: u32,
    /// Destination and source MAC address, as [`Links`](crate::frame::columns::Links) has them.
    link: (u64, u32),
    direct: bool,
    to_host: bool,
    tunnelled: bool,
}

impl Way {
    const NONE: Self = Way {
        group: NO_ROUTE,
        adjacency: AdjacencyId(0),
        port: PortId::NONE,
        mtu: 0,
        link: (0, 0),
        direct: false,
        to_host: false,
        tunnelled: false,
    };

    /// Notes the way of one packet.
    #[inline(always)]
    fn note(&self, burst: &mut Burst, lane: usize) {
        self.write(&mut burst.meta, lane);
        self.mark(burst, 1 << lane);
    }

    #[inline(always)]
    fn write(&self, meta: &mut Meta, lane: usize) {
        meta.adjacency[lane] = self.adjacency;
        meta.out_port[lane] = self.port;
        meta.mtu[lane] = self.mtu;
        meta.link.front[lane] = self.link.0;
        meta.link.back[lane] = self.link.1;
    }

    /// Notes the way of all packets of a mask.
    #[inline]
    fn note_all(&self, burst: &mut Burst, mask: u64) {
        note_all(self, &mut burst.meta, mask);
        self.mark(burst, mask);
    }

    #[inline(always)]
    fn mark(&self, burst: &mut Burst, mask: u64) {
        let where_so = |so: bool| if so { mask } else { 0 };
        burst.direct |= where_so(self.direct);
        burst.to_host |= where_so(self.to_host);
        burst.tunnelled |= where_so(self.tunnelled);
    }
}

vector::widest! {
    fn same_group(meta: &Meta, group: u32, mask: u64) -> u64 {
        vector::mask(mask, |lane| meta.group[lane] == group)
    }
}

vector::widest! {
    fn note_whole(way: &Way, meta: &mut Meta, mask: u64) {
        vector::each(mask, |lane| {
            meta.adjacency[lane] = way.adjacency;
            meta.out_port[lane] = way.port;
            meta.mtu[lane] = way.mtu;
            meta.link.front[lane] = way.link.0;
            meta.link.back[lane] = way.link.1;
        });
    }
}

vector::widest! {
    fn note_all(way: &Way, meta: &mut Meta, mask: u64) {
        vector::each(mask, |lane| {
            let along = mask >> lane & 1 == 1;
            meta.adjacency[lane] = if along { way.adjacency } else { meta.adjacency[lane] };
            meta.out_port[lane] = if along { way.port } else { meta.out_port[lane] };
            meta.mtu[lane] = if along { way.mtu } else { meta.mtu[lane] };
            meta.link.front[lane] = if along { way.link.0 } else { meta.link.front[lane] };
            meta.link.back[lane] = if along { way.link.1 } else { meta.link.back[lane] };
        });
    }
}

/// The MAC addresses of an Ethernet header as they are kept for `rewrite`: the first octet lowest.
#[inline]
fn link(destination: MacAddr, source: MacAddr) -> (u64, u32) {
    let octets = |mac: MacAddr| mac.to_u64().swap_bytes() >> 16;
    let (destination, source) = (octets(destination), octets(source));
    (destination | source << 48, (source >> 16) as u32)
}

/// What was found for a packet.
enum Found {
    /// The way of all packets of the group.
    Way(Way),
    /// The way of this packet; others of the group may go another.
    FlowsWay(Way),
    /// The packet goes nowhere, at least now: it has left the burst.
    Nothing,
}

/// Follows a packet's group to where it goes; packets that cannot go there now leave the burst.
#[inline]
fn resolve(burst: &mut Burst, lane: usize, raw: u32, tables: &Tables, state: &mut WorkerState) -> Found {
    if raw == NO_ROUTE {
        no_way(burst, lane, DropReason::NoRoute, tables, state);
        return Found::Nothing;
    }
    // A FIB entry is written only after tables that hold its group were adopted.
    let Some(group) = tables.groups.get(raw as usize) else {
        no_way(burst, lane, DropReason::NextHopUnresolved, tables, state);
        return Found::Nothing;
    };
    let id = group.pick(|| state.spread.hash(burst, lane, state.pool.area()));
    state.tracer.note(burst, lane, Stage::Lookup, raw, id.0);
    let adjacency = &tables.adjacencies[id.index()];
    let mut way = Way {
        group: raw,
        adjacency: id,
        port: adjacency.port,
        mtu: adjacency.mtu,
        link: link(adjacency.destination_mac, adjacency.source_mac),
        direct: adjacency.action == Action::Direct,
        to_host: adjacency.local,
        tunnelled: adjacency.tunnel.is_some(),
    };
    match adjacency.action {
        Action::Direct => {}
        Action::Neighbor(slot) => match tables.neighbors.get(slot) {
            NeighborState::Usable(mac)
                if state.hold.is_empty() || !must_queue(burst, lane, adjacency, state) =>
            {
                way.link = link(mac, adjacency.source_mac);
            }
            NeighborState::Usable(_) | NeighborState::Unresolved => {
                hold::wait(burst, lane, adjacency, tables, state);
                return Found::Nothing;
            }
            NeighborState::Failed => {
                no_way(burst, lane, DropReason::NeighborFailed, tables, state);
                return Found::Nothing;
            }
        },
        Action::Glean => {
            hold::wait(burst, lane, adjacency, tables, state);
            return Found::Nothing;
        }
        Action::Receive => {
            // What is answered here leaves the burst; the rest goes to the node's stack.
            way.note(burst, lane);
            receive::packet(burst, lane, adjacency, tables, state);
            return if burst.alive >> lane & 1 == 1 { Found::FlowsWay(way) } else { Found::Nothing };
        }
        Action::Drop(reason) => {
            no_way(burst, lane, reason, tables, state);
            return Found::Nothing;
        }
    }
    match group {
        Group::One(_) if state.hold.is_empty() => Found::Way(way),
        _ => Found::FlowsWay(way),
    }
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
