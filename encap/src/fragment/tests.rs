//! Unit tests of IPv4 fragmentation; a plain reassembler is the judge.

use core::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::wire::Ipv4Repr;

fn packet(options: &[u8], payload_len: usize) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let mut bytes = vec![0; 20];
    Ipv4Repr {
        tos: 0x10,
        id: 0x7777,
        dont_fragment: false,
        ttl: 9,
        protocol: 17,
        src: Ipv4Addr::new(10, 0, 0, 1),
        dst: Ipv4Addr::new(10, 0, 0, 2),
        payload_len: (payload_len + options.len()) as u16,
    }
    .emit(&mut bytes)
    .unwrap();
    bytes[0] += (options.len() / 4) as u8;
    bytes.extend(options);
    bytes.extend((0..payload_len).map(|i| (i * 7 + i / 256) as u8));
    Ipv4::new_checked(&mut bytes[..]).unwrap().fill_checksum();
    bytes
}

fn split(packet: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, FragmentError> {
    let plan = Fragmenter::new(packet, mtu)?;
    Ok(plan
        .map(|fragment| {
            let mut bytes = vec![0xaa; fragment.header_len];
            assert_eq!(plan.emit_header(&fragment, &mut bytes), Ok(fragment.header_len));
            bytes.extend(plan.data(&fragment));
            bytes
        })
        .collect())
}

/// Joins pieces that arrive in order; panics on a gap.
fn reassemble(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (i, bytes) in pieces.iter().enumerate() {
        let piece = Ipv4::new_checked(bytes).unwrap();
        assert!(piece.verify_checksum());
        assert_eq!(usize::from(piece.fragment_offset()), payload.len());
        assert_eq!(piece.more_fragments(), i + 1 < pieces.len());
        assert_eq!((piece.id(), piece.ttl(), piece.protocol(), piece.tos()), (0x7777, 9, 17, 0x10));
        payload.extend(piece.payload());
    }
    payload
}

#[test]
fn a_packet_that_fits_is_one_piece_itself() {
    let bytes = packet(&[], 1480);
    assert_eq!(split(&bytes, 1500), Ok(vec![bytes.clone()]));
    let mut df = bytes;
    let mut view = Ipv4::new_checked(&mut df[..]).unwrap();
    view.set_fragment(0, false, true);
    view.fill_checksum();
    assert_eq!(split(&df, 1500), Ok(vec![df.clone()]));
    assert_eq!(split(&df, 1499), Err(FragmentError::DontFragment));
}

#[test]
fn rfc791_3_2_pieces_are_in_units_of_8_and_within_the_mtu() {
    let bytes = packet(&[], 1481);
    let pieces = split(&bytes, 1500).unwrap();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1500, 21]);
    let pieces = split(&bytes, 1499).unwrap();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [1492, 29]);
    assert_eq!(reassemble(&pieces), bytes[20..]);
}

#[test]
fn rfc791_3_1_only_options_with_the_copied_flag_are_in_later_pieces() {
    // No-operation, record route (7, not copied), no-operation, loose source route (131, copied), end.
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 1, 131, 7, 4, 9, 9, 9, 9];
    let bytes = packet(&options, 3000);
    let pieces = split(&bytes, 1000).unwrap();
    assert_eq!(Ipv4::new_checked(&pieces[0]).unwrap().options(), options);
    for piece in &pieces[1..] {
        assert_eq!(Ipv4::new_checked(piece).unwrap().options(), [131, 7, 4, 9, 9, 9, 9, 0]);
    }
    assert_eq!(reassemble(&pieces), bytes[36..]);
}

#[test]
fn broken_options_end_the_copying() {
    for options in [[131, 0, 4, 9], [131, 5, 4, 9], [131, 1, 4, 9], [0, 131, 2, 0], [1, 1, 1, 131]] {
        let pieces = split(&packet(&options, 2000), 1500).unwrap();
        assert_eq!(Ipv4::new_checked(&pieces[1]).unwrap().options().len(), 0, "{options:?}");
    }
}

#[test]
fn a_fragment_is_split_again_with_its_place_kept() {
    let whole = packet(&[], 4000);
    let pieces = split(&whole, 1500).unwrap();
    let smaller: Vec<Vec<u8>> = pieces.iter().flat_map(|piece| split(piece, 576).unwrap()).collect();
    assert!(smaller.len() > pieces.len() && smaller.iter().all(|piece| piece.len() <= 576));
    assert_eq!(reassemble(&smaller), whole[20..]);
}

#[test]
fn impossible_packets_are_refused() {
    assert_eq!(split(&packet(&[], 100), 67), Err(FragmentError::MtuTooSmall));
    assert_eq!(split(&[0; 10], 1500), Err(FragmentError::Parse(ParseError::Truncated)));
    let mut beyond = packet(&[], 100);
    Ipv4::new_checked(&mut beyond[..]).unwrap().set_fragment(65528, false, false);
    assert_eq!(split(&beyond, 1500), Err(FragmentError::Parse(ParseError::BadLength)));
    let mut ragged = packet(&[], 101);
    Ipv4::new_checked(&mut ragged[..]).unwrap().set_fragment(0, true, false);
    assert_eq!(split(&ragged, 68), Err(FragmentError::Parse(ParseError::BadLength)));
}

#[test]
fn a_header_is_written_only_for_this_plan_and_with_room() {
    let bytes = packet(&[], 3000);
    let plan = Fragmenter::new(&bytes, 1500).unwrap();
    let first = plan.clone().next().unwrap();
    assert_eq!(plan.emit_header(&first, &mut [0; 19]), Err(ParseError::Truncated));
    for foreign in [Fragment { header_len: 24, ..first }, Fragment { offset: 2000, ..first }] {
        assert_eq!(plan.emit_header(&foreign, &mut [0; 60]), Err(ParseError::BadLength));
    }
    assert_eq!(plan.data(&Fragment { offset: usize::MAX, ..first }), []);
}

proptest! {
    #[test]
    fn reassembly_undoes_fragmentation(
        options in proptest::collection::vec(any::<[u8; 4]>(), 0..=10),
        payload_len in 0usize..6000,
        mtu in 68u16..2000,
    ) {
        let options = options.concat();
        let bytes = packet(&options, payload_len);
        let pieces = split(&bytes, mtu).unwrap();
        prop_assert!(pieces.iter().all(|piece| piece.len() <= usize::from(mtu)));
        prop_assert_eq!(reassemble(&pieces), &bytes[20 + options.len()..]);
    }

    #[test]
    fn any_bytes_can_be_planned(bytes in proptest::collection::vec(any::<u8>(), 0..200), mtu: u16, shape: bool) {
        let mut bytes = bytes;
        if shape && bytes.len() >= 20 {
            (bytes[0], bytes[2], bytes[3]) = (0x40 | bytes[0] & 0xf, 0, bytes.len() as u8);
        }
        if let Ok(pieces) = split(&bytes, mtu) {
            prop_assert!(!pieces.is_empty());
        }
    }
}
