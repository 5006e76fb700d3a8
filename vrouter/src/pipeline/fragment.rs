//! IPv4 fragmentation where don't-fragment is clear (RFC 791 3.2, RFC 1812 5.2.6).
//!
//! A super-packet is cut up first, and its segments fragmented, all in order. Fragments are fresh frames
//! in the originated burst: they take the same route, and the TTL has been counted down already. The
//! original ends as consumed.
//!
//! ```text
//!   gathered        | headers | data 0      | data 1      | data 2  |
//!   segment 0       | headers   data 0      |
//!   segment 1       .         | .. | headers  data 1      |            over data that has gone out
//!   segment 2                               | .. | headers  data 2  |
//! ```

use encap::fragment::{FragmentError, Fragmenter};
use encap::segment::Segmenter;
use encap::wire::ethernet;

use crate::burst::{Burst, Checksum, Gso, GsoKind};
use crate::drop_reason::DropReason;
use crate::frame::HEADROOM;
use crate::ids::PortId;
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
    // A fragment is made in one frame.
    let mtu = mtu.min((state.pool.area().capacity() - ethernet::HEADER_LEN) as u32) as u16;
    if burst.gso(lane).kind != GsoKind::None {
        return segment_all(burst, lane, mtu, tables, state);
    }
    let in_port = burst.meta.in_port[lane];
    // The transport checksum covers all fragments together: finish it first.
    let end = burst.meta.offset[lane] + burst.meta.len[lane];
    let partial = burst.checksum(lane);
    burst.set_offload(lane, Checksum::Complete, Gso::default());
    crate::checksum::complete(state.pool.area(), burst.frame_mut(lane), end, partial);

    let area = state.pool.store().area().clone();
    let chained = area.is_chain(burst.frame(lane));
    let gathered = if chained { state.gather(burst, lane, usize::MAX) } else { None };
    let packet = match &gathered {
        Some((bytes, len)) => &bytes[..*len],
        None if chained => return Err(DropReason::TooBigForPort),
        None => burst.network(lane, &area),
    };
    let result = emit_fragments(burst, lane, packet, mtu, in_port, tables, state);
    if let Some((bytes, _)) = gathered {
        state.put_scratch(bytes);
    }
    result
}

fn emit_fragments(
    burst: &Burst,
    lane: usize,
    packet: &[u8],
    mtu: u16,
    in_port: PortId,
    tables: &Tables,
    state: &mut WorkerState,
) -> Result<(), DropReason> {
    let area = state.pool.store().area().clone();
    let plan = Fragmenter::new(packet, mtu).map_err(|error| match error {
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

/// Room for the headers of a segment.
const MOST_HEADERS: usize = 256;

/// Cuts a super-packet into the packets that it stands for, and those that are too long into fragments.
fn segment_all(
    burst: &mut Burst,
    lane: usize,
    mtu: u16,
    tables: &Tables,
    state: &mut WorkerState,
) -> Result<(), DropReason> {
    let (mut packet, len) = state.gather(burst, lane, usize::MAX).ok_or(DropReason::TooBigForPort)?;
    let result = emit_segments(burst, lane, &mut packet[..len], mtu, tables, state);
    state.put_scratch(packet);
    result
}

fn emit_segments(
    burst: &Burst,
    lane: usize,
    packet: &mut [u8],
    mtu: u16,
    tables: &Tables,
    state: &mut WorkerState,
) -> Result<(), DropReason> {
    let in_port = burst.meta.in_port[lane];
    let (mut head, known) = ([0; MOST_HEADERS], packet.len().min(MOST_HEADERS));
    head[..known].copy_from_slice(&packet[..known]);
    let plan = Segmenter::new(&head[..known], packet.len(), burst.gso(lane).size)
        .map_err(|_| DropReason::BadSegmentationOffload)?;
    for segment in plan.segments() {
        // Headers go in front of the data, over what the segments before have sent.
        let whole = &mut packet[segment.offset..segment.offset + plan.header_len() + segment.len];
        let finished = plan.finish(&segment, whole);
        debug_assert!(finished.is_ok(), "the segment is one of the plan's");
        if whole.len() > usize::from(mtu) {
            emit_fragments(burst, lane, whole, mtu, in_port, tables, state)?;
        } else {
            emit_segment(burst, lane, whole, tables, state)?;
        }
    }
    Ok(())
}

/// Sends a segment that fits on as a packet of its own.
fn emit_segment(
    burst: &Burst,
    lane: usize,
    segment: &[u8],
    tables: &Tables,
    state: &mut WorkerState,
) -> Result<(), DropReason> {
    if state.originated.room() == 0 {
        super::originate(tables, state);
    }
    let in_port = burst.meta.in_port[lane];
    let mut frame = state.fresh_frame().ok_or(DropReason::NoFrame)?;
    let l3 = HEADROOM + ethernet::HEADER_LEN;
    let area = state.pool.area();
    area.chunk_mut(&mut frame)[l3..l3 + segment.len()].copy_from_slice(segment);
    let len = (ethernet::HEADER_LEN + segment.len()) as u16;
    let Ok(new) = state.originated.push(frame, HEADROOM as u16, len, in_port) else {
        return Err(DropReason::NoFrame);
    };
    let made = &mut state.originated;
    made.meta.l3[new] = l3 as u16;
    made.meta.l4[new] = l3 as u16 + (burst.meta.l4[lane] - burst.meta.l3[lane]);
    made.meta.protocol[new] = burst.meta.protocol[lane];
    made.meta.ip_len[new] = segment.len() as u32;
    made.meta.src4[new] = burst.meta.src4[lane];
    made.meta.dst4[new] = burst.meta.dst4[lane];
    made.meta.rule[new] = burst.meta.rule[lane];
    made.v4 |= 1 << new;
    state.counters.port(in_port).originated.add(1);
    Ok(())
}
