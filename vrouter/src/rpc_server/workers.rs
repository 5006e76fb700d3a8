//! `ListWorkers`: forwarding threads, what they own and how busy they are.

use crate::daemon::Node;
use crate::ids::{MAX_PORTS, PortId, WorkerId};
use crate::rpc::v1;
use crate::worker::idle::IdleMode;

/// All workers.
pub(super) fn list(node: &Node) -> Vec<v1::Worker> {
    let idle = match node.router.idle_mode() {
        IdleMode::Poll => v1::IdleMode::Poll,
        IdleMode::Adaptive => v1::IdleMode::Adaptive,
        IdleMode::Interrupt => v1::IdleMode::Interrupt,
    };
    let handles = node.router.workers().iter().enumerate();
    handles
        .map(|(index, handle)| {
            let run = &handle.counters.run;
            let packets: u64 =
                (0..MAX_PORTS).map(|port| handle.counters.port(PortId(port as u16)).rx_packets.get()).sum();
            let bursts = run.bursts.get();
            v1::Worker {
                id: index as u32,
                core: handle.core.map_or(0, |core| core as u32),
                state: if node.is_stuck(index) {
                    v1::WorkerState::Stuck
                } else if handle.is_asleep() {
                    v1::WorkerState::Sleeping
                } else {
                    v1::WorkerState::Running
                }
                .into(),
                idle: idle.into(),
                loops: run.loops.get(),
                bursts,
                packets,
                packets_per_burst: if bursts == 0 { 0.0 } else { packets as f64 / bursts as f64 },
                busy: node.busy_share(index),
                queues: queues(node, WorkerId(index as u16)),
                handed_off: run.handoffs.get(),
            }
        })
        .collect()
}

fn queues(node: &Node, worker: WorkerId) -> Vec<v1::QueueRef> {
    let placements = node.router.placements().iter();
    placements
        .flat_map(|placement| {
            let owned = placement.queues.iter().enumerate().filter(move |(_, owner)| **owner == worker);
            owned.map(|(queue, _)| v1::QueueRef { port: placement.name.clone(), queue: queue as u32 })
        })
        .collect()
}
