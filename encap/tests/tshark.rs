//! Tshark decodes what this crate writes: every layer is found, nothing is malformed, every checksum is good.

mod scapy;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;

use encap::MacAddr;
use encap::fragment::Fragmenter;
use encap::tunnel::ipip::OuterIpv4;
use encap::wire::ndisc::{self, NeighborAdvert};
use encap::wire::{Ipv4, icmpv4, icmpv6};

use scapy::vector;

/// Link type "raw IP": no link layer, version by the first nibble.
const LINKTYPE_RAW: u32 = 101;

fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, LINKTYPE_RAW];
    out.extend(header.iter().flat_map(|word: &u32| word.to_le_bytes()));
    for packet in packets {
        let len = packet.len() as u32;
        out.extend([0, 0, len, len].iter().flat_map(|word: &u32| word.to_le_bytes()));
        out.extend(packet);
    }
    out
}

/// What tshark says of `packets`: the layers' names and the packet's state, a line each.
fn tshark(name: &str, packets: &[Vec<u8>]) -> Option<Vec<String>> {
    let file = std::env::temp_dir().join(format!("encap-{name}-{}.pcap", std::process::id()));
    fs::write(&file, pcap(packets)).expect("the temporary directory can be written");
    let checks = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"];
    let output = Command::new("tshark")
        .args(checks.iter().flat_map(|check| ["-o".to_owned(), format!("{check}:TRUE")]))
        // Pieces are to be seen as they are, not put together.
        .args(["-o", "ip.defragment:FALSE", "-T", "fields", "-E", "separator=;", "-E", "occurrence=a"])
        .args(["-e", "frame.protocols", "-e", "_ws.malformed"])
        .args(["-e", "ip.checksum.status", "-e", "icmp.checksum.status", "-e", "icmpv6.checksum.status"])
        .args(["-e", "ip.src", "-e", "ip.dst", "-r"])
        .arg(&file)
        .output();
    fs::remove_file(&file).expect("it was just written");
    let Ok(output) = output else {
        eprintln!("SKIPPED: tshark is not installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

fn tunnel(inner: &[u8]) -> Vec<u8> {
    let outer = OuterIpv4::new(Ipv4Addr::new(172, 16, 20, 252), Ipv4Addr::new(172, 16, 20, 253));
    let mut packet = vec![0; 20];
    outer.push(&mut packet, inner, inner.len() as u16, 7).expect("the vectors are short");
    packet.extend(inner);
    packet
}

/// Status 1 is "good"; a quoted packet cut short has none.
#[test]
fn tunnels_show_both_headers() {
    let Some(lines) = tshark("tunnels", &[tunnel(&vector("echo4")), tunnel(&vector("echo6"))]) else {
        return;
    };
    let ips = |a: &str, b: &str| format!("172.16.20.25{a},10.100.{b}");
    let v4 = format!("raw:ip:ip:icmp:data;;1,1;1;;{};{}", ips("2", "36.103"), ips("3", "169.176"));
    assert_eq!(lines, [v4.as_str(), "raw:ip:ipv6:icmpv6:data;;1;;1;172.16.20.252;172.16.20.253"]);
}

#[test]
fn errors_show_the_packet_they_are_about() {
    let (node, pod) = (Ipv4Addr::new(172, 16, 20, 252), Ipv4Addr::new(10, 100, 36, 103));
    let mut v4 = vec![0; 576];
    assert_eq!(icmpv4::emit_error_v4(&mut v4, node, pod, 3, 4, 1480, &vector("about4")), 576);
    let (router, host) = (Ipv6Addr::LOCALHOST, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    let mut v6 = vec![0; 1280];
    assert_eq!(icmpv6::emit_error_v6(&mut v6, router, host, 2, 0, 1480, &vector("about6")), 1280);
    let Some(lines) = tshark("errors", &[v4, v6]) else {
        return;
    };
    let v4 = "raw:ip:icmp:ip:udp:data;;1,1;1;;172.16.20.252,10.100.36.103;10.100.36.103,10.100.169.176";
    assert_eq!(lines, [v4, "raw:ipv6:icmpv6:ipv6:udp:data;;;;1;;"]);
}

#[test]
fn neighbour_discovery_is_well_formed() {
    let (router, target) =
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 5));
    let mac = MacAddr([0xee; 6]);
    let mut solicit = vec![0; 72];
    let group = ndisc::solicited_node(target);
    assert_eq!(ndisc::emit_neighbor_solicit(&mut solicit, router, group, target, Some(mac)), 72);
    let mut advert = vec![0; 72];
    let value =
        NeighborAdvert { target, target_ll: Some(mac), router: true, solicited: true, override_: true };
    assert_eq!(ndisc::emit_neighbor_advert(&mut advert, router, target, &value), 72);
    let Some(lines) = tshark("ndisc", &[solicit, advert]) else {
        return;
    };
    assert_eq!(lines, ["raw:ipv6:icmpv6;;;;1;;"; 2]);
}

#[test]
fn pieces_of_a_packet_with_options_are_well_formed() {
    // Record route, not copied; loose source route, copied.
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 1, 131, 7, 4, 172, 16, 20, 252];
    let mut packet = [&vector("whole")[..20], &options, &vector("whole")[20..]].concat();
    let mut ip = Ipv4::new_checked(&mut packet[..]).unwrap();
    ip.set_total_len(ip.total_len() + 16);
    packet[0] += 4;
    Ipv4::new_checked(&mut packet[..]).unwrap().fill_checksum();
    let plan = Fragmenter::new(&packet, 1000).unwrap();
    let pieces: Vec<Vec<u8>> = plan
        .map(|piece| {
            let mut bytes = vec![0; piece.header_len];
            plan.emit_header(&piece, &mut bytes).unwrap();
            bytes.extend(plan.data(&piece));
            bytes
        })
        .collect();
    let Some(lines) = tshark("pieces", &pieces) else {
        return;
    };
    assert_eq!(lines.len(), 3);
    for line in lines {
        let fields: Vec<&str> = line.split(';').collect();
        assert_eq!((fields[1], fields[2], fields[5]), ("", "1", "10.100.36.103"), "{line}");
    }
}
