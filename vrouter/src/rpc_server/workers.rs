//! `ListWorkers`: forwarding threads, what they own and how busy they are.

use tonic::Status;

use crate::daemon::Node;
use crate::ids::{MAX_PORTS, PortId, WorkerId};
use crate::path_stage::PathStage;
use crate::router::RouterError;
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
            let load = node.worker_load(index);
            v1::Worker {
                id: index as u32,
                core: handle.core.map_or(0, |core| core as u32),
                state: if node.is_stuck(index) {
                    v1::WorkerState::Stuck
                } else if index >= node.router.active_workers() {
                    v1::WorkerState::Stopped
                } else if handle.is_asleep() {
                    v1::WorkerState::Sleeping
                } else {
                    v1::WorkerState::Running
                }
                .into(),
                idle: idle.into(),
                loops: run.loops.get(),
                bursts: run.bursts.get(),
                packets,
                packets_per_burst: load.packets_per_burst,
                busy: load.busy,
                queues: queues(node, WorkerId(index as u16)),
                handed_off: run.handoffs.get(),
                packets_per_second: load.packets_per_second,
                capacity_packets_per_second: load.capacity.map_or(0.0, |known| known.packets_per_second),
                capacity_at_least: load.capacity.is_some_and(|known| known.at_least),
                headroom_mpps: load.headroom().unwrap_or(0.0) / 1e6,
                cycles_per_packet: load.cycles_per_packet(),
                stages: stages(&load.cycles),
            }
        })
        .collect()
}

/// Shares the queues among `count` workers.
pub(super) fn set(node: &mut Node, count: u32) -> Result<v1::SetWorkersReply, Status> {
    let moved = node.router.set_workers(count as usize).map_err(|error| match error {
        RouterError::TooManyWorkers(_) => Status::invalid_argument(error.to_string()),
        error => Status::unavailable(error.to_string()),
    })?;
    tracing::info!("{count} workers, {moved} queues moved");
    Ok(v1::SetWorkersReply { moved: moved as u32, most: node.router.most_workers() as u32 })
}

fn stages(cycles: &[f64; PathStage::COUNT]) -> Vec<v1::StageCycles> {
    let stages = PathStage::ALL.iter().zip(cycles);
    stages
        .map(|(stage, cycles)| v1::StageCycles { stage: stage.name().to_owned(), cycles_per_packet: *cycles })
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
