//! Stage 3: does this pod send from an address of its own?
//!
//! A pod's packet has one of the pod's own addresses as its source (its MAC was checked in parse), or one of
//! the prefixes that its endpoint is allowed beside them. This comes before anything is believed of the
//! packet: the flow that it belongs to, the policy of its source.

use core::net::{Ipv4Addr, Ipv6Addr};

use encap::wire::ipv6;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::pipeline::state::WorkerState;
use crate::tables::{GATEWAY_V6, Port, Role, Tables};

/// Drops what pods send under addresses that are not theirs.
#[inline]
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mask = burst.alive & burst.from_pod;
    if mask != 0 {
        packets(burst, mask, tables, state);
    }
}

fn packets(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) {
    let mut last = (crate::ids::PortId::NONE, None);
    for lane in lanes(mask) {
        let in_port = burst.meta.in_port[lane];
        if last.0 != in_port {
            last = (in_port, tables.port(in_port).filter(|port| port.role == Role::Pod));
        }
        let Some(port) = last.1 else { continue };
        if !own_source(burst, lane, port, state.pool.area()) {
            state.drop_packet(burst, lane, DropReason::SpoofedSource);
        }
    }
}

#[inline]
fn own_source(burst: &Burst, lane: usize, port: &Port, area: &FrameArea) -> bool {
    if burst.v4 >> lane & 1 == 1 {
        let source = burst.meta.src4[lane];
        return port.addresses4.iter().any(|a| u32::from(*a) == source)
            || port.may_send_from(Ipv4Addr::from(source).into());
    }
    let ip = burst.network(lane, area);
    let Some(source) = ip.get(8..24).and_then(|octets| <[u8; 16]>::try_from(octets).ok()) else {
        return false;
    };
    debug_assert!(ip.len() >= ipv6::HEADER_LEN);
    let source = Ipv6Addr::from(source);
    // A pod's stack talks to its gateway from its link-local address, which we are not told.
    let link_local = source.segments()[0] & 0xffc0 == 0xfe80;
    port.addresses6.contains(&source)
        || (link_local && burst.meta.dst6[lane] == GATEWAY_V6)
        || port.may_send_from(source.into())
}
