//! IPv4 fragmentation where don't-fragment is clear (RFC 791 3.2, RFC 1812 5.2.6).
//!
//! Fragments are fresh frames in the originated burst: they take the same route,
//! and the TTL has been counted down already. The original ends as consumed.

use encap::fragment::{FragmentError, Fragmenter};
use encap::wire::ethernet;

use crate::burst::{Burst, Checksum, Gso};
use crate::drop_reason::DropReason;
use crate::frame::HEADROOM;
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::Tables;

/// Cuts one packet into fragments of at most `mtu` bytes.
#[cold]
pub fn packet(burst: &mut Burst, lane: usize, mtu: u32, tables: &Tables, state: &mut WorkerState) {
    match emit_all(burst, lane, mtu, tables, state) {
        Ok(()) => state.consume(burst, lane),
        Err(reason) => state.drop_packet(burst, lane, reason),
    }
}

fn emit_all(
    burst: &mut Burst,
    lane: usize,
    mtu: u32,
    tables: &Tables,
    state: &mut WorkerState,
) -> Result<(), DropReason> {
    let in_port = burst.meta.in_port[lane];
    if state.pool.area().is_chain(burst.frame(lane)) {
        return Err(DropReason::TooBigForPort);
    }
    // The transport checksum covers all fragments together: finish it first.
    let end = burst.meta.offset[lane] + burst.meta.len[lane];
    let partial = burst.checksum(lane);
    burst.set_offload(lane, Checksum::Complete, Gso::default());
    crate::checksum::complete(state.pool.area(), burst.frame_mut(lane), end, partial);

    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    let area = state.pool.store().area().clone();
    let plan = Fragmenter::new(burst.network(lane, &area), mtu).map_err(|error| match error {
        FragmentError::DontFragment | FragmentError::MtuTooSmall => DropReason::FragmentationNeeded,
        FragmentError::Parse(_) => DropReason::Ipv4Truncated,
    })?;
    state.tracer.note(burst, lane, Stage::Fragment, plan.count() as u32, u32::from(mtu));
    for piece in plan {
        if state.originated.room() == 0 {
            super::originate(tables, state);
        }
        let mut frame = state.fresh_frame().ok_or(DropReason::NoFrame)?;
        let l3 = HEADROOM + ethernet::HEADER_LEN;
        let out = &mut area.chunk_mut(&mut frame)[l3..];
        let data = plan.data(&piece);
        let Ok(header_len) = plan.emit_header(&piece, out) else {
            state.pool.free(frame);
            return Err(DropReason::Ipv4Truncated);
        };
        let total = header_len + data.len();
        out[header_len..total].copy_from_slice(data);
        let pushed =
            state.originated.push(frame, HEADROOM as u16, (ethernet::HEADER_LEN + total) as u16, in_port);
        let Ok(new) = pushed else { return Err(DropReason::NoFrame) };
        let made = &mut state.originated;
        made.meta.l3[new] = l3 as u16;
        made.meta.l4[new] = 0;
        made.meta.protocol[new] = burst.meta.protocol[lane];
        made.meta.ip_len[new] = total as u32;
        made.meta.src4[new] = burst.meta.src4[lane];
        made.meta.dst4[new] = burst.meta.dst4[lane];
        made.meta.rule[new] = burst.meta.rule[lane];
        made.v4 |= 1 << new;
        made.fragments |= 1 << new;
        state.counters.port(in_port).originated.add(1);
    }
    Ok(())
}
