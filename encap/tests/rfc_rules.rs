//! What receivers must ignore or accept, one test per sentence, named by RFC and section.
//!
//! A receiver that checks more than its specification asks for breaks the day a peer uses a reserved bit. The rules
//! that refuse something are tested beside the code that refuses it.

mod scapy;

use std::net::{Ipv4Addr, Ipv6Addr};

use encap::tunnel::ipip;
use encap::wire::ndisc::{self, Message};
use encap::wire::{ArpRepr, Icmpv4, Ipv4, Ipv6, Tcp, Udp, checksum, ipv6_ext, protocol};

use scapy::vector;

fn refill_icmpv6(packet: &mut [u8]) {
    let ip = Ipv6::new_checked(&*packet).expect("the vectors are valid");
    let (src, dst) = (ip.src(), ip.dst());
    checksum::fill_l4_v6(src, dst, protocol::ICMPV6, &mut packet[40..]).expect("the vectors are valid");
}

/// The field is unused: senders zero it, receivers do not look.
#[test]
fn rfc4861_4_3_the_reserved_field_of_a_solicitation_is_ignored() {
    let mut bytes = vector("ns");
    let expected = ndisc::parse(&bytes);
    bytes[44..48].fill(0xff);
    refill_icmpv6(&mut bytes);
    assert!(expected.is_ok());
    assert_eq!(ndisc::parse(&bytes), expected);
}

/// The same of the 29 bits behind R, S and O.
#[test]
fn rfc4861_4_4_the_reserved_bits_of_an_advertisement_are_ignored() {
    let mut bytes = vector("na");
    let expected = ndisc::parse(&bytes);
    bytes[44] |= 0x1f;
    bytes[45..48].fill(0xff);
    refill_icmpv6(&mut bytes);
    assert!(matches!(expected, Ok(Message::NeighborAdvert(_))));
    assert_eq!(ndisc::parse(&bytes), expected);
}

/// Options that are defined, but not for this message, mean nothing in it.
#[test]
fn rfc4861_7_1_1_a_target_address_option_in_a_solicitation_is_ignored() {
    let mut bytes = vector("ns");
    bytes[64] = 2;
    refill_icmpv6(&mut bytes);
    let Ok(Message::NeighborSolicit(ns)) = ndisc::parse(&bytes) else { panic!("refused") };
    assert_eq!(ns.source_ll, None);
}

/// Zero is the sender's duty; the header is not refused for it.
#[test]
fn rfc791_3_1_the_reserved_flag_makes_no_fragment() {
    let mut bytes = vector("udp4");
    bytes[6] |= 0x80;
    let ip = Ipv4::new_checked(&bytes).unwrap();
    assert!(ip.dont_fragment() && !ip.is_fragment());
}

/// Both reserved fields: senders zero them, receivers do not look.
#[test]
fn rfc8200_4_5_the_reserved_bits_of_a_fragment_header_are_ignored() {
    let mut bytes = vector("ext_later_fragment");
    let expected = Ipv6::new_checked(&bytes).unwrap().upper();
    bytes[41] = 0xff;
    bytes[43] |= 0x06;
    assert!(expected.is_ok());
    assert_eq!(Ipv6::new_checked(&bytes).unwrap().upper(), expected);
}

/// Senders keep an order, receivers accept any, hop-by-hop options aside.
#[test]
fn rfc8200_4_1_extension_headers_are_accepted_in_any_order() {
    let header = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
    let order =
        [header(protocol::ROUTING), header(protocol::DESTINATION_OPTIONS), header(protocol::UDP)].concat();
    let upper = ipv6_ext::walk(protocol::DESTINATION_OPTIONS, &order).unwrap();
    assert_eq!((upper.protocol, upper.offset), (protocol::UDP, 24));
}

/// Hop-by-hop options stand right behind the IPv6 header or nowhere.
#[test]
fn rfc8200_4_1_hop_by_hop_options_come_first() {
    let bytes = [[protocol::HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 0], [protocol::UDP, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(ipv6_ext::walk(protocol::DESTINATION_OPTIONS, &bytes), Err(encap::ParseError::Malformed));
}

/// Over IPv4 a zero says that the sender computed none.
#[test]
fn rfc768_a_zero_checksum_is_no_fault() {
    let mut bytes = vector("udp4");
    let mut udp = Udp::new_checked(&mut bytes[20..]).unwrap();
    udp.set_checksum(0);
    assert_eq!(Udp::new_checked(&bytes[20..]).unwrap().checksum(), 0);
}

/// Four bits between data offset and flags are kept for later.
#[test]
fn rfc9293_3_1_the_reserved_bits_are_ignored() {
    let mut bytes = vector("tcp4");
    bytes[32] |= 0x0f;
    let tcp = Tcp::new_checked(&bytes[20..]).unwrap();
    assert_eq!((tcp.header_len(), tcp.payload().len()), (40, 11));
}

/// The reply returns the data of the request, its identifier and its sequence number.
#[test]
fn rfc792_echo_data_identifier_and_sequence_are_returned() {
    let before = vector("echo4");
    let mut after = before.clone();
    encap::wire::icmpv4::echo_reply_in_place(&mut after[20..]).unwrap();
    assert_eq!(after[24..], before[24..]);
    assert_eq!(Icmpv4::new_checked(&after[20..]).unwrap().payload().len(), 56);
}

/// The packet's length follows from its address lengths; links pad it to theirs.
#[test]
fn rfc826_link_padding_behind_the_packet_is_ignored() {
    let mut bytes = vector("arp_request");
    bytes.resize(60, 0xff);
    assert_eq!(ArpRepr::parse(&bytes[14..]), ArpRepr::parse(&vector("arp_request")[14..]));
}

/// A request leaves the target hardware address to the answer.
#[test]
fn rfc826_the_target_hardware_address_of_a_request_is_ignored() {
    let mut bytes = vector("arp_request");
    bytes[32..38].fill(0xff);
    assert!(ArpRepr::parse(&bytes[14..]).is_ok());
}

/// What comes out of a tunnel is judged by its own header.
#[test]
fn rfc1122_3_2_2_the_inner_packet_decides_whether_it_may_be_answered() {
    let error = vector("error4_time_exceeded");
    let outer = ipip::OuterIpv4::new(Ipv4Addr::new(172, 16, 20, 252), Ipv4Addr::new(172, 16, 20, 253));
    let mut packet = vec![0; 20];
    outer.push(&mut packet, &error, error.len() as u16, 0).unwrap();
    packet.extend(&error);
    let popped = ipip::pop(&mut packet).unwrap();
    assert!(!encap::wire::icmpv4::may_answer_v4(&packet[popped.offset..]));
}

/// IPv4-mapped addresses have no place on the wire (RFC 4291 §2.5.5.2).
#[test]
fn rfc4443_2_4_e_6_mapped_sources_are_not_answered() {
    let mut bytes = vector("udp6");
    Ipv6::new_checked(&mut bytes[..]).unwrap().set_src(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
    assert!(!encap::wire::icmpv6::may_answer_v6(&bytes));
    Ipv6::new_checked(&mut bytes[..]).unwrap().set_src(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    assert!(encap::wire::icmpv6::may_answer_v6(&bytes));
}
