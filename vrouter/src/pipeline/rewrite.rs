//! Stage 10: the Ethernet header of the way out.

use encap::wire::ethernet;

use crate::burst::{Burst, Meta, lanes};
use crate::drop_reason::DropReason;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::vector;

/// Ethertypes as they lie in memory.
const IPV4: u16 = 0x0008;
const IPV6: u16 = 0xdd86;

/// Writes destination, source and type of every packet.
pub fn run(burst: &mut Burst, state: &mut WorkerState) {
    let (alive, v4) = (burst.alive, burst.v4);
    let (frames, meta) = burst.frames_mut();
    begin_at_ethernet(meta, alive, v4);
    let written = state.pool.area().put_links(frames, &meta.offset, alive, &meta.link);
    for lane in lanes(alive & !written) {
        state.drop_packet(burst, lane, DropReason::NoHeadroom);
    }
    for lane in lanes(burst.alive & burst.traced) {
        let mac = (burst.meta.link.front[lane] << 16).swap_bytes();
        state.tracer.note(burst, lane, Stage::Rewrite, (mac >> 32) as u32, mac as u32);
    }
}

vector::widest! {
    /// Makes packets begin where the Ethernet header will be. Where that is in front of the frame,
    /// the place is beyond its end, where nothing is written.
    fn begin_at_ethernet(meta: &mut Meta, alive: u64, v4: u64) {
        vector::each(alive, |lane| {
            let offset = meta.l3[lane].wrapping_sub(ethernet::HEADER_LEN as u16);
            meta.len[lane] = meta.len[lane].wrapping_add(meta.offset[lane]).wrapping_sub(offset);
            meta.offset[lane] = offset;
            meta.link.ethertype[lane] = if v4 >> lane & 1 == 1 { IPV4 } else { IPV6 };
        });
    }
}
