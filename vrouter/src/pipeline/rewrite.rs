//! Stage 10: the Ethernet header of the way out.

use encap::wire::ethernet;

use crate::burst::{Burst, Meta, are_few, lanes};
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
    if are_few(alive) {
        lanes(alive).for_each(|lane| one(burst, lane, state));
        return;
    }
    let (frames, meta) = burst.frames_mut();
    begin_at_ethernet(meta, alive, v4);
    let written = state.pool.area().put_links(frames, &meta.offset, alive, &meta.link);
    for lane in lanes(alive & !written) {
        state.drop_packet(burst, lane, DropReason::NoHeadroom);
    }
    lanes(burst.alive & burst.traced).for_each(|lane| note(burst, lane, state));
}

/// The same for one packet.
fn one(burst: &mut Burst, lane: usize, state: &mut WorkerState) {
    let ethertype = if burst.v4 >> lane & 1 == 1 { IPV4 } else { IPV6 };
    let meta = &mut burst.meta;
    let offset = meta.l3[lane].wrapping_sub(ethernet::HEADER_LEN as u16);
    meta.len[lane] = meta.len[lane].wrapping_add(meta.offset[lane]).wrapping_sub(offset);
    meta.offset[lane] = offset;
    let (front, back) = (meta.link.front[lane], meta.link.back[lane]);
    let header = state.pool.area().header_mut::<{ ethernet::HEADER_LEN }>(burst.frame_mut(lane), offset);
    let Some(header) = header else {
        state.drop_packet(burst, lane, DropReason::NoHeadroom);
        return;
    };
    header[..8].copy_from_slice(&front.to_le_bytes());
    header[8..12].copy_from_slice(&back.to_le_bytes());
    header[12..].copy_from_slice(&ethertype.to_le_bytes());
    note(burst, lane, state);
}

#[inline]
fn note(burst: &Burst, lane: usize, state: &mut WorkerState) {
    let mac = (burst.meta.link.front[lane] << 16).swap_bytes();
    state.tracer.note(burst, lane, Stage::Rewrite, (mac >> 32) as u32, mac as u32);
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
