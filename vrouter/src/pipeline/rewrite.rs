//! Stage 8: the Ethernet header of the way out.

use encap::wire::ethernet::{self, EtherType};

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{Action, NeighborState, Tables};

/// Writes destination, source and type of every packet.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    for lane in lanes(burst.alive) {
        let adjacency = &tables.adjacencies[burst.meta.adjacency[lane].index()];
        let destination = match adjacency.action {
            Action::Neighbor(slot) => match tables.neighbors.get(slot) {
                NeighborState::Usable(mac) => mac,
                // It was usable in `lookup`, within this very burst.
                _ => {
                    state.drop_packet(burst, lane, DropReason::NeighborFailed);
                    continue;
                }
            },
            _ => adjacency.destination_mac,
        };
        let ethertype = if burst.v4 >> lane & 1 == 1 { EtherType::IPV4 } else { EtherType::IPV6 };
        let l3 = burst.meta.l3[lane];
        let offset = l3 - ethernet::HEADER_LEN as u16;
        let end = burst.meta.offset[lane] + burst.meta.len[lane];
        burst.meta.offset[lane] = offset;
        burst.meta.len[lane] = end - offset;
        let area = state.pool.area();
        if let Some(header) = burst.bytes_mut(lane, area).first_chunk_mut::<{ ethernet::HEADER_LEN }>() {
            ethernet::write_header(header, destination, adjacency.source_mac, ethertype);
        }
        let mac = destination.to_u64();
        state.tracer.note(burst, lane, Stage::Rewrite, (mac >> 32) as u32, mac as u32);
    }
}
