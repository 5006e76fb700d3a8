//! Whatever the headers say, every lane ends in exactly one mask, and nothing panics.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod conntrack;

use acl::conntrack::{LANES, PolicyGenerations, Tick};
use conntrack::{Worker, allowed, table};
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Any {
    mask: u64,
    v6: u64,
    quoted: u64,
    now: u64,
    lanes: Vec<[u32; 6]>,
}

fn any_burst() -> impl Strategy<Value = Any> {
    let number = prop_oneof![3 => 0_u32..4, 1 => any::<u32>()];
    let lane = prop::array::uniform6(number);
    (any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>(), prop::collection::vec(lane, LANES)).prop_map(
        |(mask, v6, quoted, now, lanes)| Any {
            mask,
            v6,
            quoted: quoted & quoted.rotate_left(9),
            now: now.into(),
            lanes,
        },
    )
}

const PROTOCOLS: [u8; 8] = [6, 6, 17, 1, 58, 132, 47, 0];
const KINDS: [u8; 16] = [0x02, 0x12, 0x10, 0x11, 0x04, 0x14, 0, 8, 1, 2, 128, 129, 10, 11, 6, 0xff];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_lane_ends_in_one_mask(bursts in prop::collection::vec(any_burst(), 1..12)) {
        let table = table(40);
        let mut worker = Worker::new(&table);
        for burst in bursts {
            let headers = &mut worker.headers;
            (headers.v6, headers.quoted) = (burst.v6, burst.quoted);
            for (lane, [a, b, c, d, e, f]) in burst.lanes.into_iter().enumerate() {
                (headers.src4[lane], headers.dst4[lane]) = (a, b);
                (headers.src6[lane], headers.dst6[lane]) = (a.into(), b.into());
                (headers.src_port[lane], headers.dst_port[lane]) = (c as u16 & 3, d as u16 & 3);
                headers.zone[lane] = e as u16 & 1;
                headers.protocol[lane] = PROTOCOLS[e as usize >> 2 & 7];
                headers.kind[lane] = KINDS[f as usize & 15];
                (headers.seq[lane], headers.ack[lane]) = (f, e);
                headers.window[lane] = f as u16;
                headers.payload[lane] = e;
                headers.tcp_scale[lane] = a as u8;
                headers.len[lane] = f;
            }
            let now = Tick::from_millis(burst.now * 100);
            table.lookup(headers, burst.mask, &worker.generations, now, &mut worker.found);
            table.track(headers, burst.mask, now, &mut worker.found);
            let found = &worker.found;
            let masks = [found.hit, found.first, found.invalid, found.unrelated];
            prop_assert_eq!(masks.iter().fold(0, |all, mask| all | mask), burst.mask);
            prop_assert_eq!(masks.iter().map(|mask| mask.count_ones()).sum::<u32>(), burst.mask.count_ones());
            prop_assert_eq!(found.related & !(found.hit & burst.quoted), 0);
            for lane in (0..LANES).filter(|lane| burst.mask >> lane & 1 != 0) {
                prop_assert_eq!(found.reason(lane).is_some() && found.invalid >> lane & 1 != 0, found.invalid >> lane & 1 != 0);
                if found.first >> lane & 1 != 0 {
                    let side = allowed((lane % 64) as u16);
                    let _ = table.insert(headers, lane, side, side, now, found);
                }
            }
            table.expire(now, 7, &[PolicyGenerations { egress: 3, ingress: 40_000 }]);
            prop_assert!(table.len() <= 40);
        }
    }
}
