//! ARP and neighbour discovery as the model answers them: as the pods' gateway.

use std::net::{IpAddr, Ipv6Addr};

use super::header::{self, word};
use super::{Expected, GATEWAY_V4, GATEWAY_V6, Kind, Mac, Model};

impl Model {
    /// RFC 826, for pods as a proxy for every address but their own.
    pub(super) fn arp(&self, at: usize, frame: &[u8], expected: &mut Expected) -> Result<(), &'static str> {
        let port = &self.ports[at];
        let (pod, own) = match &port.kind {
            Kind::Uplink { exclusive: true, .. } => {
                self.count(expected, at, "punts");
                return Ok(());
            }
            Kind::Uplink { exclusive: false, .. } => return Err("arp-not-for-us"),
            Kind::Pod { addresses, .. } => (true, addresses.as_slice()),
            Kind::Host { .. } => (false, [].as_slice()),
        };
        let packet = &frame[14..];
        let well_formed = packet.len() >= 28
            && packet[..6] == [0, 1, 8, 0, 6, 4]
            && matches!(packet[6..8], [0, 1 | 2])
            && one_station(&packet[8..14]);
        if !well_formed {
            return Err("arp-malformed");
        }
        if packet[7] == 2 {
            return Err("arp-reply-ignored");
        }
        let address = |at: usize| IpAddr::from([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let (asker, asked) = (address(14), address(24));
        let probe = packet[14..18] == [0; 4];
        if packet[8..14] != port.peer || (pod && !probe && !own.contains(&asker)) {
            return Err("arp-spoofed");
        }
        if asker == asked || own.contains(&asked) {
            return Err("arp-own-address");
        }
        if !pod && asked != IpAddr::V4(GATEWAY_V4) {
            return Err("arp-not-for-us");
        }
        let reply =
            [&[0, 1, 8, 0, 6, 4, 0, 2], &port.mac[..], &packet[24..28], &packet[8..14], &packet[14..18]]
                .concat();
        self.send(at, port.peer, [0x08, 0x06], &reply, expected);
        Ok(())
    }

    /// RFC 4861, for pods as a proxy for every address but their own.
    pub(super) fn discovery(
        &self,
        at: usize,
        ip: &[u8],
        expected: &mut Expected,
    ) -> Result<(), &'static str> {
        let port = &self.ports[at];
        let (pod, own) = match &port.kind {
            Kind::Uplink { exclusive: true, .. } => {
                self.count(expected, at, "punts");
                return Ok(());
            }
            Kind::Uplink { exclusive: false, .. } => return Err("nd-not-for-us"),
            Kind::Pod { addresses, .. } => (true, addresses.as_slice()),
            Kind::Host { .. } => (false, [].as_slice()),
        };
        let (kind, target, source_mac) = message(ip).ok_or("nd-malformed")?;
        match kind {
            135 => {}
            136 => return Err("nd-advert-ignored"),
            _ => return Err("nd-router-message"),
        }
        let asker = header::source(ip);
        let gateway = IpAddr::V6(GATEWAY_V6);
        let detection = asker == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if detection && target != gateway {
            return Err("nd-duplicate-probe");
        }
        if !detection && pod && !own.contains(&asker) && !header::is_link_local6(asker) {
            return Err("nd-spoofed");
        }
        if source_mac.is_some_and(|mac| mac != port.peer) {
            return Err("nd-spoofed");
        }
        if own.contains(&target) {
            return Err("nd-duplicate-probe");
        }
        if target != gateway && (!pod || header::is_link_local6(target)) {
            return Err("nd-not-for-us");
        }
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let (to, to_mac, flags) = match asker {
            IpAddr::V6(asker) if !detection => (asker, port.peer, 0xe0),
            _ => (all_nodes, [0x33, 0x33, 0, 0, 0, 1], 0xa0),
        };
        let IpAddr::V6(target) = target else { return Err("nd-malformed") };
        let mut reply = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        reply.extend(GATEWAY_V6.octets());
        reply.extend(to.octets());
        reply.extend([136, 0, 0, 0, flags, 0, 0, 0]);
        reply.extend(target.octets());
        reply.extend([2, 1]);
        reply.extend(port.mac);
        let checksum = header::icmp_sum(&reply, 40);
        reply[42..44].copy_from_slice(&checksum.to_be_bytes());
        self.send(at, to_mac, [0x86, 0xdd], &reply, expected);
        Ok(())
    }
}

fn one_station(mac: &[u8]) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

/// The checks of RFC 4861 6.1, 7.1 and 8.1: (type, target, source link-layer address).
fn message(ip: &[u8]) -> Option<(u8, IpAddr, Option<Mac>)> {
    let (_, at, _) = header::upper(ip)?;
    let message = &ip[at..];
    let address = |from: usize| -> IpAddr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&message[from..from + 16]);
        IpAddr::from(octets)
    };
    let kind = message[0];
    let fixed = [8, 16, 24, 24, 40][usize::from(kind) - 133];
    if ip[7] != 255 || message.len() < fixed || header::icmp_sum(ip, at) != 0 || message[1] != 0 {
        return None;
    }
    let mut source_mac = None;
    let mut rest = &message[fixed..];
    while !rest.is_empty() {
        let len = usize::from(*rest.get(1)?) * 8;
        if len == 0 || rest.len() < len {
            return None;
        }
        let mac = rest[0] == 1 || rest[0] == 2;
        if ((mac || rest[0] == 5) && len != 8) || (mac && !one_station(&rest[2..8])) {
            return None;
        }
        if rest[0] == 1 {
            source_mac = Some([rest[2], rest[3], rest[4], rest[5], rest[6], rest[7]]);
        }
        rest = &rest[len..];
    }
    let (source, to) = (header::source(ip), header::destination(ip));
    let nobody = source == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    let group = |address: IpAddr| matches!(address, IpAddr::V6(a) if a.octets()[0] == 0xff);
    let solicited_node = matches!(to, IpAddr::V6(a)
        if a.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]);
    let valid = match kind {
        133 => !nobody || source_mac.is_none(),
        134 => header::is_link_local6(source),
        135 => !group(address(8)) && (!nobody || (source_mac.is_none() && solicited_node)),
        136 => !group(address(8)) && (!group(to) || word(message, 4) & 0x4000 == 0),
        _ => {
            let target = address(8);
            let fits = header::is_link_local6(target) || target == address(24);
            header::is_link_local6(source) && !group(address(24)) && fits
        }
    };
    let target = if fixed >= 24 { address(8) } else { source };
    valid.then_some((kind, target, source_mac))
}
