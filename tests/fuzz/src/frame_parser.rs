//! One frame through every parser of packets, and through the pipeline's parse stage.

use core::net::Ipv4Addr;
use std::sync::Arc;

use encap::tunnel::ipip;
use encap::wire::{arp, checksum, ethernet, icmpv4, icmpv6, ipv4, ipv6, ipv6_ext, ndisc, tcp, udp};
use vrouter::burst::{Burst, lanes};
use vrouter::frame::HEADROOM;
use vrouter::ids::PortId;
use vrouter::pipeline::parse;
use vrouter::pipeline::state::WorkerState;
use vrouter::tables::Tables;
use vrouter::{MemoryPort, PortSpec, Router};

use super::pipeline::worker_state;

/// The MAC addresses of the only pod, which frames need to get past the first checks.
const POD_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// Parses one frame.
pub fn run(data: &[u8]) {
    wire(data);
    thread_local! {
        static RIG: std::cell::RefCell<Rig> = std::cell::RefCell::new(Rig::new());
    }
    RIG.with_borrow_mut(|rig| rig.parse(data));
    let mut ours = data.to_vec();
    if let Some(addresses) = ours.first_chunk_mut::<12>() {
        addresses[..6].copy_from_slice(&[0xee; 6]);
        addresses[6..].copy_from_slice(&POD_MAC);
        RIG.with_borrow_mut(|rig| rig.parse(&ours));
    }
}

/// The parsers by themselves: what one of them accepts, its readers can use.
fn wire(data: &[u8]) {
    let Ok(frame) = ethernet::Ethernet::new_checked(data) else { return };
    let packet = frame.payload();
    if let Ok(ip) = ipv4::Ipv4::new_checked(packet) {
        assert!(ip.header().len() + ip.payload().len() <= packet.len());
        assert_eq!(ip.verify_checksum(), checksum::checksum(ip.header()) == 0);
        let _ = ipv4::Ipv4Repr::parse(&ip);
        transport(ip.payload());
        fragments(packet);
        let mut copy = packet.to_vec();
        if let Ok(popped) = ipip::pop(&mut copy) {
            assert!(format!("{popped:?}").len() > 1);
        }
        quote(packet, true);
    }
    if let Ok(ip) = ipv6::Ipv6::new_checked(packet) {
        assert!(ip.total_len() <= packet.len());
        if let Ok(upper) = ipv6_ext::walk(ip.next_header(), ip.payload()) {
            assert!(upper.offset <= ip.payload().len());
            transport(&ip.payload()[upper.offset..]);
        }
        quote(packet, false);
    }
    if let Ok(ask) = arp::ArpRepr::parse(packet) {
        let mut out = [0; arp::PACKET_LEN];
        ask.emit(&mut out).expect("the buffer is as long as ARP");
        assert_eq!(arp::ArpRepr::parse(&out), Ok(ask));
    }
    let _ = ndisc::parse(packet);
}

fn transport(segment: &[u8]) {
    if let Ok(segment) = tcp::Tcp::new_checked(segment) {
        let _ = (segment.options(), segment.payload());
    }
    if let Ok(datagram) = udp::Udp::new_checked(segment) {
        let _ = datagram.payload();
    }
}

/// An ICMP error about the packet is itself a sound packet.
fn quote(packet: &[u8], v4: bool) {
    let mut out = [0; 1600];
    if v4 && icmpv4::may_answer_v4(packet) {
        let (from, to) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let len = icmpv4::emit_error_v4(&mut out, from, to, icmpv4::TIME_EXCEEDED, 0, 0, packet);
        let made = ipv4::Ipv4::new_checked(&out[..len]).expect("what we emit");
        assert!(made.verify_checksum() && len <= 576);
        assert!(icmpv4::Icmpv4::new_checked(made.payload()).expect("what we emit").verify_checksum());
    }
    if !v4 && icmpv6::may_answer_v6(packet) {
        let (from, to) = ("fd00::1".parse().expect("an address"), "fd00::2".parse().expect("an address"));
        let len = icmpv6::emit_error_v6(&mut out, from, to, icmpv6::TIME_EXCEEDED, 0, 0, packet);
        assert!(len <= 1280 && ipv6::Ipv6::new_checked(&out[..len]).is_ok());
    }
}

/// The pieces of a packet are exactly the packet.
fn fragments(packet: &[u8]) {
    let Ok(plan) = encap::fragment::Fragmenter::new(packet, 256) else { return };
    let (all, count) = (plan, plan.count());
    let (mut pieces, mut bytes) = (0, 0);
    for piece in plan {
        let mut header = [0; 60];
        let len = all.emit_header(&piece, &mut header).expect("a header fits 60 bytes");
        assert!(len + all.data(&piece).len() <= 256 || count == 1);
        pieces += 1;
        bytes += all.data(&piece).len();
    }
    let whole = ipv4::Ipv4::new_checked(packet).expect("the plan parsed it").payload().len();
    assert_eq!((pieces, bytes), (count, whole));
}

/// One worker's state and the tables of a router with a pod.
struct Rig {
    tables: Arc<Tables>,
    state: WorkerState,
    burst: Box<Burst>,
}

impl Rig {
    fn new() -> Self {
        let mut router = Router::builder().frames(64).flows(1024).build().expect("memory for 64 frames");
        let pod = PortSpec::pod("pod", encap::MacAddr(POD_MAC), [Ipv4Addr::new(10, 0, 0, 2).into()]);
        router.add_port(pod, vec![Box::new(MemoryPort::with_host(1).0)]).expect("the port is right");
        router.commit().expect("one route fits");
        Rig { tables: router.engine().tables(), state: worker_state(64), burst: Box::default() }
    }

    fn parse(&mut self, data: &[u8]) {
        let Some(mut frame) = self.state.pool.alloc() else { panic!("the parse stage lost a frame") };
        let chunk = self.state.pool.area().chunk_mut(&mut frame);
        let len = data.len().min(chunk.len() - HEADROOM);
        chunk[HEADROOM..HEADROOM + len].copy_from_slice(&data[..len]);
        let pushed = self.burst.push(frame, HEADROOM as u16, len as u16, PortId(0));
        assert_eq!(pushed, Ok(0), "the burst was empty");
        let asked = parse::run(&mut self.burst, &self.tables, &mut self.state);
        for lane in lanes(self.burst.alive) {
            let (meta, bit) = (&self.burst.meta, 1 << lane);
            let end = meta.offset[lane] + meta.len[lane];
            let network = u32::from(meta.l3[lane]) + meta.ip_len[lane];
            assert!(end as usize <= HEADROOM + len, "longer than it came");
            if (asked.arp & bit) == 0 {
                assert_eq!(network, u32::from(end), "the length is that of the IP packet");
                assert!(meta.l4[lane] == 0 || (meta.l3[lane] < meta.l4[lane] && meta.l4[lane] <= end));
            }
            let kinds = [self.burst.v4, self.burst.v6, asked.arp, asked.nd];
            assert_eq!(kinds.iter().filter(|mask| *mask & bit != 0).count(), 1, "one kind each");
            let frame = self.burst.take(lane);
            self.state.pool.free(frame);
        }
        self.burst.clear();
    }
}
