//! Unit tests of the IPv4 view and value.

use super::*;

const SRC: Ipv4Addr = Ipv4Addr::new(10, 100, 36, 103);
const DST: Ipv4Addr = Ipv4Addr::new(10, 100, 169, 176);

fn repr() -> Ipv4Repr {
    Ipv4Repr {
        tos: 0xb9,
        id: 0x1234,
        dont_fragment: true,
        ttl: 64,
        protocol: protocol::UDP,
        src: SRC,
        dst: DST,
        payload_len: 4,
    }
}

fn packet() -> Vec<u8> {
    let mut bytes = vec![0; 24];
    repr().emit(&mut bytes).unwrap();
    bytes
}

#[test]
fn fields_read_back() {
    let bytes = packet();
    let view = Ipv4::new_checked(&bytes).unwrap();
    assert_eq!((view.version(), view.header_len(), view.total_len()), (4, 20, 24));
    assert_eq!((view.tos(), view.dscp(), view.ecn()), (0xb9, 46, Ecn::Ect1));
    assert_eq!((view.id(), view.ttl(), view.protocol()), (0x1234, 64, protocol::UDP));
    assert!(view.dont_fragment() && !view.more_fragments() && !view.is_fragment());
    assert_eq!((view.src(), view.dst()), (SRC, DST));
    assert_eq!((view.options().len(), view.payload().len()), (0, 4));
    assert!(view.verify_checksum());
    assert_eq!(Ipv4Repr::parse(&view), Ok(repr()));
}

#[test]
fn options_end_where_the_header_does() {
    let mut bytes = packet();
    bytes[0] = 0x46;
    let view = Ipv4::new_checked(&bytes).unwrap();
    assert_eq!((view.header_len(), view.options().len(), view.payload().len()), (24, 4, 0));
}

#[test]
fn every_length_and_version_fault_has_its_own_reason() {
    let bad = |at: usize, value: u8| {
        let mut bytes = packet();
        bytes[at] = value;
        Ipv4::new_checked(bytes).unwrap_err()
    };
    assert_eq!(bad(0, 0x65), ParseError::BadVersion);
    assert_eq!(bad(0, 0x44), ParseError::BadLength);
    assert_eq!(bad(0, 0x4f), ParseError::Truncated);
    assert_eq!(bad(3, 19), ParseError::BadLength);
    assert_eq!(bad(3, 25), ParseError::Truncated);
    assert_eq!(Ipv4::new_checked(&packet()[..19]).unwrap_err(), ParseError::Truncated);
    assert_eq!(Ipv4::new_checked([0u8; 0]).unwrap_err(), ParseError::Truncated);
}

#[test]
fn a_quoted_packet_may_end_early() {
    let bytes = packet();
    assert!(Ipv4::new_checked(&bytes[..21]).is_err());
    let view = Ipv4::new_quoted(&bytes[..21]).unwrap();
    assert_eq!((view.total_len(), view.payload().len()), (24, 1));
}

#[test]
fn a_head_is_measured_by_the_chain_it_starts() {
    let bytes = packet();
    let view = Ipv4::new_head(&bytes[..20], 24).unwrap();
    assert_eq!((view.payload_len(), view.payload().len()), (4, 0));
    assert_eq!(view.pseudo_sum(), Ipv4::new_checked(&bytes).unwrap().pseudo_sum());
    assert_eq!(Ipv4::new_head(&bytes[..20], 23).unwrap_err(), ParseError::Truncated);
}

#[test]
fn link_padding_is_no_payload() {
    let mut bytes = packet();
    bytes.resize(46, 0xff);
    assert_eq!(Ipv4::new_checked(&bytes).unwrap().payload().len(), 4);
}

#[test]
fn ttl_and_checksum_move_together_for_every_ttl() {
    for ttl in 0..=255u8 {
        let mut bytes = vec![0; 24];
        Ipv4Repr { ttl, ..repr() }.emit(&mut bytes).unwrap();
        let before = bytes.clone();
        let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
        if ttl <= 1 {
            assert!(!view.decrement_ttl());
            assert_eq!(bytes, before);
        } else {
            assert!(view.decrement_ttl());
            assert_eq!(view.ttl(), ttl - 1);
            let kept = view.checksum();
            view.fill_checksum();
            assert_eq!(view.checksum(), kept);
        }
    }
}

#[test]
fn a_wrong_checksum_is_not_repaired_by_the_hop() {
    let mut bytes = packet();
    bytes[11] ^= 1;
    let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
    assert!(!view.verify_checksum());
    view.decrement_ttl();
    view.mark_ecn(Ecn::Ce);
    assert!(!view.verify_checksum());
}

#[test]
fn marking_ecn_keeps_dscp_and_checksum() {
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
        let mut bytes = packet();
        let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
        view.mark_ecn(ecn);
        assert_eq!((view.ecn(), view.dscp()), (ecn, 46));
        assert!(view.verify_checksum());
    }
}

#[test]
fn fragment_fields_share_a_word() {
    let mut bytes = packet();
    let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
    view.set_fragment(1480, true, false);
    assert_eq!((view.fragment_offset(), view.more_fragments()), (1480, true));
    assert!(view.is_fragment() && !view.dont_fragment());
    assert_eq!(Ipv4Repr::parse(&view), Err(ParseError::Malformed));
    view.set_fragment(65528, false, true);
    assert_eq!(view.fragment_offset(), 65528);
    assert!(view.is_fragment() && !view.more_fragments() && view.dont_fragment());
    // The reserved bit makes no fragment (RFC 791 §3.1 says it is zero; a receiver ignores it).
    put16(view.buffer, 6, 0x8000);
    assert!(!view.is_fragment());
}

#[test]
fn growing_the_total_length_beyond_the_buffer_cuts_the_payload() {
    let mut bytes = packet();
    let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
    view.set_total_len(65535);
    assert_eq!(view.payload().len(), 4);
    assert_eq!(view.payload_mut().len(), 4);
    view.set_total_len(0);
    assert_eq!(view.payload().len(), 0);
    assert_eq!(view.payload_mut().len(), 0);
}

#[test]
fn emit_refuses_what_it_cannot_write() {
    assert_eq!(repr().emit(&mut [0; 19]), Err(ParseError::Truncated));
    let long = Ipv4Repr { payload_len: 65516, ..repr() };
    assert_eq!(long.emit(&mut [0; 20]), Err(ParseError::BadLength));
}

#[test]
fn setters_write_what_readers_read() {
    let mut bytes = packet();
    let mut view = Ipv4::new_checked(&mut bytes[..]).unwrap();
    view.set_src(DST);
    view.set_dst(SRC);
    view.set_ttl(7);
    view.set_protocol(protocol::TCP);
    view.set_id(9);
    view.fill_checksum();
    assert_eq!((view.src(), view.dst()), (DST, SRC));
    assert_eq!((view.ttl(), view.protocol(), view.id()), (7, protocol::TCP, 9));
    assert!(view.verify_checksum());
    view.payload_mut().fill(0xab);
    assert_eq!(view.payload(), [0xab; 4]);
}

#[test]
fn one_host_excludes_groups_loopback_and_nobody() {
    for one in ["10.0.0.1", "1.0.0.0", "223.255.255.255", "169.254.1.1"] {
        assert!(is_one_host(one.parse().unwrap()), "{one}");
    }
    for other in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert!(!is_one_host(other.parse().unwrap()), "{other}");
    }
}
