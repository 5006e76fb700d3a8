//! The vector kernels of lookup and tracking and their scalar twins: they must say the same about every burst, and leave
//! the same table.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(not(feature = "loom"))]

mod conntrack;

use acl::conntrack::{Conntrack, Found, Headers, LANES, PolicyGenerations, SideVerdict, TcpSegment, Tuple};
use acl::{Action, RuleId, Verdict};
use conntrack::{ACK, FIN, ICMP, RST, SYN, TCP, UDP, Worker, segment, table, tick, v4, v6};
use proptest::prelude::*;

/// Few enough tuples that most are met, of all kinds.
fn tuple() -> impl Strategy<Value = Tuple> {
    (
        0..6_u32,
        0..6_u32,
        0..4_u16,
        0..4_u16,
        prop::sample::select(vec![6, UDP, ICMP, 47]),
        any::<(bool, bool)>(),
    )
        .prop_map(|(src, dst, sport, dport, protocol, (is_v6, answers))| {
            let icmp_type = match (protocol, answers) {
                (ICMP, true) => 0,
                (ICMP, false) => 8,
                _ => 0,
            };
            let tuple = if is_v6 && protocol != ICMP {
                v6(src.into(), dst.into(), sport, dport, protocol)
            } else {
                v4(src, dst, sport, dport, protocol)
            };
            Tuple { icmp_type, zone: dport & 1, ..tuple }
        })
}

fn all(found: &Found, mask: u64) -> Vec<u64> {
    let flows =
        (0..LANES).filter(|lane| found.hit >> lane & 1 == 1).map(|lane| u64::from(found.flow[lane].entry()));
    let masks = [
        found.hit,
        found.reply,
        found.related,
        found.stale_egress,
        found.stale_ingress,
        found.denied,
        found.first,
        found.reopens,
        found.invalid,
        found.unrelated,
    ];
    let sorted = found.hit | found.first | found.invalid | found.unrelated;
    assert_eq!(sorted, mask, "every lane is in one mask");
    masks.into_iter().chain(flows).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn vectors_say_what_scalars_say(
        // Small tables are crowded: keys in further buckets, entries that are used again.
        flows in prop::sample::select(vec![1_u32, 60, 90, 400]),
        bursts in prop::collection::vec(
            (prop::collection::vec(tuple(), LANES), any::<u64>(), 0..700_u64, any::<u64>()),
            1..12,
        ),
        changes in prop::collection::vec((0..8_usize, any::<bool>()), 0..6),
    ) {
        let table = table(flows);
        let mut worker = Worker::new(&table);
        worker.generations = vec![PolicyGenerations::default(); 6];
        let mut twin = Box::<Found>::default();
        let mut now = 0;
        let mut changes = changes.into_iter();
        for (tuples, mask, pause, verdicts) in bursts {
            now += pause / 10;
            if let Some((endpoint, ingress)) = changes.next()
                && let Some(generations) = worker.generations.get_mut(endpoint)
            {
                if ingress { generations.ingress += 1 } else { generations.egress += 1 }
            }
            for (lane, tuple) in tuples.iter().enumerate() {
                worker.headers.set(lane, tuple);
                if tuple.protocol == 6 {
                    worker.headers.set_tcp(lane, &segment(0x02, 10, 0));
                }
            }
            let Worker { headers, found, generations, .. } = &mut worker;
            table.lookup(headers, mask, generations, tick(now), found);
            table.lookup_scalar(headers, mask, generations, tick(now), &mut twin);
            prop_assert_eq!(all(found, mask), all(&twin, mask));
            for lane in (0..LANES).filter(|lane| found.first >> lane & 1 == 1) {
                let side = |at: u64, endpoint: u16| SideVerdict {
                    endpoint: if at & 1 == 0 { SideVerdict::NO_ENDPOINT } else { endpoint },
                    verdict: Verdict {
                        action: if at & 6 == 0 { Action::Deny } else { Action::Allow },
                        rule: RuleId(3),
                    },
                    generation: 0,
                };
                let bits = verdicts.rotate_right(lane as u32);
                // Some groups of lanes are of one endpoint, some are not. Endpoint 7 has no policy any more.
                let egress = if bits & 0xf00 == 0 { 1 } else { 3 };
                let ingress = if bits & 0xf000 == 0 { 2 } else { 7 };
                let sides = (side(bits, egress), side(bits >> 3, ingress));
                let _ = table.insert(headers, lane, sides.0, sides.1, tick(now), found);
            }
        }
    }
}

/// The flows that both tables have: connections but for every fifth, of both families.
fn flow(n: u32) -> Tuple {
    let protocol = if n % 5 == 4 { UDP } else { TCP };
    if n.is_multiple_of(3) { v6(n.into(), 99, 1, 2, protocol) } else { v4(n, 99, 1, 2, protocol) }
}

/// A packet: of which flow, by whom, and what of it is out of the ordinary.
#[derive(Clone, Debug)]
struct Packet {
    flow: u32,
    reply: bool,
    flags: u8,
    payload: u32,
    window: u16,
    seq_off: i32,
    ack_off: i32,
    len: u32,
}

fn packet(flows: u32) -> impl Strategy<Value = Packet> {
    let flags = prop_oneof![
        60 => Just(ACK),
        6 => Just(ACK | 0x08),
        2 => Just(ACK | 0x20),
        1 => Just(ACK | FIN),
        1 => prop::sample::select(vec![SYN, RST, RST | ACK, SYN | ACK, 0, FIN]),
    ];
    let off =
        || prop_oneof![40 => Just(0), 2 => -3000..3000_i32, 1 => -200_000..200_000_i32, 1 => any::<i32>()];
    let payload = prop_oneof![3 => Just(0_u32), 3 => 1..400_u32, 1 => any::<u32>()];
    let window = prop_oneof![4 => Just(1000_u16), 1 => any::<u16>()];
    let len = prop_oneof![4 => 40..1500_u32, 1 => Just(u32::MAX)];
    (0..flows, any::<bool>(), flags, payload, window, (off(), off()), len).prop_map(
        |(flow, reply, flags, payload, window, (seq_off, ack_off), len)| Packet {
            flow,
            reply,
            flags,
            payload,
            window,
            seq_off,
            ack_off,
            len,
        },
    )
}

/// Opens the flows, and says what each side of them sends next: most connections by handshakes with window scaling, some seen in the middle.
fn open(table: &Conntrack, flows: u32) -> Vec<[u32; 2]> {
    let mut worker = Worker::new(table);
    for n in 0..flows {
        let tuple = flow(n);
        let endpoint = (n % 60) as u16;
        if tuple.protocol == UDP || n % 7 == 6 {
            worker.send(&tuple, Some(&segment(ACK, 10, 20)), endpoint, tick(0)).unwrap();
            worker.packet(&tuple.reversed(), Some(&segment(ACK, 20, 10)), tick(0));
            continue;
        }
        let scale = (n % 2 == 0).then_some((n % 9) as u8);
        let syn = |flags, seq, ack| TcpSegment { scale, ..segment(flags, seq, ack) };
        worker.send(&tuple, Some(&syn(SYN, 9, 0)), endpoint, tick(0)).unwrap();
        worker.packet(&tuple.reversed(), Some(&syn(SYN | ACK, 19, 10)), tick(0));
        worker.packet(&tuple, Some(&segment(ACK, 10, 20)), tick(0));
    }
    vec![[10, 20]; flows as usize]
}

fn fill(headers: &mut Headers, lane: usize, packet: &Packet, ends: &mut [[u32; 2]]) {
    let tuple = flow(packet.flow);
    headers.set(lane, &if packet.reply { tuple.reversed() } else { tuple });
    headers.len[lane] = packet.len;
    if tuple.protocol != TCP {
        return;
    }
    let next = &mut ends[packet.flow as usize];
    let (from, to) = (usize::from(packet.reply), usize::from(!packet.reply));
    let seq = next[from].wrapping_add_signed(packet.seq_off);
    let ack = next[to].wrapping_add_signed(packet.ack_off);
    if packet.seq_off == 0 && packet.payload < 400 {
        next[from] = seq.wrapping_add(packet.payload);
    }
    let Packet { flags, window, payload, .. } = *packet;
    headers.set_tcp(lane, &TcpSegment { flags, seq, ack, window, payload, scale: None });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn vectors_track_as_scalars_do(
        (flows, bursts) in prop::sample::select(vec![1_u32, 3, 9, 20, 70, 200]).prop_flat_map(|flows| {
            let burst = (
                prop::collection::vec(packet(flows), LANES),
                prop_oneof![3 => Just(u64::MAX), 1 => any::<u64>(), 1 => (0..64_u32).prop_map(|n| u64::MAX >> n)],
                prop_oneof![4 => Just(0_u64), 1 => 1..30_u64],
                // Most bursts have their flows in a row, as they would come from many senders.
                prop::bool::weighted(0.7),
            );
            (Just(flows), prop::collection::vec(burst, 1..20))
        }),
        quoted in any::<u64>(),
    ) {
        let (vectors, scalars) = (table(300), table(300));
        let mut ends = open(&vectors, flows);
        open(&scalars, flows);
        let (mut worker, mut twin) = (Worker::new(&vectors), Worker::new(&scalars));
        let mut now = 0;
        for (number, (packets, mask, pause, in_a_row)) in bursts.into_iter().enumerate() {
            now += pause;
            for (lane, packet) in packets.iter().enumerate() {
                let flow = if in_a_row { (lane + 7 * number) as u32 % flows } else { packet.flow };
                fill(&mut worker.headers, lane, &Packet { flow, ..packet.clone() }, &mut ends);
            }
            // Errors about one or two of them.
            worker.headers.quoted = quoted & quoted.rotate_left(number as u32) & quoted.rotate_left(17) & 0x1111;
            vectors.lookup(&worker.headers, mask, &worker.generations, tick(now), &mut worker.found);
            scalars.lookup_scalar(&worker.headers, mask, &worker.generations, tick(now), &mut twin.found);
            vectors.track(&worker.headers, mask, tick(now), &mut worker.found);
            scalars.track_scalar(&worker.headers, mask, tick(now), &mut twin.found);
            let (found, other) = (&worker.found, &twin.found);
            prop_assert_eq!(all(found, mask), all(other, mask));
            for lane in (0..LANES).filter(|lane| mask >> lane & 1 == 1) {
                if found.invalid >> lane & 1 == 1 {
                    prop_assert_eq!(found.reason(lane), other.reason(lane));
                }
                if (found.hit & !found.related) >> lane & 1 == 1 {
                    prop_assert_eq!(found.packed_verdicts()[lane], other.packed_verdicts()[lane]);
                }
            }
            for (one, other) in vectors.memory().iter().zip(scalars.memory()) {
                prop_assert!(one.words().eq(other.words()));
            }
        }
        prop_assert_eq!((vectors.contention(), scalars.contention()), (0, 0));
    }
}

/// Numbers of entries that the table does not have, as damaged memory may lead to, and flows that are gone: nothing is
/// written anywhere.
#[test]
fn flows_that_are_not_there_are_not_tracked() {
    let (large, small) = (table(300), table(64));
    open(&large, 300);
    open(&small, 64);
    let mut worker = Worker::new(&large);
    let mut ends = vec![[10, 20]; 300];
    let ordinary = |flow| Packet {
        flow,
        reply: false,
        flags: ACK,
        payload: 0,
        window: 1000,
        seq_off: 0,
        ack_off: 0,
        len: 60,
    };
    let before =
        |table: &Conntrack| -> Vec<u64> { table.memory().iter().flat_map(|line| line.words()).collect() };
    for lane in 0..LANES {
        fill(&mut worker.headers, lane, &ordinary(150 + lane as u32), &mut ends);
    }
    large.lookup(&worker.headers, u64::MAX, &worker.generations, tick(0), &mut worker.found);
    assert_eq!(worker.found.hit, u64::MAX);
    let kept = before(&small);
    small.track(&worker.headers, u64::MAX, tick(0), &mut worker.found);
    assert_eq!(before(&small), kept);
    // Those that are gone.
    large.lookup(&worker.headers, u64::MAX, &worker.generations, tick(0), &mut worker.found);
    for lane in 0..LANES {
        assert!(large.remove(worker.found.flow[lane]));
    }
    let kept = before(&large);
    large.track(&worker.headers, u64::MAX, tick(0), &mut worker.found);
    assert_eq!((before(&large), worker.found.hit), (kept, 0));
}
