//! `Trace`: the stages' notes in words.
//!
//! A note is two numbers. Names are looked up when the record is shown, a few
//! milliseconds after the packet; what has changed since is shown by its number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::daemon::Node;
use crate::ids::{AdjacencyId, PortId, VrfId};
use crate::pipeline::trace::{Note, Outcome, Record, Stage};
use crate::rpc::v1;
use crate::tables::{Action, Tables};

/// Bytes of the packet that a trace record carries.
const HEAD: usize = 256;

/// How a packet's way ended.
pub(super) struct End {
    pub(super) verdict: v1::VerdictKind,
    pub(super) reason: &'static str,
    pub(super) out_port: String,
}

/// The end of a record's packet.
pub(super) fn end(node: &Node, record: &Record) -> End {
    let no_port = String::new();
    match record.outcome {
        Outcome::Sent(port) => {
            End { verdict: v1::VerdictKind::Forward, reason: "", out_port: port_name(node, port) }
        }
        Outcome::Dropped(reason) => {
            End { verdict: v1::VerdictKind::Drop, reason: reason.name(), out_port: no_port }
        }
        Outcome::Punted => End { verdict: v1::VerdictKind::Punt, reason: "slow-path", out_port: no_port },
        Outcome::Held => {
            End { verdict: v1::VerdictKind::Punt, reason: "neighbor-pending", out_port: no_port }
        }
        Outcome::Answered => End { verdict: v1::VerdictKind::Punt, reason: "answered", out_port: no_port },
        Outcome::Consumed => match fragments_port(node, record) {
            Some(out_port) => End { verdict: v1::VerdictKind::Forward, reason: "", out_port },
            None => End { verdict: v1::VerdictKind::Punt, reason: "consumed", out_port: no_port },
        },
    }
}

/// The port that a packet's fragments left by, if it was fragmented.
fn fragments_port(node: &Node, record: &Record) -> Option<String> {
    record.notes().find(|note| note.stage == Stage::Fragment)?;
    let lookup = record.notes().find(|note| note.stage == Stage::Lookup)?;
    let tables = node.router.engine().tables();
    let adjacency = tables.adjacencies.get(AdjacencyId(lookup.second).index())?;
    Some(port_name(node, adjacency.port))
}

/// The name of a port; empty where it is gone.
pub(super) fn port_name(node: &Node, port: PortId) -> String {
    node.router.engine().port_name(port).unwrap_or_default().to_owned()
}

/// A record as a trace.
pub(super) fn show(node: &Node, record: &Record, timestamp_ns: u64, missed: u64) -> v1::TraceRecord {
    let end = end(node, record);
    let route = route(node, record);
    let tables = node.router.engine().tables();
    let words = |note: Note| v1::TraceStage {
        stage: stage_name(note.stage).to_owned(),
        note: words(node, &tables, note, &route),
    };
    v1::TraceRecord {
        timestamp_ns,
        port: port_name(node, record.in_port),
        head: record.bytes()[..record.bytes().len().min(HEAD)].to_vec(),
        length: record.original_len,
        stages: record.notes().map(words).collect(),
        verdict: end.verdict.into(),
        reason: end.reason.to_owned(),
        rule: rule(node, record.rule),
        route,
        out_port: end.out_port,
        worker: record.worker.0.into(),
        missed,
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Parse => "parse",
        Stage::Decap => "decap",
        Stage::SourcePolicy => "source-policy",
        Stage::Lookup => "lookup",
        Stage::HostPolicy => "host-policy",
        Stage::DestPolicy => "dest-policy",
        Stage::TtlMtu => "ttl-mtu",
        Stage::Fragment => "fragment",
        Stage::Encap => "encap",
        Stage::Rewrite => "rewrite",
    }
}

fn rule(node: &Node, id: u32) -> String {
    node.router.engine().rule_name(id).unwrap_or_default().to_owned()
}

fn words(node: &Node, tables: &Tables, note: Note, route: &str) -> String {
    match note.stage {
        Stage::Parse => parsed(note.first, note.second),
        Stage::Decap => format!("ipip from {}, {} bytes inside", Ipv4Addr::from(note.first), note.second),
        Stage::SourcePolicy | Stage::HostPolicy | Stage::DestPolicy => {
            let verdict = if note.second == 0 { "allowed" } else { "denied" };
            match rule(node, note.first) {
                name if name.is_empty() => format!("{verdict} by rule {}", note.first),
                name => format!("{verdict} by {name}"),
            }
        }
        Stage::Lookup => {
            let way = way(node, tables, AdjacencyId(note.second));
            if route.is_empty() { format!("group {}: {way}", note.first) } else { format!("{route} {way}") }
        }
        Stage::TtlMtu if note.second == u32::MAX => format!("{} bytes fit", note.first),
        Stage::TtlMtu => format!("{} bytes exceed the MTU of {}", note.first, note.second),
        Stage::Fragment => format!("{} fragments of at most {} bytes", note.first, note.second),
        Stage::Encap => format!("ipip to {}, {} bytes inside", Ipv4Addr::from(note.first), note.second),
        Stage::Rewrite => {
            let mac = u64::from(note.first) << 32 | u64::from(note.second);
            format!("to {}", encap::MacAddr::from_u64(mac))
        }
    }
}

/// What parsing found: the ethertype and, in an IP packet, the transport protocol.
fn parsed(ethertype: u32, protocol: u32) -> String {
    let network = match ethertype {
        0x0800 => "ipv4".to_owned(),
        0x86dd => "ipv6".to_owned(),
        0x0806 => "arp".to_owned(),
        other => format!("ethertype {other:#06x}"),
    };
    match u8::try_from(protocol) {
        Ok(protocol) => format!("{network}, protocol {protocol}"),
        Err(_) => network,
    }
}

/// What an adjacency does, in words.
fn way(node: &Node, tables: &Tables, id: AdjacencyId) -> String {
    let Some(adjacency) = tables.adjacencies.get(id.index()) else {
        return "by a next hop that is gone".to_owned();
    };
    let port = port_name(node, adjacency.port);
    match adjacency.action {
        Action::Drop(reason) => format!("drop {}", reason.name()),
        Action::Receive => "for the router itself".to_owned(),
        Action::Glean => format!("asked for on {port}"),
        Action::Direct => format!("dev {port}"),
        Action::Neighbor(_) => {
            let via = adjacency.next_hop.map(|next_hop| format!("via {next_hop} ")).unwrap_or_default();
            match &adjacency.tunnel {
                Some(outer) => format!("{via}dev {port} ipip to {}", outer.dst()),
                None => format!("{via}dev {port}"),
            }
        }
    }
}

/// The prefix that the packet's destination matched, if the table still says the same.
fn route(node: &Node, record: &Record) -> String {
    let decapsulated = record.notes().any(|note| note.stage == Stage::Decap);
    let engine = node.router.engine();
    let vrf = engine.tables().port(record.in_port).map_or(VrfId::DEFAULT, |port| port.vrf);
    let view = destination(record.bytes(), decapsulated).and_then(|to| engine.route_to(vrf, to));
    match view {
        Some(view) if view.group.is_some_and(|group| group.raw() == record.group) => view.prefix.to_string(),
        _ => String::new(),
    }
}

/// The destination of a frame's packet, or of the packet in its tunnel.
fn destination(frame: &[u8], inner: bool) -> Option<IpAddr> {
    let mut ip = frame.get(14..)?;
    if inner {
        ip = ip.get(usize::from(ip.first()? & 0xf) * 4..)?;
    }
    match ip.first()? >> 4 {
        4 => Some(Ipv4Addr::from(*ip.get(16..)?.first_chunk::<4>()?).into()),
        6 => Some(Ipv6Addr::from(*ip.get(24..)?.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_outside_and_inside_a_tunnel() {
        let mut frame = vec![0; 14];
        frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 4, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2]);
        frame.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(destination(&frame, false), Some("172.16.0.2".parse().unwrap()));
        assert_eq!(destination(&frame, true), Some("10.0.0.2".parse().unwrap()));
        for cut in 0..frame.len() {
            // Cut anywhere, nothing panics.
            let _ = (destination(&frame[..cut], false), destination(&frame[..cut], true));
        }
        let mut six = vec![0; 14];
        six.push(0x60);
        six.extend([0; 23]);
        six.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(destination(&six, false), Some("fd00::1".parse().unwrap()));
    }
}
