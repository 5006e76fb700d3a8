//! Address resolution that the router answers itself: the pods' gateway.
//!
//! | port              | ARP request, NS                    | ARP reply, NA      |
//! |-------------------|------------------------------------|--------------------|
//! | pod, host         | answered with the gateway's MAC for any address but the asker's own | dropped: its address is known |
//! | uplink, exclusive | to the slow path                   | to the slow path   |
//! | uplink, shared    | dropped: the kernel answers        | dropped            |
//!
//! The answer is made in the frame of the question and leaves with this burst, so
//! it depends on no route and no table but the port itself (RFC 826; RFC 4861 7.2.4;
//! RFC 4389 is not used: every pod has a link of its own).

use core::net::{Ipv4Addr, Ipv6Addr};

use encap::wire::arp::{self, ArpOperation, ArpRepr};
use encap::wire::ethernet::{self, EtherType};
use encap::wire::{ipv6, ndisc};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::pipeline::parse::Asked;
use crate::pipeline::punt;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::{GATEWAY_V4, GATEWAY_V6, Port, Role, Tables};

/// Answers, punts or drops every packet of address resolution.
#[cold]
pub fn run(burst: &mut Burst, asked: Asked, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes((asked.arp | asked.nd) & burst.alive) {
        let in_port = burst.meta.in_port[lane];
        let Some(port) = tables.port(in_port) else {
            state.drop_packet(burst, lane, DropReason::PortDown);
            continue;
        };
        let is_arp = asked.arp >> lane & 1 == 1;
        let answered = match port.role {
            Role::Uplink { exclusive: true } => {
                punt::packet(burst, lane, state);
                continue;
            }
            Role::Uplink { exclusive: false } => {
                Err(if is_arp { DropReason::ArpNotForUs } else { DropReason::NdNotForUs })
            }
            Role::Pod | Role::Host if is_arp => answer_arp(burst, lane, port, state.pool.area()),
            Role::Pod | Role::Host => answer_nd(burst, lane, port, state.pool.area()),
        };
        match answered {
            Ok(()) => {
                if burst.traced >> lane & 1 == 1 {
                    state.tracer.finish(burst, lane, Outcome::Sent(in_port), state.now);
                }
                let packet = burst.take_tx(lane);
                state.tx.push(in_port, packet);
            }
            Err(reason) => state.drop_packet(burst, lane, reason),
        }
    }
}

fn answer_arp(burst: &mut Burst, lane: usize, port: &Port, area: &FrameArea) -> Result<(), DropReason> {
    let bytes = burst.bytes_mut(lane, area);
    let (header, body) = bytes.split_at_mut_checked(ethernet::HEADER_LEN).ok_or(DropReason::ArpMalformed)?;
    let ask = ArpRepr::parse(body).map_err(|_| DropReason::ArpMalformed)?;
    if ask.operation != ArpOperation::Request {
        return Err(DropReason::ArpReplyIgnored);
    }
    let pod = port.role == Role::Pod;
    if ask.sha != port.peer_mac {
        return Err(DropReason::ArpSpoofed);
    }
    // A probe (RFC 5227) has no sender address yet; anything else must be the pod's, or one that it may send from.
    let own = |address: Ipv4Addr| port.addresses4.contains(&address) || port.may_send_from(address.into());
    if pod && !ask.spa.is_unspecified() && !own(ask.spa) {
        return Err(DropReason::ArpSpoofed);
    }
    if ask.spa == ask.tpa || (pod && port.addresses4.contains(&ask.tpa)) {
        return Err(DropReason::ArpOwnAddress);
    }
    // The host asks for the gateway alone: its other addresses are on other links.
    if !pod && ask.tpa != GATEWAY_V4 {
        return Err(DropReason::ArpNotForUs);
    }
    ask.answer(port.mac).emit(body).map_err(|_| DropReason::ArpMalformed)?;
    if let Some(header) = header.first_chunk_mut() {
        ethernet::write_header(header, ask.sha, port.mac, EtherType::ARP);
    }
    let meta = &mut burst.meta;
    meta.len[lane] = meta.len[lane].min((ethernet::HEADER_LEN + arp::PACKET_LEN) as u16);
    Ok(())
}

fn answer_nd(burst: &mut Burst, lane: usize, port: &Port, area: &FrameArea) -> Result<(), DropReason> {
    let bytes = burst.bytes(lane, area);
    let ip = bytes.get(ethernet::HEADER_LEN..).ok_or(DropReason::NdMalformed)?;
    let source = source_of(ip);
    let ask = match ndisc::parse(ip).map_err(|_| DropReason::NdMalformed)? {
        ndisc::Message::NeighborSolicit(ask) => ask,
        ndisc::Message::NeighborAdvert(_) => return Err(DropReason::NdAdvertIgnored),
        _ => return Err(DropReason::NdRouterMessage),
    };
    let pod = port.role == Role::Pod;
    let own = |address: &Ipv6Addr| {
        port.addresses6.contains(address) || is_link_local(*address) || port.may_send_from((*address).into())
    };
    if source.is_unspecified() {
        // Duplicate address detection (RFC 4862 5.4.3): the gateway defends its own
        // address, and no one else is on this link.
        if ask.target != GATEWAY_V6 {
            return Err(DropReason::NdDuplicateProbe);
        }
    } else if pod && !own(&source) {
        return Err(DropReason::NdSpoofed);
    }
    if ask.source_ll.is_some_and(|mac| mac != port.peer_mac) {
        return Err(DropReason::NdSpoofed);
    }
    if pod && port.addresses6.contains(&ask.target) {
        return Err(DropReason::NdDuplicateProbe);
    }
    let link_local_other = is_link_local(ask.target) && ask.target != GATEWAY_V6;
    if link_local_other || (!pod && ask.target != GATEWAY_V6) {
        return Err(DropReason::NdNotForUs);
    }
    // RFC 4861 7.2.4: an answer to a probe goes to all nodes, unsolicited.
    let solicited = !source.is_unspecified();
    let to = if solicited { source } else { ndisc::ALL_NODES };
    let advert = ndisc::NeighborAdvert {
        target: ask.target,
        target_ll: Some(port.mac),
        router: true,
        solicited,
        override_: true,
    };
    let to_mac = if solicited { port.peer_mac } else { ndisc::multicast_mac(ndisc::ALL_NODES) };
    let offset = burst.meta.offset[lane] as usize;
    let chunk = area.chunk_mut(burst.frame_mut(lane));
    let out = chunk.get_mut(offset..).ok_or(DropReason::NdMalformed)?;
    let (header, body) = out.split_at_mut_checked(ethernet::HEADER_LEN).ok_or(DropReason::NdMalformed)?;
    let len = ndisc::emit_neighbor_advert(body, GATEWAY_V6, to, &advert);
    if len == 0 {
        return Err(DropReason::NdMalformed);
    }
    if let Some(header) = header.first_chunk_mut() {
        ethernet::write_header(header, to_mac, port.mac, EtherType::IPV6);
    }
    burst.meta.len[lane] = (ethernet::HEADER_LEN + len) as u16;
    burst.set_offload(lane, crate::burst::Checksum::Complete, crate::burst::Gso::default());
    Ok(())
}

fn source_of(ip: &[u8]) -> Ipv6Addr {
    debug_assert!(ip.len() >= ipv6::HEADER_LEN, "parse checked the length");
    let mut octets = [0; 16];
    if let Some(source) = ip.get(8..24) {
        octets.copy_from_slice(source);
    }
    Ipv6Addr::from(octets)
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}
