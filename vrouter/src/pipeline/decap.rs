//! Stage 2: takes tunnel packets out of their outer header.
//!
//! Only from a known peer to our own address, on an uplink (RFC 2003; the class of
//! CVE-2020-10136). Outer fragments are dropped: the outer header says don't
//! fragment, so honest peers send none. ECN by RFC 6040. What comes out is parsed
//! and checked like any other packet.

use core::net::Ipv4Addr;

use encap::tunnel::ecn;
use encap::wire::ecn::Ecn;
use encap::wire::ipv4::Ipv4;
use encap::wire::ipv6::Ipv6;
use encap::wire::{ethernet, protocol};

use crate::burst::{Burst, LANES, Meta, lanes};
use crate::counters::TunnelRun;
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
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if burst.alive & burst.ip_in_ip != 0 {
        packets(burst, tables, state);
    }
}

fn packets(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mut tunnels = [TunnelId::NONE; LANES];
    let mask = admit(burst, &mut tunnels, tables, state);
    let outer = Outer::note(burst, mask, state.pool.area());
    strip(&mut burst.meta, mask);
    burst.v4 &= !mask;
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
    count(burst, burst.alive & mask, &tunnels, &outer, state);
}

/// The packets that came by one of our tunnels, and by which; what only pretends to is dropped.
fn admit(
    burst: &mut Burst,
    tunnels: &mut [TunnelId; LANES],
    tables: &Tables,
    state: &mut WorkerState,
) -> u64 {
    let mut admitted = 0;
    let mut last_port = (PortId::NONE, false);
    let mut last_local = (Ipv4Addr::UNSPECIFIED, false);
    let mut last_remote = (0, None);
    for lane in lanes(burst.alive & burst.ip_in_ip) {
        let (in_port, local, remote) =
            (burst.meta.in_port[lane], burst.meta.dst4[lane], burst.meta.src4[lane]);
        if last_port.0 != in_port {
            let port = tables.port(in_port);
            last_port = (in_port, port.is_some_and(Port::ends_tunnels));
        }
        if last_local.0 != local {
            last_local = (local, tables.tunnel_peers.is_local(local));
        }
        if !last_port.1 || !last_local.1 {
            continue;
        }
        if last_remote.0 != remote {
            last_remote = (remote, tables.tunnel_peers.tunnel(remote.into()));
        }
        match last_remote.1 {
            None => state.drop_packet(burst, lane, DropReason::TunnelUnknownPeer),
            Some(_) if burst.fragments >> lane & 1 == 1 => {
                state.drop_packet(burst, lane, DropReason::TunnelFragment);
            }
            Some(tunnel) => {
                tunnels[lane] = tunnel;
                admitted |= 1 << lane;
            }
        }
    }
    admitted
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

fn count(burst: &Burst, mask: u64, tunnels: &[TunnelId; LANES], outer: &Outer, state: &mut WorkerState) {
    let mut run = TunnelRun::NONE;
    for lane in lanes(mask) {
        if let Some(ended) = run.add(tunnels[lane], burst.meta.ip_len[lane]) {
            state.counters.received_by_tunnel(ended);
        }
    }
    state.counters.received_by_tunnel(run);
    let mut rest = mask;
    while let Some(first) = lanes(rest).next() {
        let port = burst.meta.in_port[first];
        let of_port = burst.came_from(port, rest);
        state.counters.port(port).decapsulated.add(u64::from(of_port.count_ones()));
        rest &= !of_port;
    }
    for lane in lanes(mask & burst.traced) {
        state.tracer.note(burst, lane, Stage::Decap, outer.remote[lane], burst.meta.ip_len[lane]);
    }
}
