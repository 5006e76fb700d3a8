//! A packet as a list of fields, its bytes by `etherparse`, and what segmentation and coalescing mean for it: as plain
//! as can be, and with nothing of the crate's.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

/// The network header of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub v6: bool,
    pub(crate) tos: u8,
    pub(crate) id: u16,
    pub(crate) dont_fragment: bool,
    pub(crate) ttl: u8,
    pub(crate) label: u32,
    pub(crate) src: u8,
    pub(crate) dst: u8,
}

/// A TCP or UDP packet, perhaps in an IPv4 tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) outer: Option<Network>,
    pub(crate) network: Network,
    pub(crate) tcp: bool,
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Multiple of 4 bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Network {
    fn bytes(&self, protocol: IpNumber, payload: usize) -> Vec<u8> {
        if self.v6 {
            let mut address = [0; 16];
            address[..2].copy_from_slice(&[0xfd, 0x10]);
            let with = |last: u8| {
                let mut address = address;
                address[15] = last;
                address
            };
            let header = Ipv6Header {
                traffic_class: self.tos,
                flow_label: Ipv6FlowLabel::try_new(self.label).unwrap(),
                payload_length: payload as u16,
                next_header: protocol,
                hop_limit: self.ttl,
                source: with(self.src),
                destination: with(self.dst),
            };
            return header.to_bytes().to_vec();
        }
        let mut header = Ipv4Header {
            dscp: (self.tos >> 2).try_into().unwrap(),
            ecn: (self.tos & 3).try_into().unwrap(),
            total_len: (20 + payload) as u16,
            identification: self.id,
            dont_fragment: self.dont_fragment,
            more_fragments: false,
            fragment_offset: IpFragOffset::ZERO,
            time_to_live: self.ttl,
            protocol,
            source: [10, 0, 0, self.src],
            destination: [10, 0, 1, self.dst],
            ..Ipv4Header::default()
        };
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }
}

impl Packet {
    /// Headers with complete checksums, and data. Lengths beyond 16 bits are cut: a super-packet's outer one.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ip = self.network.bytes(IpNumber::TCP, 0);
        let v4 = Ipv4Header::from_slice(&ip).map(|(header, _)| header);
        let v6 = Ipv6Header::from_slice(&ip).map(|(header, _)| header);
        let transport = if self.tcp {
            let mut header = TcpHeader::new(self.ports.0, self.ports.1, self.seq, self.window);
            let has = |flag: u8| self.flags & flag != 0;
            header.acknowledgment_number = self.ack;
            (header.fin, header.syn, header.rst, header.psh) = (has(FIN), has(SYN), has(RST), has(PSH));
            (header.ack, header.urg, header.ece, header.cwr) = (has(ACK), has(URG), has(ECE), has(CWR));
            header.set_options_raw(&self.options).unwrap();
            header.checksum = if self.network.v6 {
                header.calc_checksum_ipv6(&v6.unwrap(), &self.data).unwrap()
            } else {
                header.calc_checksum_ipv4(&v4.unwrap(), &self.data).unwrap()
            };
            header.to_bytes().to_vec()
        } else {
            let (src, dst) = self.ports;
            let header = if self.network.v6 {
                UdpHeader::with_ipv6_checksum(src, dst, &v6.unwrap(), &self.data).unwrap()
            } else {
                UdpHeader::with_ipv4_checksum(src, dst, &v4.unwrap(), &self.data).unwrap()
            };
            header.to_bytes().to_vec()
        };
        let inside = transport.len() + self.data.len();
        let protocol = if self.tcp { IpNumber::TCP } else { IpNumber::UDP };
        let inner = [self.network.bytes(protocol, inside), transport, self.data.clone()].concat();
        match &self.outer {
            None => inner,
            Some(outer) => {
                let protocol = if self.network.v6 { IpNumber::IPV6 } else { IpNumber::IPV4 };
                [outer.bytes(protocol, inner.len()), inner].concat()
            }
        }
    }

    /// Bytes in front of the data.
    pub(crate) fn header_len(&self) -> usize {
        let transport = if self.tcp { 20 + self.options.len() } else { 8 };
        let network = if self.network.v6 { 40 } else { 20 };
        transport + network + if self.outer.is_some() { 20 } else { 0 }
    }

    fn flow(&self) -> (bool, bool, u8, u8, (u16, u16)) {
        (self.network.v6, self.tcp, self.network.src, self.network.dst, self.ports)
    }
}

/// The packets that a super-packet stands for.
pub(crate) fn segment(whole: &Packet, size: usize, fixed_id: bool) -> Vec<Packet> {
    let mut pieces: Vec<&[u8]> = whole.data.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let one = |(i, data): (usize, &&[u8])| {
        let mut packet = whole.clone();
        packet.data = data.to_vec();
        packet.seq = whole.seq.wrapping_add((i * size) as u32);
        if i > 0 {
            packet.flags &= !CWR;
        }
        if i < last {
            packet.flags &= !(PSH | FIN);
        }
        if !fixed_id {
            packet.network.id = whole.network.id.wrapping_add(i as u16);
        }
        if let Some(outer) = &mut packet.outer {
            outer.id = outer.id.wrapping_add(i as u16);
        }
        if !packet.tcp {
            (packet.seq, packet.flags) = (whole.seq, whole.flags);
        }
        packet
    };
    pieces.iter().enumerate().map(one).collect()
}

/// One super-packet, or one packet.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) packets: Vec<Packet>,
    /// In the order of the first packets.
    pub(crate) members: Vec<usize>,
    pub(crate) fixed_id: bool,
}

impl Group {
    /// The super-packet of these packets.
    pub(crate) fn whole(&self) -> Packet {
        let mut whole = self.packets[0].clone();
        whole.data = self.packets.iter().flat_map(|packet| packet.data.clone()).collect();
        whole.flags |= self.packets.last().unwrap().flags & (PSH | FIN);
        whole
    }

    /// This group with one packet more, if cutting that up gives these packets.
    fn with(&self, index: usize, packet: &Packet) -> Option<Group> {
        let size = self.packets[0].data.len();
        let mut longer = self.clone();
        longer.packets.push(packet.clone());
        longer.members.push(index);
        let whole = longer.whole();
        let fits =
            whole.header_len() + whole.data.len() <= 65535 && (packet.tcp || longer.packets.len() <= 64);
        if size == 0 || packet.data.is_empty() || !fits || packet.flags & (SYN | RST | URG) != 0 {
            return None;
        }
        for fixed_id in [false, true] {
            let may = if fixed_id { packet.network.dont_fragment && !packet.network.v6 } else { true };
            let bytes = |packets: Vec<Packet>| packets.iter().map(Packet::bytes).collect::<Vec<_>>();
            if may && bytes(segment(&whole, size, fixed_id)) == bytes(longer.packets.clone()) {
                longer.fixed_id = fixed_id;
                return Some(longer);
            }
        }
        None
    }
}

/// Which packets go together.
pub(crate) fn coalesce(packets: &[Packet]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        let of_flow = groups.iter_mut().rev().find(|group| group.packets[0].flow() == packet.flow());
        match of_flow.map(|group| (group.with(index, packet), group)) {
            Some((Some(longer), group)) => *group = longer,
            _ => groups.push(Group { packets: vec![packet.clone()], members: vec![index], fixed_id: false }),
        }
    }
    groups
}
