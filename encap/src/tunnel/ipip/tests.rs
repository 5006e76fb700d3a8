//! Unit tests of IPv4 outer headers.

use proptest::prelude::*;

use super::*;
use crate::wire::{Ecn, Ipv4Repr, Ipv6Repr};

const NODE1: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 252);
const NODE2: Ipv4Addr = Ipv4Addr::new(172, 16, 20, 253);

fn inner4(tos: u8, dont_fragment: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    Ipv4Repr {
        tos,
        id: 5,
        dont_fragment,
        ttl: 63,
        protocol: protocol::UDP,
        src: Ipv4Addr::new(10, 100, 36, 103),
        dst: Ipv4Addr::new(10, 100, 169, 176),
        payload_len: payload.len() as u16,
    }
    .emit(&mut bytes)
    .unwrap();
    bytes.extend(payload);
    bytes
}

fn inner6(traffic_class: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    Ipv6Repr {
        traffic_class,
        flow_label: 0x12345,
        payload_len: payload.len() as u16,
        next_header: protocol::UDP,
        hop_limit: 63,
        src: "fd00:10::1".parse().unwrap(),
        dst: "fd00:10::2".parse().unwrap(),
    }
    .emit(&mut bytes)
    .unwrap();
    bytes.extend(payload);
    bytes
}

fn pushed(inner: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = vec![0xaa; OVERHEAD];
    OuterIpv4::new(NODE1, NODE2).push(&mut bytes, inner, inner.len() as u16, id).unwrap();
    bytes.extend(inner);
    bytes
}

#[test]
fn the_outer_header_is_valid_and_complete() {
    for (inner, protocol, tos, df) in [
        (inner4(0xb8, true, b"hello"), 4, 0xb8, true),
        (inner4(0x01, false, b"hello"), 4, 0x01, false),
        (inner6(0xb8, b"hello"), 41, 0xb8, false),
    ] {
        let bytes = pushed(&inner, 0x4242);
        let outer = Ipv4::new_checked(&bytes).unwrap();
        assert!(outer.verify_checksum());
        assert_eq!((outer.src(), outer.dst(), outer.ttl()), (NODE1, NODE2, 64));
        assert_eq!((outer.protocol(), outer.tos(), outer.id()), (protocol, tos, 0x4242));
        assert_eq!((outer.dont_fragment(), outer.is_fragment()), (df, false));
        assert_eq!(outer.payload(), inner);
    }
}

#[test]
fn rfc2003_3_1_df_set_inside_must_be_set_outside() {
    assert!(Ipv4::new_checked(pushed(&inner4(0, true, &[]), 0)).unwrap().dont_fragment());
    assert!(!Ipv4::new_checked(pushed(&inner4(0, false, &[]), 0)).unwrap().dont_fragment());
}

#[test]
fn rfc2003_3_1_a_fragment_inside_makes_no_fragment_outside() {
    let mut inner = inner4(0, true, b"12345678");
    let mut view = Ipv4::new_checked(&mut inner[..]).unwrap();
    view.set_fragment(1480, true, true);
    view.fill_checksum();
    let mut bytes = pushed(&inner, 0);
    let outer = Ipv4::new_checked(&bytes).unwrap();
    assert!(outer.verify_checksum() && outer.dont_fragment() && !outer.is_fragment());
    assert_eq!(pop(&mut bytes).map(|popped| popped.len), Ok(inner.len()));
    assert_eq!(bytes[20..], inner);
}

#[test]
fn rfc4213_3_2_1_static_mtu_leaves_df_clear_around_ipv6() {
    assert!(!Ipv4::new_checked(pushed(&inner6(0, &[]), 0)).unwrap().dont_fragment());
}

#[test]
fn rfc2003_3_1_the_inner_ttl_is_not_touched() {
    let mut bytes = pushed(&inner4(0, true, &[]), 0);
    let popped = pop(&mut bytes).unwrap();
    assert_eq!(Ipv4::new_checked(&bytes[popped.offset..]).unwrap().ttl(), 63);
}

#[test]
fn push_refuses_what_it_cannot_write() {
    let outer = OuterIpv4::with_ttl(NODE1, NODE2, 7);
    assert_eq!((outer.src(), outer.dst()), (NODE1, NODE2));
    let inner = inner4(0, false, &[]);
    let before = [0xaa; 21];
    for (len, bytes, inner_len, reason) in [
        (19, &inner[..], 20, ParseError::BadLength),
        (21, &inner[..], 20, ParseError::BadLength),
        (20, &inner[..], 65516, ParseError::BadLength),
        (20, &inner[..7], 20, ParseError::Truncated),
        (20, &[0x50; 20][..], 20, ParseError::BadVersion),
    ] {
        let mut out = before;
        assert_eq!(outer.push(&mut out[..len], bytes, inner_len, 0), Err(reason));
        assert_eq!(out, before);
    }
    let mut out = [0; 20];
    outer.push(&mut out, &inner, 65515, 0).unwrap();
    assert_eq!(Ipv4::new_quoted(out).unwrap().total_len(), 65535);
    assert_eq!(Ipv4::new_quoted(out).unwrap().ttl(), 7);
}

#[test]
fn pop_refuses_contradictions_and_leaves_the_bytes() {
    let good = pushed(&inner4(0, false, b"hello"), 0);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let before = bytes.clone();
        let error = pop(&mut bytes).unwrap_err();
        assert_eq!(bytes, before);
        error
    };
    use ParseError::*;
    assert_eq!(refused(&|b| b[9] = 41), PopError::Parse(BadVersion));
    assert_eq!(refused(&|b| b[9] = 17), PopError::Parse(Malformed));
    assert_eq!(refused(&|b| b[6] = 0x20), PopError::Parse(Malformed));
    assert_eq!(refused(&|b| b[7] = 1), PopError::Parse(Malformed));
    assert_eq!(refused(&|b| b[3] = 20), PopError::Parse(Truncated));
    assert_eq!(refused(&|b| b[3] = 44), PopError::Parse(Truncated));
    assert_eq!(refused(&|b| b[20] = 0x44), PopError::Parse(BadLength));
    assert_eq!(refused(&|b| b[23] = 26), PopError::Parse(Truncated));
    assert_eq!(refused(&|b| b[1] = 3), PopError::Ecn(DropEct));
}

#[test]
fn rfc6040_4_2_congestion_on_the_way_reaches_the_inner_packet() {
    for inner in [inner4(0xb8 | 2, true, b"hello"), inner6(0xb8 | 2, b"hello")] {
        let mut bytes = pushed(&inner, 0);
        bytes[1] |= 3;
        let popped = pop(&mut bytes).unwrap();
        let packet = &bytes[popped.offset..][..popped.len];
        match popped.inner {
            Inner::Ipv4 => {
                let ip = Ipv4::new_checked(packet).unwrap();
                assert_eq!((ip.ecn(), ip.dscp()), (Ecn::Ce, 46));
                assert!(ip.verify_checksum());
            }
            Inner::Ipv6 => {
                let ip = Ipv6::new_checked(packet).unwrap();
                assert_eq!((ip.ecn(), ip.dscp(), ip.flow_label()), (Ecn::Ce, 46, 0x12345));
            }
        }
    }
}

#[test]
fn the_head_of_a_chain_is_popped_by_the_length_of_the_whole() {
    for inner in [inner4(2, true, &[0x55; 3000]), inner6(2, &[0x55; 3000])] {
        let mut whole = pushed(&inner, 0);
        whole[1] |= 3;
        let (mut head, mut short) = (whole[..100].to_vec(), whole[..38].to_vec());
        assert_eq!(pop(&mut head), Err(PopError::Parse(ParseError::Truncated)));
        assert_eq!(pop_head(&mut head, whole.len() - 1), Err(PopError::Parse(ParseError::Truncated)));
        assert_eq!(pop_head(&mut short, whole.len()), Err(PopError::Parse(ParseError::Truncated)));
        let popped = pop_head(&mut head, whole.len()).unwrap();
        assert_eq!((popped.offset, popped.len), (OVERHEAD, inner.len()));
        assert_eq!(pop(&mut whole), Ok(popped));
        assert_eq!(head, whole[..100]);
    }
}

#[test]
fn outer_options_are_stripped_with_the_header() {
    let inner = inner4(0, false, b"hello");
    let mut bytes = pushed(&inner, 0);
    bytes.splice(20..20, [1, 1, 1, 0]);
    bytes[0] = 0x46;
    bytes[3] += 4;
    assert_eq!(pop(&mut bytes), Ok(Popped { inner: Inner::Ipv4, offset: 24, len: inner.len() }));
}

proptest! {
    #[test]
    fn pop_undoes_push(
        tos: u8, df: bool, six: bool, id: u16, src: [u8; 4], dst: [u8; 4], ttl: u8,
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        padding in 0usize..30,
    ) {
        let inner = if six { inner6(tos, &payload) } else { inner4(tos, df, &payload) };
        let mut bytes = vec![0xaa; OVERHEAD];
        let outer = OuterIpv4::with_ttl(src.into(), dst.into(), ttl);
        outer.push(&mut bytes, &inner, inner.len() as u16, id).unwrap();
        bytes.extend(&inner);
        bytes.resize(bytes.len() + padding, 0);
        prop_assert!(Ipv4::new_checked(&bytes).unwrap().verify_checksum());
        let popped = pop(&mut bytes).unwrap();
        prop_assert_eq!(popped.offset, OVERHEAD);
        prop_assert_eq!(&bytes[popped.offset..][..popped.len], &inner[..]);
    }

    #[test]
    fn pop_takes_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), shape: bool) {
        if shape && bytes.len() >= 20 {
            (bytes[0], bytes[2], bytes[3], bytes[9]) = (0x45, 0, bytes.len() as u8, 4);
        }
        let before = bytes.clone();
        if pop(&mut bytes).is_err() {
            prop_assert_eq!(bytes, before);
        }
    }
}
