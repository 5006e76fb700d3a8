//! Flows from their first packet to their end, in the table: timers, reuse of tuples, zones, refusals.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod conntrack;

use acl::conntrack::{
    Capacity, Conntrack, Invalid, Keep, Opened, Phase, Refused, Settings, SideVerdict, TcpSettings, Tuple,
};
use conntrack::{ACK, FIN, ICMP, RST, SEED, SYN, TCP, UDP, Worker, allowed, segment, table, tick, v4, v6};

const SECOND: u64 = 8;

fn phase(table: &Conntrack, tuple: &Tuple, at: u64) -> Option<Phase> {
    let (flow, _) = table.find(tuple, tick(at))?;
    Some(table.get(flow, tick(at)).unwrap().phase)
}

/// The flow lives until `seconds` after its last packet, and no tick longer; swept or not.
#[track_caller]
fn lives(table: &Conntrack, tuple: &Tuple, seconds: u64) {
    let end = seconds * SECOND;
    assert!(table.find(tuple, tick(end - 1)).is_some(), "{seconds} s");
    assert!(table.find(tuple, tick(end)).is_none(), "{seconds} s");
    assert_eq!(table.expire(tick(end - 1), 1000, &[]), 0);
    assert_eq!(table.expire(tick(end), 1000, &[]), 1);
    assert!(table.is_empty());
}

/// Whether the server sends it, flags, sequence number, acknowledgment.
type Sent = (bool, u8, u32, u32);

// Calico felix/bpf/conntrack/timeouts: the defaults.
#[test]
fn every_kind_of_flow_has_its_timer() {
    let client = v4(1, 2, 3, 4, TCP);
    let server = client.reversed();
    let tcp: [(&[Sent], u64); 5] = [
        (&[], 20),
        (&[(true, SYN | ACK, 20, 11)], 20),
        (&[(true, SYN | ACK, 20, 11), (false, ACK, 11, 21)], 3600),
        (
            &[
                (true, SYN | ACK, 20, 11),
                (false, ACK, 11, 21),
                (false, FIN | ACK, 11, 21),
                (true, FIN | ACK, 21, 12),
            ],
            30,
        ),
        (&[(true, SYN | ACK, 20, 11), (false, ACK, 11, 21), (false, RST, 11, 0)], 40),
    ];
    for (segments, seconds) in tcp {
        let table = table(10);
        let mut worker = Worker::new(&table);
        worker.send(&client, Some(&segment(SYN, 10, 0)), 1, tick(0)).unwrap();
        for (turned, flags, seq, ack) in segments {
            let tuple = if *turned { server } else { client };
            worker.packet(&tuple, Some(&segment(*flags, *seq, *ack)), tick(0));
            assert_eq!(worker.found.hit, 1);
        }
        lives(&table, &client, seconds);
    }
    let ping = Tuple { icmp_type: 8, ..v4(1, 2, 7, 7, ICMP) };
    let ping6 = Tuple { icmp_type: 128, ..v6(1, 2, 7, 7, 58) };
    for (tuple, seconds) in [(v4(1, 2, 3, 4, UDP), 60), (ping, 5), (ping6, 5), (v4(1, 2, 0, 0, 47), 600)] {
        for answered in [false, true] {
            let table = table(10);
            let mut worker = Worker::new(&table);
            worker.send(&tuple, None, 1, tick(0)).unwrap();
            if answered {
                worker.packet(&tuple.reversed(), None, tick(0));
                assert_eq!((worker.found.hit, worker.found.reply), (1, 1));
            }
            lives(&table, &tuple, seconds);
        }
    }
}

// VPP test_acl_plugin_conns: an idle connection behind an active one.
#[test]
fn an_idle_flow_expires_beside_an_active_one() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let (idle, active) = (v4(1, 2, 3, 4, UDP), v4(1, 2, 3, 5, UDP));
    for tuple in [&idle, &active] {
        worker.send(tuple, None, 1, tick(0)).unwrap();
    }
    for at in (0..120 * SECOND).step_by(40) {
        worker.packet(&active.reversed(), None, tick(at));
        table.expire(tick(at), 1, &[]);
        assert_eq!(table.find(&idle, tick(at)).is_some(), at < 60 * SECOND);
        assert!(table.find(&active, tick(at)).is_some());
    }
}

// RFC 9293 3.6.1: a client uses its port again before TIME-WAIT is over.
#[test]
fn a_tuple_in_time_wait_is_used_again() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, TCP);
    let old = worker.connect(&tuple, 1, tick(0)).unwrap().flow();
    worker.packet(&tuple, Some(&segment(FIN | ACK, 11, 21)), tick(1));
    worker.packet(&tuple.reversed(), Some(&segment(FIN | ACK, 21, 12)), tick(1));
    worker.packet(&tuple, Some(&segment(ACK, 12, 22)), tick(1));
    assert_eq!(phase(&table, &tuple, 1), Some(Phase::TcpTimeWait));
    // An old duplicate of the SYN passes and changes nothing.
    worker.packet(&tuple, Some(&segment(SYN, 10, 0)), tick(2));
    assert_eq!((worker.found.hit, worker.found.first), (1, 0));
    // A new one opens a flow, after policy was asked.
    worker.packet(&tuple, Some(&segment(SYN, 5000, 0)), tick(2));
    assert_eq!((worker.found.hit, worker.found.first, worker.found.reopens), (0, 1, 1));
    assert_eq!(phase(&table, &tuple, 2), Some(Phase::TcpTimeWait), "nothing happens until then");
    let opened =
        table.insert(&worker.headers, 0, allowed(1), SideVerdict::NONE, tick(2), &worker.found).unwrap();
    assert!(matches!(opened, Opened::New(flow) if flow != old));
    assert_eq!((phase(&table, &tuple, 2), table.len()), (Some(Phase::TcpSynSent), 1));
    // The same SYN at another worker, which saw the old flow too.
    let again = table.insert(&worker.headers, 0, allowed(1), SideVerdict::NONE, tick(2), &worker.found);
    assert_eq!(again, Ok(Opened::Existing { flow: opened.flow(), reply: false }));
    assert_eq!(table.get(old, tick(2)), None);
    assert_eq!(table.flows_of(1), Some((1, 1)));
}

// RFC 9293 3.10.7.1: a refused connection leaves nothing behind.
#[test]
fn a_refused_connection_is_forgotten_at_once() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, TCP);
    worker.send(&tuple, Some(&segment(SYN, 10, 0)), 1, tick(0)).unwrap();
    worker.packet(&tuple.reversed(), Some(&segment(RST | ACK, 0, 11)), tick(0));
    assert_eq!((worker.found.hit, table.find(&tuple, tick(0))), (1, None));
    assert!(matches!(worker.send(&tuple, Some(&segment(SYN, 10, 0)), 1, tick(0)), Ok(Opened::New(_))));
}

// OVS "conntrack - zones", "multiple zones".
#[test]
fn zones_keep_equal_tuples_apart() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let blue = v4(1, 2, 3, 4, UDP);
    let green = Tuple { zone: 9, ..blue };
    let first = worker.send(&blue, None, 1, tick(0)).unwrap();
    let second = worker.send(&green, None, 1, tick(0)).unwrap();
    assert!(matches!((first, second), (Opened::New(_), Opened::New(_))));
    assert_eq!(table.find(&green.reversed(), tick(0)), Some((second.flow(), true)));
}

// Both hosts ping each other with one identifier: the answer to one is no answer to the other.
#[test]
fn pings_of_two_hosts_with_one_identifier_are_two_flows() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let there = Tuple { icmp_type: 8, ..v4(1, 2, 7, 7, ICMP) };
    let back = Tuple { icmp_type: 8, ..v4(2, 1, 7, 7, ICMP) };
    worker.send(&there, None, 1, tick(0)).unwrap();
    worker.packet(&back, None, tick(0));
    assert_eq!((worker.found.hit, worker.found.first), (0, 1), "a question of its own");
    worker.packet(&there.reversed(), None, tick(0));
    assert_eq!((worker.found.hit, worker.found.reply), (1, 1));
    let unasked = Err(Refused::NotFirst(Invalid::IcmpUnasked));
    assert_eq!(worker.send(&back.reversed(), None, 1, tick(0)), unasked);
    let redirect = Tuple { icmp_type: 5, ..v4(1, 2, 0, 0, ICMP) };
    let untracked = Err(Refused::NotFirst(Invalid::IcmpUntracked));
    assert_eq!(worker.send(&redirect, None, 1, tick(0)), untracked);
}

// VPP sfdp_l4_lifecycle: the first packet is not a SYN.
#[test]
fn a_connection_is_picked_up_or_not_by_configuration() {
    let capacity = Capacity { flows: 10, endpoints: 8 };
    let tuple = v4(1, 2, 3, 4, TCP);
    for pick_up in [false, true] {
        let mut settings = Settings::of(capacity);
        settings.tcp = TcpSettings { pick_up, ..settings.tcp };
        settings.limits.evictable = 10;
        let table = Conntrack::new(capacity, SEED, &settings).unwrap();
        let mut worker = Worker::new(&table);
        let opened = worker.send(&tuple, Some(&segment(ACK, 100, 200)), 1, tick(0));
        if pick_up {
            assert!(matches!(opened, Ok(Opened::New(_))));
            worker.packet(&tuple.reversed(), Some(&segment(ACK, 200, 100)), tick(0));
            assert_eq!(phase(&table, &tuple, 0), Some(Phase::TcpEstablished));
        } else {
            assert_eq!(opened, Err(Refused::NotFirst(Invalid::TcpNotSyn)));
        }
    }
}

// An invalid segment is named, and neither counts nor keeps the flow alive.
#[test]
fn an_invalid_segment_changes_nothing() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, TCP);
    let flow = worker.connect(&tuple, 1, tick(0)).unwrap().flow();
    let before = table.get(flow, tick(0)).unwrap();
    worker.packet(&tuple, Some(&segment(ACK, 1_000_000, 21)), tick(100));
    assert_eq!((worker.found.hit, worker.found.invalid), (0, 1));
    assert_eq!(worker.found.reason(0), Some(Invalid::TcpBeyondWindow));
    assert_eq!(table.get(flow, tick(0)).unwrap(), before);
}

// A worker whose clock is a little behind neither expires a flow nor makes it look older.
#[test]
fn a_clock_that_is_behind_does_no_harm() {
    let table = table(10);
    let mut worker = Worker::new(&table);
    let tuple = v4(1, 2, 3, 4, UDP);
    worker.send(&tuple, None, 1, tick(1000)).unwrap();
    worker.packet(&tuple, None, tick(990));
    assert_eq!(worker.found.hit, 1);
    assert_eq!(table.expire(tick(990), 100, &[]), 0);
    assert!(table.find(&tuple, tick(1000 + 60 * SECOND - 1)).is_some());
}

// OVS "conntrack - Flush many conntrack entries by port".
#[test]
fn flows_are_flushed_by_what_they_are() {
    let table = table(200);
    let mut worker = Worker::new(&table);
    for n in 0..150 {
        worker.send(&v4(n, 2, 3, if n % 3 == 0 { 80 } else { 443 }, UDP), None, 1, tick(0)).unwrap();
    }
    let (mut from, mut calls) = (Some(0), 0);
    while let Some(at) = from {
        from =
            table.visit(at, 30, tick(0), |flow| if flow.tuple.dst_port == 80 { Keep::No } else { Keep::Yes });
        calls += 1;
    }
    assert_eq!((calls, table.len(), table.flows_of(1)), (7, 100, Some((100, 100))));
}
