//! Stage 2: takes tunnel packets out of their outer header.
//!
//! Only from a known peer to our own address, on an uplink (RFC 2003; the class of
//! CVE-2020-10136). Outer fragments are dropped, since nothing is put together here: an outer
//! header says don't fragment where the inner one does. ECN by RFC 6040. What comes out is
//! parsed and checked like any other packet.

use core::net::Ipv4Addr;

use encap::tunnel::ecn;
use encap::wire::ecn::Ecn;
use encap::wire::ipv4::Ipv4;
use encap::wire::ipv6::Ipv6;
use encap::wire::{ethernet, protocol};

use crate::burst::{Burst, LANES, Meta, are_few, lanes};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::frame::columns::Columns;
use crate::ids::{PortId, TunnelId};
use crate::pipeline::parse;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Port, Tables};
use crate::vector;

/// Decapsulates the packets that are for us.
#[inline]
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if burst.alive & burst.ip_in_ip != 0 {
        packets(burst, tables, state);
    }
}

fn packets(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let arrivals = admit(burst, tables, state);
    let mask = arrivals.all;
    let outer = Outer::note(burst, mask, state.pool.area());
    for lane in lanes(mask & burst.chained) {
        burst.meta.ip_len[lane] -= u32::from(burst.meta.l4[lane] - burst.meta.l3[lane]);
    }
    strip(&mut burst.meta, mask);
    burst.v4 &= !mask;
    burst.in_columns &= !mask;
    burst.decapsulated |= mask;

    let ordinary = parse::plain::inner(burst, mask, state.pool.area());
    let (v4, v6) = (ordinary.v4 & outer.carry_v4, ordinary.v6 & outer.carry_v6);
    burst.v4 |= v4;
    burst.v6 |= v6;
    for lane in lanes(mask & (!(v4 | v6) | outer.marked)) {
        if let Err(reason) = packet(burst, lane, &outer, state.pool.area()) {
            state.drop_packet(burst, lane, reason);
        }
    }
    count(burst, &arrivals, &outer, state);
}

/// Packets by the tunnel that they came by.
struct Arrivals {
    runs: [(TunnelId, u64); LANES],
    len: usize,
    all: u64,
}

impl Arrivals {
    #[inline]
    fn add(&mut self, tunnel: TunnelId, mask: u64) {
        self.all |= mask;
        match self.runs[..self.len].last_mut() {
            Some((last, lanes)) if *last == tunnel => *lanes |= mask,
            _ => {
                self.runs[self.len & (LANES - 1)] = (tunnel, mask);
                self.len += 1;
            }
        }
    }
}

/// The packets that came by one of our tunnels; what only pretends to is dropped.
fn admit(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) -> Arrivals {
    let mut arrivals = Arrivals { runs: [(TunnelId::NONE, 0); LANES], len: 0, all: 0 };
    let mut rest = burst.alive & burst.ip_in_ip;
    let mut many = !are_few(rest);
    let mut last = None;
    while let Some(first) = lanes(rest).next() {
        let meta = &burst.meta;
        let came = (meta.in_port[first], meta.dst4[first], meta.src4[first]);
        // Most bursts come from few peers; looking for packets of the same one pays only then.
        let along = if many { same_ends(meta, came, rest) } else { 1 << first };
        many &= !are_few(along);
        rest &= !along;
        let tunnel = match last {
            Some((known, tunnel)) if known == came => tunnel,
            _ => last.insert((came, tunnel(came, tables))).1,
        };
        match tunnel {
            Ok(Some(tunnel)) => {
                for lane in lanes(along & burst.fragments) {
                    state.drop_packet(burst, lane, DropReason::TunnelFragment);
                }
                arrivals.add(tunnel, along & burst.alive);
            }
            Ok(None) => {}
            Err(reason) => lanes(along).for_each(|lane| state.drop_packet(burst, lane, reason)),
        }
    }
    arrivals
}

/// The tunnel of packets that came in at a port, to an address, from another; `None` where they
/// are not for the router.
fn tunnel(
    (in_port, local, remote): (PortId, Ipv4Addr, u32),
    tables: &Tables,
) -> Result<Option<TunnelId>, DropReason> {
    if !tables.port(in_port).is_some_and(Port::ends_tunnels) || !tables.tunnel_peers.is_local(local) {
        return Ok(None);
    }
    tables.tunnel_peers.tunnel(remote.into()).map(Some).ok_or(DropReason::TunnelUnknownPeer)
}

vector::widest! {
    fn same_ends(meta: &Meta, came: (PortId, Ipv4Addr, u32), mask: u64) -> u64 {
        vector::mask(mask, |lane| {
            (meta.in_port[lane] == came.0) & (meta.dst4[lane] == came.1) & (meta.src4[lane] == came.2)
        })
    }
}

/// What must be known of outer headers when they are gone.
struct Outer {
    /// Where it came from.
    remote: [u32; LANES],
    /// TOS byte.
    tos: [u8; LANES],
    /// Lanes with an ECN field that says anything.
    marked: u64,
    /// Lanes that say they carry IPv4, IPv6.
    carry_v4: u64,
    carry_v6: u64,
}

impl Outer {
    fn note(burst: &Burst, mask: u64, area: &FrameArea) -> Self {
        let mut start = [Columns::default()];
        area.columns(burst.frames(), &burst.meta.l3, [0], mask, &mut start);
        let mut outer = Outer {
            remote: burst.meta.src4,
            tos: [0; LANES],
            marked: 0,
            carry_v4: carrying(&burst.meta, mask, protocol::IPIP),
            carry_v6: carrying(&burst.meta, mask, protocol::IPV6),
        };
        outer.marked = tos(&start[0], mask, &mut outer.tos);
        outer
    }
}

vector::widest! {
    fn carrying(meta: &Meta, mask: u64, protocol: u8) -> u64 {
        vector::mask(mask, |lane| meta.protocol[lane] == protocol)
    }
}

vector::widest! {
    /// The TOS bytes; which of them have ECN bits set.
    fn tos(start: &Columns, mask: u64, tos: &mut [u8; LANES]) -> u64 {
        vector::each(mask, |lane| tos[lane] = (start.0[0][lane] >> 8) as u8);
        vector::mask(mask, |lane| tos[lane] & Ecn::MASK != 0)
    }
}

vector::widest! {
    /// Makes packets begin where the Ethernet header in front of the inner packet will be.
    fn strip(meta: &mut Meta, mask: u64) {
        vector::each(mask, |lane| {
            let (l3, offset, len) = (meta.l4[lane], meta.offset[lane], meta.len[lane]);
            let at = l3.wrapping_sub(ethernet::HEADER_LEN as u16);
            let stripped = mask >> lane & 1 == 1;
            meta.l3[lane] = if stripped { l3 } else { meta.l3[lane] };
            meta.offset[lane] = if stripped { at } else { offset };
            meta.len[lane] = if stripped { len.wrapping_add(offset).wrapping_sub(at) } else { len };
        });
    }
}

/// Parses an inner packet that is not an ordinary one, and lets one whose outer header has met
/// congestion know.
fn packet(burst: &mut Burst, lane: usize, outer: &Outer, area: &FrameArea) -> Result<(), DropReason> {
    let mark = Ecn::from_tos(outer.tos[lane]);
    if outer.carry_v4 >> lane & 1 == 1 {
        if burst.v4 >> lane & 1 == 0 {
            parse::network_v4(burst, lane, area)?;
            burst.v4 |= 1 << lane;
        }
        let mut inner =
            Ipv4::new_quoted(burst.network_mut(lane, area)).map_err(|_| DropReason::TunnelBadInner)?;
        let mark = ecn::decapsulate(mark, inner.ecn()).map_err(|_| DropReason::TunnelEcn)?;
        inner.mark_ecn(mark);
    } else {
        if burst.v6 >> lane & 1 == 0 {
            if parse::network_v6(burst, lane, area)? {
                return Err(DropReason::TunnelBadInner);
            }
            burst.v6 |= 1 << lane;
        }
        let mut inner =
            Ipv6::new_quoted(burst.network_mut(lane, area)).map_err(|_| DropReason::TunnelBadInner)?;
        let mark = ecn::decapsulate(mark, inner.ecn()).map_err(|_| DropReason::TunnelEcn)?;
        inner.mark_ecn(mark);
    }
    Ok(())
}

fn count(burst: &Burst, arrivals: &Arrivals, outer: &Outer, state: &mut WorkerState) {
    for (tunnel, mask) in &arrivals.runs[..arrivals.len] {
        let mask = mask & burst.alive;
        state.counters.received_by_tunnel(*tunnel, mask.count_ones(), burst.meta.ip_bytes(mask));
    }
    let mut rest = burst.alive & arrivals.all;
    while let Some(first) = lanes(rest).next() {
        let port = burst.meta.in_port[first];
        let of_port = burst.came_from(port, rest);
        state.counters.port(port).decapsulated.add(u64::from(of_port.count_ones()));
        rest &= !of_port;
    }
    for lane in lanes(burst.alive & arrivals.all & burst.traced) {
        state.tracer.note(burst, lane, Stage::Decap, outer.remote[lane], burst.meta.ip_len[lane]);
    }
}
