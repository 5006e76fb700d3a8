//! Super-packets, for ports that cannot take them: cut into packets of their own.
//!
//! The one place where packet data is copied: from the super-packet's chain of frames into
//! fresh ones. A packet is made, handed to the port and may be on the wire before the next
//! is made, so that few frames serve many packets, and those are warm in the cache.

use encap::segment::{Segment, Segmenter};
use encap::wire::{checksum, ethernet};

use crate::burst::{Checksum, Gso, TxPacket};
use crate::drop_reason::DropReason;
use crate::frame::chain::{Chain, Pieces};
use crate::frame::{Frame, FrameArea, FramePool, HEADROOM};
use crate::port::QueueIo;

/// Hands the packets that `packet` stands for to `send`, one by one and in order, with
/// complete checksums. The super-packet ends as consumed, its packets count as originated.
pub(crate) fn cut(packet: TxPacket, io: &mut QueueIo<'_>, mut send: impl FnMut(TxPacket, &mut QueueIo<'_>)) {
    let area = io.pool.store().area().clone();
    let head = area.bytes(&packet.frame, packet.offset, packet.len);
    let behind = area.chained_bytes(&packet.frame);
    let plan = head.split_at_checked(ethernet::HEADER_LEN).and_then(|(link, network)| {
        Some((link, Segmenter::new(network, network.len() + behind, packet.gso.size).ok()?))
    });
    let Some((link, plan)) = plan else {
        io.drop_tx(packet, DropReason::BadSegmentationOffload);
        return;
    };
    let counters = io.counters.port(packet.in_port);
    counters.consumed.add(1);
    counters.originated.add(plan.count() as u64);
    let first = ethernet::HEADER_LEN + plan.header_len();
    let data_at = packet.offset + first as u16;
    let mut data = Data { pieces: area.pieces(&packet.frame, data_at, packet.len - first as u16), rest: &[] };
    for segment in plan.segments() {
        let Some((frame, len)) = packet_of(&plan, &segment, link, &mut data, &area, io.pool) else {
            io.counters.drops(packet.in_port, DropReason::NoFrame).add(1);
            data.skip(segment.len);
            continue;
        };
        let made = TxPacket {
            frame,
            offset: HEADROOM as u16,
            len,
            in_port: packet.in_port,
            checksum: Checksum::Complete,
            gso: Gso::default(),
        };
        send(made, io);
    }
    io.pool.free(packet.frame);
}

/// One packet in fresh frames, with the bytes in its first; `None` without frames.
#[inline]
fn packet_of(
    plan: &Segmenter<'_>,
    segment: &Segment,
    link: &[u8],
    data: &mut Data<'_>,
    area: &FrameArea,
    pool: &mut FramePool,
) -> Option<(Frame, u16)> {
    let headers_end = HEADROOM + link.len() + plan.header_len();
    let here = segment.len.min(area.frame_size() as usize - headers_end);
    let more = (segment.len - here).div_ceil(area.capacity());
    if pool.stage(1 + more).1.len() < 1 + more {
        return None;
    }
    let mut head = pool.alloc()?;
    let out = area.chunk_mut(&mut head).get_mut(headers_end..headers_end + here)?;
    data.copy(out);
    let mut sum = checksum::sum(out);
    let chunk = area.chunk_mut(&mut head);
    let first_len = (link.len() + plan.header_len() + here) as u16;
    if more == 0 {
        write_headers(plan, segment, link, chunk, sum);
        return Some((head, first_len));
    }
    let mut rest = segment.len - here;
    let mut frames: [Frame; MAX_FRAMES] = [const { Frame::NONE }; MAX_FRAMES];
    for slot in frames.iter_mut().take(more) {
        let mut frame = pool.alloc()?;
        let len = rest.min(area.capacity());
        let out = area.bytes_mut(&mut frame, HEADROOM as u16, len as u16);
        data.copy(out);
        // Every piece but the last is of even length, as headers and frames are.
        sum += checksum::sum(out);
        rest -= len;
        *slot = frame;
    }
    write_headers(plan, segment, link, area.chunk_mut(&mut head), sum);
    let mut chain = Chain::new(head);
    let mut rest = segment.len - here;
    for slot in frames.iter_mut().take(more) {
        let len = rest.min(area.capacity());
        chain.append(area, slot.take(), HEADROOM as u16, len as u16);
        rest -= len;
    }
    Some((chain.finish(), first_len))
}

/// Frames behind the head of the longest packet, of the smallest frames.
const MAX_FRAMES: usize = crate::frame::chain::frames_for(65535, 2048);

#[inline]
fn write_headers(plan: &Segmenter<'_>, segment: &Segment, link: &[u8], chunk: &mut [u8], sum: u64) {
    let (front, headers) = chunk[HEADROOM..].split_at_mut(link.len());
    front.copy_from_slice(link);
    let finished = plan.finish_headers(segment, &mut headers[..plan.header_len()], sum);
    debug_assert!(finished.is_ok(), "the segment is one of the plan's");
}

/// The data of a super-packet, read from start to end.
struct Data<'a> {
    pieces: Pieces<'a>,
    rest: &'a [u8],
}

impl Data<'_> {
    /// Copies the next bytes.
    #[inline]
    fn copy(&mut self, mut out: &mut [u8]) {
        while !out.is_empty() {
            if self.rest.is_empty() {
                let Some(piece) = self.pieces.next() else { return };
                self.rest = piece;
            }
            let len = out.len().min(self.rest.len());
            let (now, rest) = self.rest.split_at(len);
            out[..len].copy_from_slice(now);
            self.rest = rest;
            out = &mut out[len..];
        }
    }

    /// Passes over bytes.
    #[cold]
    fn skip(&mut self, mut len: usize) {
        while len > 0 {
            if self.rest.is_empty() {
                let Some(piece) = self.pieces.next() else { return };
                self.rest = piece;
            }
            let now = len.min(self.rest.len());
            self.rest = &self.rest[now..];
            len -= now;
        }
    }
}
