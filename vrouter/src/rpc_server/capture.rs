//! `Capture`: matching packets themselves, as they came in, with what became of them.

use crate::daemon::Node;
use crate::pipeline::trace::Record;
use crate::rpc::v1;
use crate::rpc_server::trace;

/// A record as a captured packet; `snaplen` 0 takes all that was kept.
pub(super) fn show(
    node: &Node,
    record: &Record,
    timestamp_ns: u64,
    missed: u64,
    snaplen: u32,
) -> v1::CapturedPacket {
    let end = trace::end(node, record);
    let mut data = record.bytes().to_vec();
    if snaplen > 0 {
        data.truncate(snaplen as usize);
    }
    v1::CapturedPacket {
        timestamp_ns,
        port: trace::port_name(node, record.in_port),
        direction: v1::Direction::Rx.into(),
        data,
        original_len: record.original_len,
        verdict: end.verdict.into(),
        reason: end.reason.to_owned(),
        out_ports: if end.out_port.is_empty() { Vec::new() } else { vec![end.out_port] },
        missed,
    }
}
