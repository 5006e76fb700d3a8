//! Segmentation and coalescing against a model of packets as lists of fields, and as inverses of each other.

#![allow(clippy::unwrap_used)]

mod model;

use encap::coalesce::{Coalescer, MAX_PACKETS, Offer, Verdict};
use encap::segment::{MAX_SEGMENTS, SegmentError, Segmenter};
use encap::wire::checksum;
use model::{ACK, CWR, ECE, FIN, Group, Network, PSH, Packet, RST, SYN, URG};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Cuts a packet up with the crate.
fn cut(whole: &[u8], size: u16, fixed_id: bool) -> Vec<Vec<u8>> {
    let mut plan = Segmenter::new(whole, whole.len(), size).unwrap();
    if fixed_id {
        plan = plan.with_fixed_id();
    }
    let header_len = plan.header_len();
    let segments: Vec<_> = plan.segments().collect();
    assert_eq!(segments.len(), plan.count());
    segments
        .iter()
        .map(|segment| {
            let start = header_len + segment.offset;
            let mut out = vec![0xee; header_len];
            out.extend_from_slice(&whole[start..start + segment.len]);
            plan.finish(segment, &mut out).unwrap();
            assert!(out.len() <= plan.segment_len());
            out
        })
        .collect()
}

/// Puts packets together with the crate: the bytes of each group, its segment size (0: one packet), whether its
/// identifications stay, and the packets in it.
fn join(packets: &[Vec<u8>], trusted: bool) -> Vec<(Vec<u8>, u16, bool, Vec<usize>)> {
    let mut coalescer = Coalescer::new(true);
    let mut out = Vec::new();
    for (start, burst) in (0..).step_by(MAX_PACKETS).zip(packets.chunks(MAX_PACKETS)) {
        coalescer.clear();
        let mut groups: Vec<(Option<u8>, Vec<u8>, Vec<usize>)> = Vec::new();
        for (slot, packet) in burst.iter().enumerate() {
            let offer = Offer { head: &packet[..packet.len().min(160)], len: packet.len(), trusted };
            let intact = |slot: usize, transport: usize, pseudo: u64| {
                checksum::fold(pseudo + checksum::sum(&burst[slot][transport..])) == 0xffff
            };
            match coalescer.offer(slot, offer, intact) {
                Verdict::Alone => groups.push((None, packet.clone(), vec![start + slot])),
                Verdict::Opens(group) => groups.push((Some(group), packet.clone(), vec![start + slot])),
                Verdict::Joins(group, data) => {
                    let group = groups.iter_mut().find(|(id, ..)| *id == Some(group)).unwrap();
                    group.1.extend_from_slice(&packet[usize::from(data)..]);
                    group.2.push(start + slot);
                }
            }
        }
        for (group, mut bytes, members) in groups {
            let mut shape = (0, false);
            if let Some(group) = group
                && let Some(found) = coalescer.super_packet(group)
            {
                coalescer.finish(group, &mut bytes);
                assert_eq!((found.len, usize::from(found.packets)), (bytes.len(), members.len()));
                shape = (found.size, found.fixed_id);
                complete(&mut bytes, found.transport.into(), found.checksum_field.into());
            }
            out.push((bytes, shape.0, shape.1, members));
        }
    }
    out
}

/// Completes a partial checksum, as a device does.
fn complete(bytes: &mut [u8], transport: usize, field: usize) {
    let value = match checksum::checksum(&bytes[transport..]) {
        0 if field == 6 => 0xffff,
        value => value,
    };
    bytes[transport + field..transport + field + 2].copy_from_slice(&value.to_be_bytes());
}

fn network(v6: impl Strategy<Value = bool>) -> impl Strategy<Value = Network> {
    (v6, any::<u8>(), any::<u16>(), any::<bool>(), 1..=255u8, 0..1u32 << 20).prop_map(
        |(v6, tos, id, dont_fragment, ttl, label)| {
            let (id, dont_fragment) = if v6 { (0, false) } else { (id, dont_fragment) };
            Network { v6, tos, id, dont_fragment, ttl, label, src: 1, dst: 2 }
        },
    )
}

/// Any packet with no data yet.
fn headers() -> impl Strategy<Value = Packet> {
    let options = select(vec![vec![], vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], vec![1; 40]]);
    let flags =
        select(vec![ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE | CWR | PSH, ACK | URG, 0xff]);
    let outer = proptest::option::of(network(Just(false)));
    let word = (any::<u32>(), any::<u32>(), any::<u16>());
    (outer, network(any::<bool>()), any::<bool>(), word, flags, options).prop_map(
        |(outer, network, tcp, (seq, ack, window), flags, options)| {
            let ports = (40000, 443);
            let data = vec![];
            if tcp {
                return Packet { outer, network, tcp, ports, seq, ack, flags, window, options, data };
            }
            let options = vec![];
            Packet { outer, network, tcp, ports, seq: 0, ack: 0, flags: 0, window: 0, options, data }
        },
    )
}

/// How a packet differs from the one that would follow its predecessor.
#[derive(Clone, Copy, Debug)]
enum Twist {
    None,
    Push,
    Fin,
    Syn,
    Reset,
    Reduced,
    Echo,
    Longer,
    Shorter,
    Empty,
    Gap,
    Again,
    SameId,
    OddId,
    OuterId,
    Tos,
    Ttl,
    Ack,
    Window,
    Options,
    Fragmentable,
    Label,
}

fn twist() -> impl Strategy<Value = Twist> {
    use Twist::*;
    let all = vec![
        Push,
        Fin,
        Syn,
        Reset,
        Reduced,
        Echo,
        Longer,
        Shorter,
        Empty,
        Gap,
        Again,
        SameId,
        OddId,
        OuterId,
        Tos,
        Ttl,
        Ack,
        Window,
        Options,
        Fragmentable,
        Label,
    ];
    prop_oneof![6 => Just(None), 1 => select(all)]
}

fn twisted(mut packet: Packet, twist: Twist, size: usize) -> Packet {
    match twist {
        Twist::None => {}
        Twist::Push => packet.flags |= PSH,
        Twist::Fin => packet.flags |= FIN,
        Twist::Syn => packet.flags |= SYN,
        Twist::Reset => packet.flags |= RST,
        Twist::Reduced => packet.flags |= CWR,
        Twist::Echo => packet.flags ^= ECE,
        Twist::Longer => packet.data = vec![7; size + 1],
        Twist::Shorter => packet.data.truncate(size / 2),
        Twist::Empty => packet.data.clear(),
        Twist::Gap => packet.seq = packet.seq.wrapping_add(1),
        Twist::Again => packet.seq = packet.seq.wrapping_sub(size as u32),
        Twist::SameId => packet.network.id = packet.network.id.wrapping_sub(1),
        Twist::OddId => packet.network.id = packet.network.id.wrapping_add(3),
        Twist::OuterId => packet.outer.iter_mut().for_each(|outer| outer.id ^= 2),
        Twist::Tos => packet.network.tos ^= 3,
        Twist::Ttl => packet.network.ttl ^= 1,
        Twist::Ack => packet.ack ^= 1,
        Twist::Window => packet.window ^= 1,
        Twist::Options => packet.options = vec![1; 4],
        Twist::Fragmentable => packet.network.dont_fragment ^= true,
        Twist::Label => packet.network.label ^= 1,
    }
    if packet.network.v6 {
        (packet.network.id, packet.network.dont_fragment) = (0, false);
    } else {
        packet.network.label = 0;
    }
    if !packet.tcp {
        (packet.seq, packet.ack, packet.flags, packet.window) = (0, 0, 0, 0);
        packet.options.clear();
    }
    packet
}

/// Several flows in one burst: each goes on where it was, but for a twist here and there.
fn traffic() -> impl Strategy<Value = Vec<Packet>> {
    let flows = vec((headers(), 1..60usize), 1..4);
    (flows, vec((any::<prop::sample::Index>(), twist()), 1..MAX_PACKETS)).prop_map(|(mut flows, steps)| {
        for (port, (packet, _)) in (0..).zip(&mut flows) {
            packet.ports.0 += port;
            packet.flags = ACK;
            packet.network.label *= u32::from(packet.network.v6);
            if let Some(outer) = &mut packet.outer {
                outer.label = 0;
            }
        }
        let mut fill = 0u8;
        steps
            .into_iter()
            .map(|(flow, twist)| {
                let flow = flow.index(flows.len());
                let (next, size) = &mut flows[flow];
                fill = fill.wrapping_add(1);
                next.data = vec![fill; *size];
                let sent = twisted(next.clone(), twist, *size);
                next.seq = sent.seq.wrapping_add(sent.data.len() as u32);
                next.ack = sent.ack;
                next.network.id = sent.network.id.wrapping_add(u16::from(!next.network.v6));
                next.outer.iter_mut().for_each(|outer| outer.id = outer.id.wrapping_add(1));
                if !next.tcp {
                    next.seq = 0;
                }
                sent
            })
            .collect()
    })
}

fn bytes_of(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(Packet::bytes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn segments_are_those_of_the_model(
        mut whole in headers(), len in 0..4000usize, size in 1..1500usize, fixed_id: bool, seed: u8,
    ) {
        whole.data = (0..len).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect();
        prop_assume!(len.div_ceil(size) <= MAX_SEGMENTS);
        let fixed_id = fixed_id && !whole.network.v6;
        let model = bytes_of(&model::segment(&whole, size, fixed_id));
        prop_assert_eq!(cut(&whole.bytes(), size as u16, fixed_id), model);
    }

    #[test]
    fn groups_are_those_of_the_model(packets in traffic(), trusted: bool) {
        let model: Vec<Group> = model::coalesce(&packets);
        let ours = join(&bytes_of(&packets), trusted);
        let of_model: Vec<_> = model.iter().map(|group| group.members.clone()).collect();
        let of_ours: Vec<_> = ours.iter().map(|(.., members)| members.clone()).collect();
        prop_assert_eq!(&of_ours, &of_model);
        for ((bytes, ..), group) in ours.iter().zip(&model) {
            prop_assert_eq!(bytes, &group.whole().bytes());
        }
    }

    #[test]
    fn what_was_put_together_is_cut_into_the_same(packets in traffic()) {
        let packets = bytes_of(&packets);
        for (bytes, size, fixed_id, members) in join(&packets, false) {
            let whole = if size == 0 { vec![bytes] } else { cut(&bytes, size, fixed_id) };
            let before: Vec<_> = members.iter().map(|index| packets[*index].clone()).collect();
            prop_assert_eq!(whole, before);
        }
    }

    #[test]
    fn what_was_cut_is_put_together_the_same(mut whole in headers(), segments in 2..MAX_PACKETS, size in 1..200usize, less: u8) {
        let len = segments * size - usize::from(less) % size;
        whole.data = (0..len).map(|i| i as u8).collect();
        whole.flags &= !(SYN | RST | URG);
        whole.network.label *= u32::from(whole.network.v6);
        let pieces = cut(&whole.bytes(), size as u16, false);
        let together = join(&pieces, false);
        prop_assert_eq!(together.len(), 1);
        prop_assert_eq!(&together[0].0, &whole.bytes());
        prop_assert_eq!(usize::from(together[0].1), size);
    }

    #[test]
    fn a_wrong_checksum_stays_alone_and_wrong(packets in traffic(), broken: prop::sample::Index, flip in 1..=255u8) {
        let mut packets = bytes_of(&packets);
        let index = broken.index(packets.len());
        let Some(last) = packets[index].last_mut() else { return Ok(()) };
        *last ^= flip;
        let broken = packets[index].clone();
        let found = join(&packets, false).into_iter().find(|(.., members)| members.contains(&index)).unwrap();
        prop_assert_eq!((found.0, found.3), (broken, vec![index]));
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..200), len in 0..70000usize, size: u16, first in 0..3usize) {
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = [0x45, 0x60, *byte][first];
        }
        if let Ok(plan) = Segmenter::new(&bytes, len, size) {
            prop_assert!(plan.count() <= MAX_SEGMENTS);
            for segment in plan.segments().take(3) {
                let mut out = vec![0; plan.header_len() + segment.len];
                plan.finish(&segment, &mut out).unwrap();
                prop_assert_eq!(plan.finish(&segment, &mut out[1..]).is_err(), true);
            }
        }
        let mut coalescer = Coalescer::new(true);
        for slot in 0..3 {
            coalescer.offer(slot, Offer { head: &bytes, len, trusted: true }, |_, _, _| true);
        }
        for group in 0..4 {
            coalescer.finish(group, &mut bytes);
        }
    }
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let network =
        Network { v6: false, tos: 0, id: 0, dont_fragment: true, ttl: 64, label: 0, src: 1, dst: 2 };
    let packet = Packet {
        outer: None,
        network,
        tcp: true,
        ports: (1, 2),
        seq: 0,
        ack: 0,
        flags: ACK,
        window: 0,
        options: vec![],
        data: vec![0; 3000],
    };
    let bytes = packet.bytes();
    let refused = |bytes: &[u8], size: u16| Segmenter::new(bytes, bytes.len(), size).unwrap_err();
    assert_eq!(refused(&bytes, 0), SegmentError::NoSize);
    assert_eq!(refused(&bytes, 1), SegmentError::TooMany);
    let mut icmp = bytes.clone();
    icmp[9] = 1;
    assert_eq!(refused(&icmp, 100), SegmentError::Protocol(1));
    let mut fragment = bytes.clone();
    fragment[6] = 0x20;
    assert_eq!(refused(&fragment, 100), SegmentError::Fragment);
    assert!(matches!(refused(&bytes[..30], 100), SegmentError::Parse(_)));
    assert_eq!(refused(&bytes, 1).to_string(), "more than 2048 segments");
}

#[test]
fn a_super_packet_has_at_most_65535_bytes_and_64_datagrams() {
    let network =
        Network { v6: false, tos: 0, id: 0, dont_fragment: true, ttl: 64, label: 0, src: 1, dst: 2 };
    let one = |i: usize, tcp: bool, size: usize| Packet {
        outer: None,
        network: Network { id: i as u16, ..network.clone() },
        tcp,
        ports: (1, 2),
        seq: if tcp { (i * size) as u32 } else { 0 },
        ack: 0,
        flags: if tcp { ACK } else { 0 },
        window: 0,
        options: vec![],
        data: vec![1; size],
    };
    let packets: Vec<_> = (0..50).map(|i| one(i, true, 1460).bytes()).collect();
    let together = join(&packets, false);
    assert_eq!(together.iter().map(|group| group.3.len()).collect::<Vec<_>>(), [44, 6]);
    let packets: Vec<_> = (0..64).map(|i| one(i, false, 100).bytes()).collect();
    assert_eq!(join(&packets, true).len(), 1);
    // The 65th is refused, and begins another.
    let packets: Vec<_> = (0..66).map(|i| one(i, false, 100).bytes()).collect();
    let together = join(&packets, true);
    assert_eq!(together.iter().map(|group| group.3.len()).collect::<Vec<_>>(), [64, 2]);
}
