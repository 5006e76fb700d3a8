//! `ListDrops`: why packets were dropped, and where they had come in.

use crate::daemon::Node;
use crate::drop_reason::DropReason;
use crate::ids::{MAX_PORTS, PortId};
use crate::rpc::v1;

/// Dropped packets by reason and port, those of ports that are gone
/// under no port.
pub(super) fn list(node: &Node, include_zero: bool) -> Vec<v1::DropCount> {
    let mut gone = [0; DropReason::COUNT];
    for worker in node.router.workers() {
        for port in (0..MAX_PORTS).map(|number| PortId(number as u16)) {
            for (sum, reason) in gone.iter_mut().zip(DropReason::ALL) {
                *sum += worker.counters.drops(port, *reason).get();
            }
        }
    }
    let mut out = Vec::new();
    let mut add = |port: &str, drops: &[u64; DropReason::COUNT], zero: bool| {
        for (reason, packets) in DropReason::ALL.iter().zip(drops) {
            if *packets > 0 || zero {
                out.push(v1::DropCount {
                    reason: reason.name().to_owned(),
                    description: reason.meaning().to_owned(),
                    port: port.to_owned(),
                    packets: *packets,
                });
            }
        }
    };
    for placement in node.router.placements() {
        let Some(totals) = node.router.port_totals(placement.port) else { continue };
        for (rest, drops) in gone.iter_mut().zip(totals.drops) {
            *rest = rest.saturating_sub(drops);
        }
        add(&placement.name, &totals.drops, include_zero);
    }
    add("", &gone, false);
    out.sort_by(|a, b| {
        b.packets.cmp(&a.packets).then_with(|| (&a.port, &a.reason).cmp(&(&b.port, &b.reason)))
    });
    out
}
