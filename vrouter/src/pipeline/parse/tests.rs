//! The short way through parse against the long one.

use proptest::prelude::*;

use super::*;
use crate::frame::{FramePool, FrameStore, HEADROOM};
use crate::ids::PortId;

const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn port(role: Role) -> Port {
    Port {
        name: "p".into(),
        role,
        mac: encap::MacAddr(OURS),
        peer_mac: encap::MacAddr(THEIRS),
        mtu: 1500,
        up: true,
        vrf: crate::ids::VrfId::DEFAULT,
        addresses4: Box::new([]),
        addresses6: Box::new([]),
        policy: None,
        host_policy: None,
    }
}

/// Frames that are nearly right: each field is right or anything.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let mac = |right: [u8; 6]| prop_oneof![8 => Just(right), 1 => any::<[u8; 6]>()];
    let octet = |right: u8| prop_oneof![6 => Just(right), 1 => any::<u8>()];
    let address = prop_oneof![
        Just([10, 1, 2, 3]),
        Just([127, 0, 0, 1]),
        Just([169, 254, 1, 1]),
        Just([224, 0, 0, 5]),
        Just([255; 4]),
        any::<[u8; 4]>()
    ];
    let address6 = prop_oneof![
        Just(0xfd00_0000_0000_0000_0000_0000_0000_0001_u128),
        Just(0x2001_0db8_0000_0000_0000_0000_0000_0001),
        Just(0xfe80_0000_0000_0000_ecee_eeff_feee_eeee),
        Just(1),
        any::<u128>()
    ];
    let macs = (mac(OURS), mac(THEIRS));
    let v4 = (octet(0x45), octet(0), octet(17), octet(64), address.clone(), address, any::<bool>());
    let v6 = (octet(0x60), prop_oneof![Just(6), Just(17), Just(58), any::<u8>()], address6.clone(), address6);
    (macs, any::<bool>(), v4, v6, 0..80_usize, -3..3_i32).prop_map(|(macs, is_v4, v4, v6, payload, lie)| {
        let mut out = [macs.0, macs.1].concat();
        if is_v4 {
            out.extend([8, 0]);
            let total = (20 + payload as i32 + lie).max(0) as u16;
            let [high, low] = total.to_be_bytes();
            let mut header = vec![v4.0, 0, high, low, 0, 7, v4.1, 0, v4.3, v4.2, 0, 0];
            header.extend(v4.4);
            header.extend(v4.5);
            if v4.6 {
                let sum = checksum::checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            out.extend(header);
        } else {
            out.extend([0x86, 0xdd, v6.0, 0, 0, 0]);
            out.extend(((payload as i32 + lie).max(0) as u16).to_be_bytes());
            out.extend([v6.1, 64]);
            out.extend(v6.2.to_be_bytes());
            out.extend(v6.3.to_be_bytes());
        }
        out.extend(std::iter::repeat_n(0x3a, payload));
        out
    })
}

/// The kind of the only packet that passed.
fn kind_of(passed: plain::Ordinary) -> Kind {
    if passed.v4 != 0 { Kind::V4 } else { Kind::V6 }
}

/// All facts of lane 0.
fn facts(burst: &Burst) -> impl PartialEq + core::fmt::Debug {
    let meta = &burst.meta;
    let v4 = (meta.src4[0], meta.dst4[0]);
    let sizes = (meta.offset[0], meta.len[0], meta.l3[0], meta.l4[0], meta.ip_len[0]);
    (burst.fragments, sizes, meta.protocol[0], v4, meta.dst6[0])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn what_passes_the_short_way_passes_the_long_one_alike(bytes in frame(), role in 0..3) {
        let role = [Role::Pod, Role::Host, Role::Uplink { exclusive: true }][role as usize];
        let port = port(role);
        let gate = Gate::of(&port);
        let routes = fib::FibWriter::new().reader();
        let mut pool = FramePool::new(FrameStore::new(FrameArea::new(3, 2048).unwrap()));
        let mut bursts = [Burst::default(), Burst::default(), Burst::default()];
        for burst in &mut bursts {
            let mut frame = pool.alloc().unwrap();
            pool.area().chunk_mut(&mut frame)[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
            burst.push(frame, HEADROOM as u16, bytes.len() as u16, PortId(0)).unwrap();
        }
        let [short, alone, long] = &mut bursts;
        let passed = plain::packets(short, short.alive, &gate, &routes, pool.area(), &mut Default::default());
        let passed_alone = plain::few(alone, alone.alive, &gate, pool.area());
        prop_assert_eq!(passed, passed_alone);
        let kind = packet(long, 0, &port, pool.area());
        if passed.v4 | passed.v6 != 0 {
            prop_assert_eq!(Ok(kind_of(passed)), kind, "{:02x?}", bytes);
            prop_assert_eq!(facts(short), facts(long));
            prop_assert_eq!(facts(alone), facts(long));
        }
        for burst in &mut bursts {
            let frame = burst.take(0);
            pool.free(frame);
        }
    }
}

/// The short way is the way of ordinary packets, not only a way that never lies.
#[test]
fn ordinary_packets_take_the_short_way() {
    let port = port(Role::Pod);
    let routes = fib::FibWriter::new().reader();
    let mut pool = FramePool::new(FrameStore::new(FrameArea::new(2, 2048).unwrap()));
    let mut header = vec![0x45, 0, 0, 28, 0, 7, 0x40, 0, 64, 17, 0, 0, 10, 1, 2, 3, 192, 168, 7, 9];
    let sum = checksum::checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let v4 = [&[8, 0][..], &header, &[0; 8]].concat();
    let mut v6 = vec![0x86, 0xdd, 0x6f, 0xff, 0xff, 0xff, 0, 8, 17, 64];
    v6.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
    v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    v6.extend([0; 8]);
    for (bytes, is_v4) in [(v4, true), (v6, false)] {
        let bytes = [&OURS[..], &THEIRS, &bytes].concat();
        let mut burst = Burst::default();
        let mut frame = pool.alloc().unwrap();
        pool.area().chunk_mut(&mut frame)[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(&bytes);
        burst.push(frame, HEADROOM as u16, bytes.len() as u16, PortId(0)).unwrap();
        let kind = if is_v4 { Kind::V4 } else { Kind::V6 };
        let passed =
            plain::packets(&mut burst, 1, &Gate::of(&port), &routes, pool.area(), &mut Default::default());
        assert_eq!((passed.v4 | passed.v6, kind_of(passed)), (1, kind));
        let frame = burst.take(0);
        pool.free(frame);
    }
}
