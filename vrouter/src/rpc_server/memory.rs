//! `Memory`: where the packet frames are, and what else takes space.

use crate::daemon::Node;
use crate::daemon::plan::resident_bytes;
use crate::rpc::v1;

/// The node's memory. What ports and workers hold is as of their last survey, at most
/// a second ago; what they do not account for is under way.
pub(super) fn memory(node: &Node) -> v1::MemoryReply {
    let store = node.router.frames();
    let area = store.area();
    let mut held = Vec::new();
    let mut add = |place: String, frames: u64| {
        if frames > 0 {
            held.push(v1::HeldFrames { place, frames });
        }
    };
    for placement in node.router.placements() {
        let lent = node.router.port_totals(placement.port).map_or(0, |totals| totals.lent_frames);
        add(format!("port {}", placement.name), lent);
    }
    let mut waiting = 0;
    for (index, worker) in node.router.workers().iter().enumerate() {
        add(format!("worker {index}"), worker.counters.run.free_frames.get());
        waiting += worker.counters.run.held.get();
    }
    add("neighbor queues".to_owned(), waiting);
    let (total, free) = (u64::from(area.count()), store.free_frames() as u64);
    let known: u64 = held.iter().map(|held| held.frames).sum();
    let rest = total.saturating_sub(free + known);
    if rest > 0 {
        held.push(v1::HeldFrames { place: "under way".to_owned(), frames: rest });
    }
    v1::MemoryReply {
        frames_total: total,
        frames_free: free,
        held,
        frame_size: area.frame_size(),
        area_bytes: area.mapped_bytes() as u64,
        huge_page_bytes: area.huge_page_bytes() as u64,
        fib_bytes: node.router.engine().fib_bytes() as u64,
        rss_bytes: resident_bytes(),
    }
}
