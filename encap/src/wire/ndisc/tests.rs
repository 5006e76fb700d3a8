//! Unit tests of neighbour discovery, named after the checks of RFC 4861.

use super::*;
use crate::wire::checksum;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x33]);

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// A packet with an ICMPv6 message of `fixed` bytes behind the type and code, hop limit 255, checksum right.
fn packet(src: &str, dst: &str, ty: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 40 + 4 + rest.len()];
    out[40] = ty;
    out[44..].copy_from_slice(rest);
    assert_eq!(icmpv6::emit_message(&mut out, ip(src), ip(dst), HOP_LIMIT, 4 + rest.len()), out.len());
    out
}

fn refill(packet: &mut [u8]) {
    let view = Ipv6::new_checked(&*packet).unwrap();
    let (src, dst) = (view.src(), view.dst());
    checksum::fill_l4_v6(src, dst, protocol::ICMPV6, &mut packet[40..]).unwrap();
}

fn solicit(src: &str, dst: &str, target: &str, options: &[u8]) -> Result<Message, ParseError> {
    let rest = [&[0; 4][..], &ip(target).octets(), options].concat();
    parse(&packet(src, dst, icmpv6::NEIGHBOR_SOLICIT, &rest))
}

fn advert(dst: &str, target: &str, flags: u8, options: &[u8]) -> Result<Message, ParseError> {
    let rest = [&[flags, 0, 0, 0][..], &ip(target).octets(), options].concat();
    parse(&packet("fe80::1", dst, icmpv6::NEIGHBOR_ADVERT, &rest))
}

const SOURCE_LL: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 0x33];
const TARGET_LL: [u8; 8] = [2, 1, 2, 0, 0, 0, 0, 0x33];

#[test]
fn emitted_solicitations_parse_back() {
    let mut out = [0; 100];
    let target = ip("fd00::5");
    let len = emit_neighbor_solicit(&mut out, ip("fe80::1"), solicited_node(target), target, Some(MAC));
    assert_eq!(len, 72);
    let expected = NeighborSolicit { target, source_ll: Some(MAC), is_dad: false };
    assert_eq!(parse(&out[..len]), Ok(Message::NeighborSolicit(expected)));
    let len =
        emit_neighbor_solicit(&mut out, Ipv6Addr::UNSPECIFIED, solicited_node(target), target, Some(MAC));
    assert_eq!(len, 64);
    let expected = NeighborSolicit { target, source_ll: None, is_dad: true };
    assert_eq!(parse(&out[..len]), Ok(Message::NeighborSolicit(expected)));
    assert_eq!(emit_neighbor_solicit(&mut out[..71], ip("fe80::1"), target, target, Some(MAC)), 0);
}

#[test]
fn emitted_advertisements_parse_back() {
    for bits in 0..8u8 {
        let value = NeighborAdvert {
            target: ip("fd00::5"),
            target_ll: (bits & 1 != 0).then_some(MAC),
            router: bits & 2 != 0,
            solicited: bits & 4 != 0,
            override_: bits & 1 == 0,
        };
        let mut out = [0; 72];
        let len = emit_neighbor_advert(&mut out, ip("fe80::1"), ip("fd00::9"), &value);
        assert_eq!(parse(&out[..len]), Ok(Message::NeighborAdvert(value)));
    }
}

#[test]
fn rfc4861_7_1_hop_limit_must_be_255() {
    let mut bytes = packet("fe80::1", "fd00::5", 135, &[[0; 4].as_slice(), &ip("fd00::5").octets()].concat());
    assert!(parse(&bytes).is_ok());
    bytes[7] = 254;
    assert_eq!(parse(&bytes), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_7_1_checksum_must_be_valid() {
    let mut bytes = packet("fe80::1", "fd00::5", 135, &[[0; 4].as_slice(), &ip("fd00::5").octets()].concat());
    bytes[63] ^= 1;
    assert_eq!(parse(&bytes), Err(ParseError::BadChecksum));
}

#[test]
fn rfc4861_7_1_code_must_be_0() {
    let mut bytes = packet("fe80::1", "fd00::5", 135, &[[0; 4].as_slice(), &ip("fd00::5").octets()].concat());
    bytes[41] = 1;
    refill(&mut bytes);
    assert_eq!(parse(&bytes), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_7_1_length_must_be_at_least_24() {
    let bytes = packet("fe80::1", "fd00::5", 135, &[0; 19]);
    assert_eq!(parse(&bytes), Err(ParseError::Truncated));
}

#[test]
fn rfc4861_7_1_target_must_not_be_multicast() {
    assert_eq!(solicit("fe80::1", "ff02::1:ff00:5", "ff02::1", &[]), Err(ParseError::Malformed));
    assert_eq!(advert("fd00::9", "ff02::1", 0, &[]), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_7_1_option_length_must_not_be_0() {
    assert_eq!(
        solicit("fe80::1", "fd00::5", "fd00::5", &[99, 0, 0, 0, 0, 0, 0, 0]),
        Err(ParseError::BadLength)
    );
    assert_eq!(advert("fd00::9", "fd00::5", 0, &[99, 0]), Err(ParseError::BadLength));
}

#[test]
fn rfc4861_7_1_1_unspecified_source_must_ask_a_solicited_node_address() {
    assert!(solicit("::", "ff02::1:ff00:5", "fd00::5", &[]).is_ok());
    assert_eq!(solicit("::", "ff02::1", "fd00::5", &[]), Err(ParseError::Malformed));
    assert_eq!(solicit("::", "fd00::5", "fd00::5", &[]), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_7_1_1_unspecified_source_must_not_give_its_link_layer_address() {
    assert_eq!(solicit("::", "ff02::1:ff00:5", "fd00::5", &SOURCE_LL), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_7_1_2_solicited_must_be_clear_when_multicast() {
    assert_eq!(advert("ff02::1", "fd00::5", 0x40, &TARGET_LL), Err(ParseError::Malformed));
    assert!(advert("ff02::1", "fd00::5", 0x20, &TARGET_LL).is_ok());
    assert!(advert("fd00::9", "fd00::5", 0x40, &TARGET_LL).is_ok());
}

#[test]
fn rfc4861_4_6_unknown_options_are_ignored() {
    let options = [&[14, 2][..], &[0xee; 14], &TARGET_LL].concat();
    let Ok(Message::NeighborAdvert(value)) = advert("fd00::9", "fd00::5", 0xe0, &options) else {
        panic!("an unknown option made the message invalid");
    };
    assert_eq!(value.target_ll, Some(MAC));
    assert!(value.router && value.solicited && value.override_);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    assert_eq!(advert("fd00::9", "fd00::5", 0, &TARGET_LL[..7]), Err(ParseError::Truncated));
    assert_eq!(advert("fd00::9", "fd00::5", 0, &[9]), Err(ParseError::Truncated));
    let long = [&[2, 2][..], &[0; 14]].concat();
    assert_eq!(advert("fd00::9", "fd00::5", 0, &long), Err(ParseError::BadLength));
}

#[test]
fn a_group_address_as_link_layer_address_is_refused() {
    let group = [2, 1, 0x33, 0x33, 0, 0, 0, 1];
    assert_eq!(advert("fd00::9", "fd00::5", 0, &group), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_6_1_1_router_solicitation() {
    let rs = |src: &str, options: &[u8]| parse(&packet(src, "ff02::2", 133, &[&[0; 4], options].concat()));
    assert_eq!(rs("fe80::1", &SOURCE_LL), Ok(Message::RouterSolicit(RouterSolicit { source_ll: Some(MAC) })));
    assert_eq!(rs("::", &[]), Ok(Message::RouterSolicit(RouterSolicit { source_ll: None })));
    assert_eq!(rs("::", &SOURCE_LL), Err(ParseError::Malformed));
}

#[test]
fn rfc4861_6_1_2_router_advertisement_must_come_from_a_link_local_address() {
    let mtu = [5, 1, 0, 0, 0, 0, 0x05, 0xdc];
    let fixed = [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let rest = [&fixed[..], &SOURCE_LL, &mtu].concat();
    let expected = RouterAdvert { hop_limit: 64, lifetime_secs: 1800, source_ll: Some(MAC), mtu: Some(1500) };
    assert_eq!(parse(&packet("fe80::1", "ff02::1", 134, &rest)), Ok(Message::RouterAdvert(expected)));
    assert_eq!(parse(&packet("fd00::1", "ff02::1", 134, &rest)), Err(ParseError::Malformed));
    assert_eq!(parse(&packet("fe80::1", "ff02::1", 134, &rest[..11])), Err(ParseError::Truncated));
}

#[test]
fn rfc4861_8_1_redirect() {
    let redirect = |src: &str, target: &str, destination: &str| {
        let rest = [&[0; 4][..], &ip(target).octets(), &ip(destination).octets(), &TARGET_LL].concat();
        parse(&packet(src, "fd00::9", 137, &rest))
    };
    let expected = Redirect { target: ip("fe80::2"), destination: ip("fd00::7"), target_ll: Some(MAC) };
    assert_eq!(redirect("fe80::1", "fe80::2", "fd00::7"), Ok(Message::Redirect(expected)));
    assert!(redirect("fe80::1", "fd00::7", "fd00::7").is_ok());
    assert_eq!(redirect("fd00::1", "fe80::2", "fd00::7"), Err(ParseError::Malformed));
    assert_eq!(redirect("fe80::1", "fd00::2", "fd00::7"), Err(ParseError::Malformed));
    assert_eq!(redirect("fe80::1", "fe80::2", "ff0e::7"), Err(ParseError::Malformed));
}

#[test]
fn rfc6980_5_fragments_are_refused() {
    let plain = packet("fe80::1", "fd00::5", 135, &[[0; 4].as_slice(), &ip("fd00::5").octets()].concat());
    let mut bytes = [&plain[..40], &[58, 0, 0, 0, 0, 0, 0, 1], &plain[40..]].concat();
    bytes[6] = protocol::FRAGMENT;
    bytes[5] += 8;
    assert_eq!(parse(&bytes), Err(ParseError::Malformed));
}

#[test]
fn other_icmpv6_is_not_neighbour_discovery() {
    assert_eq!(parse(&packet("fe80::1", "fd00::5", 128, &[0; 20])), Err(ParseError::Malformed));
}

#[test]
fn rfc4291_solicited_node_and_rfc2464_multicast_mac() {
    let group = solicited_node(ip("fd00:20::12:3456"));
    assert_eq!(group, ip("ff02::1:ff12:3456"));
    assert_eq!(multicast_mac(group), MacAddr([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]));
}
