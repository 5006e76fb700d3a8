//! Reports that a tunnel's packets are too long for the path (RFC 1191, RFC 2003 section 4.1).
//!
//! ```text
//!   IPv4   from a router on the path, to our end of a tunnel, on an uplink
//!   ICMP   destination unreachable, fragmentation needed, MTU of its next link
//!   IPv4   what we sent: from our end, to the remote one, IP in IP, longer than that MTU
//! ```
//!
//! Whoever sends such a report must name both ends of a tunnel that is in use, so that strangers
//! cannot shrink what they do not see; what it may shrink it to is control's to judge. Reports
//! that do not pass go where other packets for the node go. Plain packets are not ours: a report
//! about them is for the pod that sent them, and is forwarded like any packet.
//!
//! Routers older than RFC 1191 leave the MTU out. The next lower plateau of its section 7.1 is
//! taken then.

use core::net::Ipv4Addr;

use encap::wire::icmpv4::{CODE_FRAGMENTATION_NEEDED, Icmpv4, UNREACHABLE};
use encap::wire::{ipv4, protocol};

use crate::burst::{Burst, lanes};
use crate::pipeline::state::WorkerState;
use crate::tables::Tables;

/// RFC 1191 section 7.1, the common ones.
const PLATEAUS: [u16; 11] = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// What a router on the path said: both ends of the tunnel, and how long outer packets may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Our end.
    pub local: Ipv4Addr,
    /// The remote end.
    pub remote: Ipv4Addr,
    /// Bytes of the longest outer packet.
    pub mtu: u16,
}

/// Takes the reports among packets for the node itself.
#[cold]
pub fn run(burst: &mut Burst, mask: u64, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(mask & burst.v4) {
        if take(burst, lane, tables, state) {
            state.consume(burst, lane);
        }
    }
}

/// Passes a report on to control; whether the packet is one.
pub fn take(burst: &Burst, lane: usize, tables: &Tables, state: &mut WorkerState) -> bool {
    let meta = &burst.meta;
    let whole = (burst.originated | burst.fragments) >> lane & 1 == 0;
    if !whole || meta.protocol[lane] != protocol::ICMP || !tables.tunnel_peers.is_local(meta.dst4[lane]) {
        return false;
    }
    let port = tables.port(meta.in_port[lane]);
    if !port.is_some_and(|port| port.ends_tunnels()) {
        return false;
    }
    let header_len = usize::from(meta.l4[lane] - meta.l3[lane]);
    let message = burst.network(lane, state.pool.area()).get(header_len..).unwrap_or(&[]);
    let Some(report) = read(message) else { return false };
    let known = report.local == meta.dst4[lane] && tables.tunnel_peers.tunnel(report.remote).is_some();
    if known {
        state.punt.path_mtu(report);
    }
    known
}

/// Reads an ICMP message as a report.
fn read(message: &[u8]) -> Option<Report> {
    let icmp = Icmpv4::new_checked(message).ok()?;
    if (icmp.ty(), icmp.code()) != (UNREACHABLE, CODE_FRAGMENTATION_NEEDED) || !icmp.verify_checksum() {
        return None;
    }
    let sent = ipv4::Ipv4::new_quoted(icmp.payload()).ok()?;
    // Only don't-fragment is answered so; an outer header has it where the inner packet has.
    if sent.protocol() != protocol::IPIP || !sent.dont_fragment() || sent.fragment_offset() != 0 {
        return None;
    }
    let mtu = match icmp.next_hop_mtu() {
        0 => PLATEAUS.into_iter().find(|plateau| *plateau < sent.total_len())?,
        mtu => mtu,
    };
    (mtu < sent.total_len()).then(|| Report { local: sent.src(), remote: sent.dst(), mtu })
}

#[cfg(test)]
mod tests {
    use super::*;
    use encap::wire::{Ipv4Repr, checksum};

    fn quoted(protocol: u8, dont_fragment: bool, len: u16) -> Vec<u8> {
        let header = Ipv4Repr {
            tos: 0,
            id: 1,
            dont_fragment,
            ttl: 60,
            protocol,
            src: [172, 16, 20, 252].into(),
            dst: [172, 16, 20, 253].into(),
            payload_len: len - 20,
        };
        let mut packet = vec![0; usize::from(len)];
        header.emit(&mut packet).unwrap();
        packet.truncate(28);
        packet
    }

    fn report(code: u8, mtu: u16, quoted: &[u8]) -> Vec<u8> {
        let mut message = vec![3, code, 0, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend(quoted);
        let sum = checksum::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    #[test]
    fn both_ends_and_the_mtu_are_read() {
        let sent = quoted(protocol::IPIP, true, 1500);
        let (local, remote) = ([172, 16, 20, 252].into(), [172, 16, 20, 253].into());
        assert_eq!(read(&report(4, 1400, &sent)), Some(Report { local, remote, mtu: 1400 }));
        assert_eq!(read(&report(4, 0, &sent)), Some(Report { local, remote, mtu: 1492 }));
    }

    #[test]
    fn what_is_no_report_is_not_taken_for_one() {
        let sent = quoted(protocol::IPIP, true, 1500);
        for (message, what) in [
            (report(4, 1500, &sent), "the packet would have fitted"),
            (report(1, 1400, &sent), "another code"),
            (report(4, 1400, &quoted(protocol::UDP, true, 1500)), "another protocol"),
            (report(4, 1400, &quoted(protocol::IPIP, false, 1500)), "it could be cut"),
            (report(4, 1400, &sent[..19]), "cut short"),
            (report(4, 0, &quoted(protocol::IPIP, true, 68)), "below all plateaus"),
        ] {
            assert_eq!(read(&message), None, "{what}");
        }
        let mut damaged = report(4, 1400, &sent);
        damaged[7] ^= 1;
        assert_eq!(read(&damaged), None, "checksum");
        assert_eq!(read(&[3, 4, 0]), None);
    }
}
