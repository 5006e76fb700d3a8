//! Coalescing and segmentation: what is put together is cut up into the very same packets, in order.

use encap::coalesce::{Coalescer, MAX_PACKETS, Offer, Verdict};
use encap::segment::Segmenter;
use encap::wire::{Ipv4, Ipv6, checksum, protocol};

use super::script::Script;

/// Runs a script of packets: raw ones, and ones that continue a flow but for a byte.
pub fn run(data: &[u8]) {
    let mut script = Script(data);
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut sent = [0u32; 4];
    while let Some(step) = script.byte() {
        let packet = if step & 0x80 != 0 {
            script.bytes(512).map(<[u8]>::to_vec)
        } else {
            let flow = usize::from(step & 3);
            flow_packet(flow, step, &mut sent[flow], &mut script)
        };
        let Some(packet) = packet else { break };
        packets.push(packet);
    }
    for packet in &packets {
        cut_any(packet);
    }
    packets.chunks(MAX_PACKETS).for_each(burst);
}

/// The next packet of one of four flows: TCP and UDP over IPv4 and IPv6.
fn flow_packet(flow: usize, step: u8, sent: &mut u32, script: &mut Script<'_>) -> Option<Vec<u8>> {
    let (v6, tcp) = (flow & 1 == 1, flow & 2 == 0);
    let (len, at, flip) = (script.byte()?, script.byte()?, script.byte()?);
    let mut transport = vec![1, 2, 3, 4];
    if tcp {
        transport.extend(sent.to_be_bytes());
        transport.extend([0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    } else {
        transport.extend((8 + u16::from(len)).to_be_bytes());
        transport.extend([0, 0]);
    }
    transport.extend(std::iter::repeat_n(step, usize::from(len)));
    *sent = sent.wrapping_add(u32::from(len));
    let upper = if tcp { protocol::TCP } else { protocol::UDP };
    let mut packet = if v6 {
        let payload = transport.len() as u16;
        let mut header = vec![0x60, 0, 0, 0, (payload >> 8) as u8, payload as u8, upper, 64];
        header.extend([0xfd; 31]);
        header.push(1);
        header
    } else {
        let total = (20 + transport.len()) as u16;
        let id = (*sent & 0xff) as u8;
        let mut header = vec![0x45, 0, (total >> 8) as u8, total as u8, 0, id, 0x40, 0, 64, upper, 0, 0];
        header.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        header
    };
    packet.extend(transport);
    let at = usize::from(at) % packet.len();
    packet[at] ^= flip;
    if step & 0x40 == 0 {
        repair(&mut packet);
    }
    Some(packet)
}

/// Makes checksums right.
fn repair(packet: &mut [u8]) {
    if let Ok(mut header) = Ipv4::new_checked(&mut *packet) {
        header.fill_checksum();
        let (src, dst, upper) = (header.src(), header.dst(), header.protocol());
        let _ = checksum::fill_l4_v4(src, dst, upper, header.payload_mut());
    } else if let Ok(mut header) = Ipv6::new_checked(&mut *packet) {
        let (src, dst, upper) = (header.src(), header.dst(), header.next_header());
        let _ = checksum::fill_l4_v6(src, dst, upper, header.payload_mut());
    }
}

fn cut(packet: &[u8], size: u16, fixed_id: bool) -> Vec<Vec<u8>> {
    let Ok(mut plan) = Segmenter::new(packet, packet.len(), size) else { return Vec::new() };
    if fixed_id {
        plan = plan.with_fixed_id();
    }
    let make = |segment: encap::segment::Segment| {
        let data = plan.header_len() + segment.offset;
        let mut out = vec![0; plan.header_len()];
        out.extend_from_slice(&packet[data..data + segment.len]);
        plan.finish(&segment, &mut out).expect("a segment of the plan");
        out
    };
    plan.segments().map(make).collect()
}

/// Whatever can be cut up keeps its data.
fn cut_any(packet: &[u8]) {
    for size in [1, 7, 536] {
        let segments = cut(packet, size, false);
        let Ok(plan) = Segmenter::new(packet, packet.len(), size) else { continue };
        let data: Vec<u8> = segments.iter().flat_map(|s| s[plan.header_len()..].to_vec()).collect();
        assert_eq!(data, packet[plan.header_len()..]);
    }
}

fn burst(packets: &[Vec<u8>]) {
    let mut coalescer = Coalescer::new(true);
    let mut groups: Vec<(Option<u8>, Vec<u8>, Vec<usize>)> = Vec::new();
    for (slot, packet) in packets.iter().enumerate() {
        let intact = |slot: usize, transport: usize, pseudo: u64| {
            checksum::fold(pseudo + checksum::sum(&packets[slot][transport..])) == 0xffff
        };
        let offer = Offer { head: packet, len: packet.len(), trusted: false };
        match coalescer.offer(slot, offer, intact) {
            Verdict::Alone => groups.push((None, packet.clone(), vec![slot])),
            Verdict::Opens(group) => groups.push((Some(group), packet.clone(), vec![slot])),
            Verdict::Joins(group, data) => {
                let group = groups.iter_mut().find(|(id, ..)| *id == Some(group)).expect("it was opened");
                group.1.extend_from_slice(&packet[usize::from(data)..]);
                group.2.push(slot);
            }
        }
    }
    for (group, mut bytes, members) in groups {
        let Some((group, found)) = group.and_then(|group| Some((group, coalescer.super_packet(group)?)))
        else {
            assert_eq!(members.len(), 1);
            continue;
        };
        coalescer.finish(group, &mut bytes);
        let segments = cut(&bytes, found.size, found.fixed_id);
        let members: Vec<_> = members.iter().map(|slot| packets[*slot].clone()).collect();
        // TCP knows two zeros; what is cut up has the one of RFC 1624.
        let same = |ours: &Vec<u8>, theirs: &Vec<u8>| {
            let at = usize::from(found.transport + found.checksum_field);
            let zero = ours[at..at + 2] == [0, 0] && theirs[at..at + 2] == [0xff, 0xff];
            ours[..at] == theirs[..at] && ours[at + 2..] == theirs[at + 2..] && (zero || ours == theirs)
        };
        assert_eq!(segments.len(), members.len());
        assert!(
            segments.iter().zip(&members).all(|(ours, theirs)| same(ours, theirs)),
            "{segments:x?} {members:x?}"
        );
    }
}
