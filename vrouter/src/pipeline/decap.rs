//! Stage 2: takes tunnel packets out of their outer header.
//!
//! Only from a known peer to our own address, on an uplink (RFC 2003; the class of
//! CVE-2020-10136). Outer fragments are dropped: the outer header says don't
//! fragment, so honest peers send none. ECN by RFC 6040. What comes out is parsed
//! and checked like any other packet.

use encap::tunnel::ecn;
use encap::wire::ecn::Ecn;
use encap::wire::ipv4::Ipv4;
use encap::wire::ipv6::Ipv6;
use encap::wire::{ethernet, protocol};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::ids::TunnelId;
use crate::pipeline::parse;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Role, Tables};

/// Decapsulates the packets that are for us.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive & burst.ip_in_ip) {
        let local = burst.meta.dst4[lane];
        let on_uplink = tables
            .port(burst.meta.in_port[lane])
            .is_some_and(|port| matches!(port.role, Role::Uplink { .. }));
        if !on_uplink || !tables.tunnel_peers.is_local(local) {
            continue;
        }
        let remote = burst.meta.src4[lane];
        let tunnel = match packet(burst, lane, tables, state.pool.area()) {
            Ok(tunnel) => tunnel,
            Err(reason) => {
                state.drop_packet(burst, lane, reason);
                continue;
            }
        };
        let inner_len = burst.meta.ip_len[lane];
        state.counters.port(burst.meta.in_port[lane]).decapsulated.add(1);
        let counters = state.counters.tunnel(tunnel);
        counters.rx_packets.add(1);
        counters.rx_bytes.add(u64::from(inner_len));
        state.tracer.note(burst, lane, Stage::Decap, remote, inner_len);
    }
}

fn packet(burst: &mut Burst, lane: usize, tables: &Tables, area: &FrameArea) -> Result<TunnelId, DropReason> {
    let remote = core::net::Ipv4Addr::from(burst.meta.src4[lane]);
    let tunnel = tables.tunnel_peers.tunnel(remote).ok_or(DropReason::TunnelUnknownPeer)?;
    if burst.fragments >> lane & 1 == 1 {
        return Err(DropReason::TunnelFragment);
    }
    let outer = burst.network(lane, area);
    let outer_ecn = Ecn::from_tos(outer[1]);
    let inner_protocol = burst.meta.protocol[lane];

    // The Ethernet header will be written in front of the inner packet again.
    let meta = &mut burst.meta;
    let l3 = meta.l4[lane];
    let inner_len = meta.len[lane] - (l3 - meta.offset[lane]);
    meta.offset[lane] = l3 - ethernet::HEADER_LEN as u16;
    meta.len[lane] = inner_len + ethernet::HEADER_LEN as u16;
    meta.l3[lane] = l3;
    burst.v4 &= !(1 << lane);
    burst.decapsulated |= 1 << lane;
    if inner_protocol == protocol::IPIP {
        parse::network_v4(burst, lane, area)?;
        burst.v4 |= 1 << lane;
        let mut inner =
            Ipv4::new_quoted(burst.network_mut(lane, area)).map_err(|_| DropReason::TunnelBadInner)?;
        let mark = ecn::decapsulate(outer_ecn, inner.ecn()).map_err(|_| DropReason::TunnelEcn)?;
        inner.mark_ecn(mark);
    } else {
        if parse::network_v6(burst, lane, area)? {
            return Err(DropReason::TunnelBadInner);
        }
        burst.v6 |= 1 << lane;
        let mut inner =
            Ipv6::new_quoted(burst.network_mut(lane, area)).map_err(|_| DropReason::TunnelBadInner)?;
        let mark = ecn::decapsulate(outer_ecn, inner.ecn()).map_err(|_| DropReason::TunnelEcn)?;
        inner.mark_ecn(mark);
    }
    Ok(tunnel)
}
