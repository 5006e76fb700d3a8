//! A packet's first bytes in one line, tunnels included.

use std::fmt::Display;

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

use crate::filter::protocol_name;

/// `10.0.0.1:80 > 10.0.0.2:4711 tcp`; inner packets of IP in IP follow behind a bar.
pub(crate) fn packet_line(head: &[u8]) -> String {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(head) else {
        return "too short for Ethernet".to_owned();
    };
    let mut out = describe(&packet);
    let mut inner = tunnelled(&packet);
    // Each round takes a header off, so the loop ends with the bytes.
    while let Some(packet) = inner.and_then(|bytes| LaxSlicedPacket::from_ip(bytes).ok()) {
        out.push_str(" | ");
        out.push_str(&describe(&packet));
        inner = tunnelled(&packet);
    }
    out
}

/// The inner packet of IPv4 (protocol 4) or IPv6 (protocol 41) in IP.
fn tunnelled<'a>(packet: &LaxSlicedPacket<'a>) -> Option<&'a [u8]> {
    let payload = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => ip.payload(),
        Some(LaxNetSlice::Ipv6(ip)) => ip.payload(),
        _ => return None,
    };
    (matches!(payload.ip_number.0, 4 | 41) && !payload.fragmented).then_some(payload.payload)
}

fn describe(packet: &LaxSlicedPacket<'_>) -> String {
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => Some((tcp.source_port(), tcp.destination_port())),
        Some(TransportSlice::Udp(udp)) => Some((udp.source_port(), udp.destination_port())),
        _ => None,
    };
    match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            line(source, destination, ports, ip.payload().ip_number.0)
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let (source, destination) = (ip.header().source_addr(), ip.header().destination_addr());
            let protocol = ip.payload().ip_number.0;
            match ports {
                Some(_) => line(format!("[{source}]"), format!("[{destination}]"), ports, protocol),
                None => line(source, destination, ports, protocol),
            }
        }
        Some(LaxNetSlice::Arp(arp)) => match arp.operation().0 {
            1 => "arp request".to_owned(),
            2 => "arp reply".to_owned(),
            other => format!("arp operation {other}"),
        },
        None => "not IP".to_owned(),
    }
}

fn line(source: impl Display, destination: impl Display, ports: Option<(u16, u16)>, protocol: u8) -> String {
    let name = protocol_name(protocol);
    match ports {
        Some((from, to)) => format!("{source}:{from} > {destination}:{to} {name}"),
        None => format!("{source} > {destination} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpNumber, PacketBuilder};

    use super::*;

    fn ethernet() -> etherparse::PacketBuilderStep<etherparse::Ethernet2Header> {
        PacketBuilder::ethernet2([2; 6], [4; 6])
    }

    #[test]
    fn lines() {
        let mut inner = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(40000, 80, 0, 0)
            .write(&mut inner, &[])
            .expect("writes into memory do not fail");
        let mut outer = Vec::new();
        ethernet()
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .write(&mut outer, IpNumber(4), &inner)
            .expect("writes into memory do not fail");
        assert_eq!(packet_line(&outer), "192.0.2.1 > 192.0.2.2 ipip | 10.0.0.1:40000 > 10.0.0.2:80 tcp");
        let mut six = Vec::new();
        ethernet()
            .ipv6([1; 16], [2; 16], 64)
            .udp(53, 5353)
            .write(&mut six, b"x")
            .expect("writes into memory do not fail");
        assert_eq!(
            packet_line(&six),
            "[101:101:101:101:101:101:101:101]:53 > [202:202:202:202:202:202:202:202]:5353 udp"
        );
        // Cut anywhere, a packet has a line.
        for cut in 0..outer.len() {
            assert!(!packet_line(&outer[..cut]).is_empty());
        }
        assert_eq!(packet_line(&outer[..13]), "too short for Ethernet");
        assert_eq!(packet_line(&[0; 14]), "not IP");
    }
}
