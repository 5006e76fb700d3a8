//! Packets for the router's own addresses.
//!
//! Echo requests are answered in their own frame (RFC 1812 4.3.3.6, RFC 4443 4.2);
//! everything else goes to the node's stack by the adjacency's port, or is answered
//! with an ICMP error where the router has none.

use core::net::Ipv6Addr;

use encap::wire::ethernet::{self, EtherType};
use encap::wire::{checksum, icmpv4, icmpv6, ipv4, ipv6, protocol};

use crate::burst::Burst;
use crate::checksum::sum_of;
use crate::drop_reason::DropReason;
use crate::frame::FrameArea;
use crate::ids::PortId;
use crate::pipeline::host_policy;
use crate::pipeline::icmp_error::{self, Unreachable};
use crate::pipeline::path_mtu;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::{Adjacency, Port, Role, Tables};

/// The TTL of what the router sends itself.
const TTL: u8 = 64;

/// Takes a packet for an address of ours.
#[cold]
pub fn packet(
    burst: &mut Burst,
    lane: usize,
    adjacency: &Adjacency,
    tables: &Tables,
    state: &mut WorkerState,
) {
    let v4 = burst.v4 >> lane & 1 == 1;
    let icmp = if v4 { protocol::ICMP } else { protocol::ICMPV6 };
    let whole = burst.fragments >> lane & 1 == 0;
    if burst.meta.protocol[lane] == icmp && whole {
        if asks_for_echo(burst, lane, v4, state.pool.area())
            && !host_policy::admits(burst, lane, tables, state)
        {
            return;
        }
        match echo(burst, lane, v4, state.pool.area()) {
            Ok(()) if v4 || !is_link_local(burst.meta.dst6[lane]) => answer(burst, lane, state),
            Ok(()) => answer_on_link(burst, lane, tables, state),
            // Not an echo request: errors and replies about our own packets.
            Err(None) if adjacency.port == PortId::NONE => {
                path_mtu::take(burst, lane, tables, state);
                state.consume(burst, lane);
            }
            Err(None) => {}
            Err(Some(reason)) => state.drop_packet(burst, lane, reason),
        }
        return;
    }
    if adjacency.port != PortId::NONE {
        // Alive with a port: later stages deliver it to the node's stack.
        return;
    }
    let answer = if matches!(burst.meta.protocol[lane], protocol::UDP | protocol::TCP) {
        Unreachable::Port
    } else {
        Unreachable::Protocol
    };
    icmp_error::unreachable(burst, lane, answer, tables, state);
    state.drop_packet(burst, lane, DropReason::NotLocal);
}

fn asks_for_echo(burst: &Burst, lane: usize, v4: bool, area: &FrameArea) -> bool {
    let header_len = usize::from(burst.meta.l4[lane] - burst.meta.l3[lane]);
    let request = if v4 { icmpv4::ECHO_REQUEST } else { icmpv6::ECHO_REQUEST };
    burst.network(lane, area).get(header_len) == Some(&request)
}

/// Turns an echo request into its reply. `Err(None)`: it is no echo request.
fn echo(burst: &mut Burst, lane: usize, v4: bool, area: &FrameArea) -> Result<(), Option<DropReason>> {
    let header_len = (burst.meta.l4[lane] - burst.meta.l3[lane]) as usize;
    let (l4, end) = (burst.meta.l4[lane], burst.meta.offset[lane] + burst.meta.len[lane]);
    let sum = sum_of(area.pieces(burst.frame(lane), l4, end.saturating_sub(l4)));
    let total = burst.meta.ip_len[lane] as usize;
    let ip = burst.network_mut(lane, area);
    if v4 {
        let (header, message) = ip.split_at_mut(header_len);
        if message.first() != Some(&icmpv4::ECHO_REQUEST) {
            return Err(None);
        }
        if message.len() < 8 || checksum::fold(sum) != 0xffff {
            return Err(Some(DropReason::IcmpMalformed));
        }
        icmpv4::echo_reply_in_place(message).map_err(|_| Some(DropReason::IcmpMalformed))?;
        let mut view = ipv4::Ipv4::new_quoted(header).map_err(|_| Some(DropReason::IcmpMalformed))?;
        let (src, dst) = (view.src(), view.dst());
        view.set_src(dst);
        view.set_dst(src);
        view.set_ttl(TTL);
        view.fill_checksum();
        burst.meta.src4[lane] = u32::from(dst);
        burst.meta.dst4[lane] = src;
    } else {
        let message = &ip[header_len..];
        let message_len = message.len();
        if message.first() != Some(&icmpv6::ECHO_REQUEST) {
            return Err(None);
        }
        let len = total - header_len;
        let mut view = ipv6::Ipv6::new_head(&mut *ip, total).map_err(|_| Some(DropReason::IcmpMalformed))?;
        let pseudo = view.pseudo_sum(protocol::ICMPV6, len as u32);
        if message_len < 8 || checksum::fold(pseudo + sum) != 0xffff {
            return Err(Some(DropReason::IcmpMalformed));
        }
        let (src, dst) = (view.src(), view.dst());
        view.set_src(dst);
        view.set_dst(src);
        view.set_hop_limit(TTL);
        icmpv6::echo_reply_in_place(&mut ip[header_len..]).map_err(|_| Some(DropReason::IcmpMalformed))?;
        burst.meta.dst6[lane] = src;
    }
    Ok(())
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// Sends the reply back to the station that asked: link-local addresses are not routed.
fn answer_on_link(burst: &mut Burst, lane: usize, tables: &Tables, state: &mut WorkerState) {
    let in_port = burst.meta.in_port[lane];
    let one_station = |port: &&Port| matches!(port.role, Role::Pod | Role::Host);
    let Some(port) = tables.port(in_port).filter(one_station) else {
        state.drop_packet(burst, lane, DropReason::LinkLocal);
        return;
    };
    let bytes = burst.bytes_mut(lane, state.pool.area());
    if let Some(header) = bytes.first_chunk_mut() {
        ethernet::write_header(header, port.peer_mac, port.mac, EtherType::IPV6);
    }
    if burst.traced >> lane & 1 == 1 {
        state.tracer.finish(burst, lane, Outcome::Sent(in_port), state.now);
    }
    let packet = burst.take_tx(lane);
    state.tx.push(in_port, packet);
}

/// Sends the reply on its way: it is looked up like anything else that we originate.
fn answer(burst: &mut Burst, lane: usize, state: &mut WorkerState) {
    if state.originated.room() == 0 {
        state.drop_packet(burst, lane, DropReason::NoFrame);
        return;
    }
    if burst.traced >> lane & 1 == 1 {
        state.tracer.finish(burst, lane, Outcome::Answered, state.now);
    }
    let packet = burst.take_tx(lane);
    let Ok(new) = state.originated.push(packet.frame, packet.offset, packet.len, packet.in_port) else {
        return;
    };
    let (from, to) = (&burst.meta, &mut state.originated);
    to.meta.l3[new] = from.l3[lane];
    to.meta.l4[new] = from.l4[lane];
    to.meta.protocol[new] = from.protocol[lane];
    to.meta.ip_len[new] = from.ip_len[lane];
    to.meta.src4[new] = from.src4[lane];
    to.meta.dst4[new] = from.dst4[lane];
    to.meta.dst6[new] = from.dst6[lane];
    to.v4 |= (burst.v4 >> lane & 1) << new;
    to.v6 |= (burst.v6 >> lane & 1) << new;
}
