//! SYNs of 1,000,000 different tuples a minute, through the whole router: nobody else may notice.
//!
//! The table has room for 32,768 flows, which the flood would fill within two seconds; a half-open flow stays
//! for 20. Between the flood's packets, other pods open connections and use those that they have.

use std::time::Duration;

use super::explained::Dice;
use super::*;

const FLOWS: u32 = 32_768;
/// The clock moves by so much at a time.
const STEP: Duration = Duration::from_millis(125);
const SECONDS: usize = 30;
/// SYNs a step: 1,000,000 a minute.
const FLOOD: usize = 1_000_000 / 60 / 8;
const CLIENTS: usize = 4;
/// Connections of each client that last.
const LASTING: u16 = 50;

fn client(at: usize) -> String {
    format!("client{at}")
}

/// Opens a connection whose every packet must arrive.
fn opens(node: &mut Node, from: &str, to: &str, ports: (u16, u16)) -> bool {
    let back = (ports.1, ports.0);
    node.syn(from, to, ports).is_ok()
        && node.send(to, from, TCP, &segment(back, SYN_ACK, 5000, 1001, &[])).is_ok()
        && node.send(from, to, TCP, &segment(ports, ACK, 1001, 5001, &[])).is_ok()
}

/// A SYN between the flooder and anybody outside, as it enters at `port`.
fn syn(node: &Node, port: &str, dice: &mut Dice) -> Vec<u8> {
    let (own, far) =
        (node.address("flooder"), std::net::Ipv4Addr::from(0x0a63_0000 | dice.below(1 << 16) as u32));
    let ports = (1024 + dice.below(60_000) as u16, 1 + dice.below(60_000) as u16);
    let (from, to) = if port == "flooder" { (own, far.into()) } else { (far.into(), own) };
    let (ethertype, packet) = ip(from, to, TCP, &segment(ports, SYN, 1, 0, &[]));
    node.wrap(port, ethertype, &packet)
}

/// The flood enters at `port`.
fn flood(port: &str) {
    let mut node = Node::with(FLOWS, 8192);
    node.pod("web", "10.1.0.1", &[("app", "web")]);
    node.pod("flooder", "10.1.0.2", &[]);
    for at in 0..CLIENTS {
        node.pod(&client(at), &format!("10.1.0.{}", 10 + at), &[("role", "client")]);
    }
    node.apply(WEB_POLICY);
    for at in 0..CLIENTS {
        (0..LASTING).for_each(|n| node.establish(&client(at), "web", (1000 + n, 80)));
    }
    let mut dice = Dice(0x5eed);
    let (mut tried, mut opened, mut used) = (0_u32, 0_u32, 0_u32);
    for step in 0..SECONDS * 8 {
        for at in 0..CLIENTS {
            for _ in 0..FLOOD / CLIENTS {
                let frame = syn(&node, port, &mut dice);
                node.lab.send(port, &frame);
            }
            node.lab.run();
            node.lab.receive_all();
            tried += 1;
            opened += u32::from(opens(&mut node, &client(at), "web", (10_000 + step as u16, 80)));
            // Each lasting connection says something every few seconds, one way or the other.
            for n in (0..LASTING).filter(|n| (usize::from(*n) + step).is_multiple_of(25)) {
                let (there, back) = ((1000 + n, 80), (80, 1000 + n));
                let used_by = client(at);
                node.send(&used_by, "web", TCP, &segment(there, ACK, 1001, 5001, &[])).unwrap();
                node.send("web", &used_by, TCP, &segment(back, ACK, 5001, 1001, &[])).unwrap();
                used += 1;
            }
        }
        node.lab.pass(STEP);
    }
    let counted = node.lab.counted();
    let flooded: u64 =
        counted.iter().filter(|(name, _)| **name == format!("{port}.rx")).map(|(_, n)| n).sum();
    assert!(flooded > 450_000 && used > 1500, "{flooded} {used}");
    assert!(opened * 100 >= tried * 99, "{opened} of {tried} connections of others were opened");
}

#[test]
fn a_pods_syn_flood_harms_nobody_else() {
    flood("flooder");
}

/// The flooder is its victim here: what comes from the network is charged to the pod that it is for.
#[test]
fn a_syn_flood_from_the_network_against_one_pod_harms_no_other() {
    flood("up");
}
