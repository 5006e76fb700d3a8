//! Side exit: ICMP errors about packets that cannot go on.
//!
//! Limited by a token bucket (RFC 1812 4.3.2.8, RFC 4443 2.4(f)), never about the
//! packets that RFC 1122 3.2.2 and RFC 4443 2.4(e) name, quoting as much as fits in
//! 576 or 1280 bytes. The error is a fresh frame in the originated burst; the
//! packet itself stays with the caller, who drops it.

use encap::segment::Segmenter;
use encap::wire::{checksum, ethernet, icmpv4, icmpv6};

use crate::burst::{Burst, GsoKind};
use crate::frame::HEADROOM;
use crate::ids::Timestamp;
use crate::pipeline::parse::offload;
use crate::pipeline::state::WorkerState;
use crate::tables::Tables;

/// Why a destination cannot be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreachable {
    /// No route.
    Net,
    /// The last hop does not answer.
    Host,
    /// Forbidden by the administrator.
    Prohibited,
    /// Nothing of ours takes the protocol.
    Protocol,
    /// Nothing of ours listens on the port.
    Port,
}

impl Unreachable {
    /// (type, code) in ICMP (RFC 792, RFC 1812 5.2.7.1).
    const fn v4(self) -> (u8, u8) {
        let code = match self {
            Unreachable::Net => 0,
            Unreachable::Host => 1,
            Unreachable::Protocol => 2,
            Unreachable::Port => 3,
            Unreachable::Prohibited => 13,
        };
        (icmpv4::UNREACHABLE, code)
    }

    /// (type, code, pointer) in ICMPv6 (RFC 4443 3.1, 3.4).
    const fn v6(self) -> (u8, u8, u32) {
        match self {
            Unreachable::Net => (icmpv6::UNREACHABLE, 0, 0),
            Unreachable::Prohibited => (icmpv6::UNREACHABLE, 1, 0),
            Unreachable::Host => (icmpv6::UNREACHABLE, 3, 0),
            Unreachable::Port => (icmpv6::UNREACHABLE, 4, 0),
            // Unrecognised next header, at the header's own next-header field.
            Unreachable::Protocol => (icmpv6::PARAMETER_PROBLEM, 1, 6),
        }
    }
}

/// A token bucket: `BURST` errors at once, `RATE` a second in the long run.
#[derive(Debug, Default)]
pub struct TokenBucket {
    /// Nanoseconds' worth of credit that is used up, at time `at`.
    used_ns: u64,
    at: Timestamp,
}

impl TokenBucket {
    /// Errors a second and worker.
    pub const RATE: u64 = 1000;
    /// Errors at once.
    pub const BURST: u64 = 100;
    const COST_NS: u64 = 1_000_000_000 / Self::RATE;

    /// Takes a token; `false` when none is left at `now`.
    pub fn take(&mut self, now: Timestamp) -> bool {
        let passed = now.since(self.at).as_nanos() as u64;
        self.used_ns = self.used_ns.saturating_sub(passed);
        self.at = now;
        if self.used_ns + Self::COST_NS > Self::BURST * Self::COST_NS {
            return false;
        }
        self.used_ns += Self::COST_NS;
        true
    }
}

/// Answers "destination unreachable".
#[cold]
pub fn unreachable(burst: &Burst, lane: usize, why: Unreachable, tables: &Tables, state: &mut WorkerState) {
    let (kind6, code6, rest6) = why.v6();
    let (kind4, code4) = why.v4();
    send(burst, lane, (kind4, code4, 0), (kind6, code6, rest6), tables, state);
}

/// Answers "time exceeded in transit".
#[cold]
pub fn time_exceeded(burst: &Burst, lane: usize, tables: &Tables, state: &mut WorkerState) {
    send(burst, lane, (icmpv4::TIME_EXCEEDED, 0, 0), (icmpv6::TIME_EXCEEDED, 0, 0), tables, state);
}

/// Answers "fragmentation needed" (RFC 1191 4) or "packet too big" with the MTU that fits.
#[cold]
pub fn too_big(burst: &Burst, lane: usize, mtu: u32, tables: &Tables, state: &mut WorkerState) {
    let mtu4 = mtu.min(0xffff);
    send(burst, lane, (icmpv4::UNREACHABLE, 4, mtu4), (icmpv6::PACKET_TOO_BIG, 0, mtu), tables, state);
}

fn send(
    burst: &Burst,
    lane: usize,
    v4: (u8, u8, u32),
    v6: (u8, u8, u32),
    tables: &Tables,
    state: &mut WorkerState,
) {
    if burst.originated >> lane & 1 == 1 {
        return;
    }
    let is_v4 = burst.v4 >> lane & 1 == 1;
    let packet = burst.network(lane, state.pool.area());
    let may = if is_v4 { icmpv4::may_answer_v4(packet) } else { icmpv6::may_answer_v6(packet) };
    if !may {
        return;
    }
    // The limit comes first, so that a flood of what is too long costs no copies.
    if state.originated.room() == 0 || !state.icmp_limit.take(state.now) {
        state.counters.run.icmp_suppressed.add(1);
        return;
    }
    if burst.gso(lane).kind == GsoKind::None {
        about(burst, lane, None, v4, v6, tables, state);
        return;
    }
    // The sender's packet is the first segment, as it would have met the obstacle.
    match first_segment(burst, lane, state) {
        Some(first) => about(burst, lane, Some(&first), v4, v6, tables, state),
        None => state.counters.run.icmp_suppressed.add(1),
    }
}

/// Bytes that an error quotes at most (RFC 4443 2.4 (c)).
const QUOTED: usize = 1280;

/// The first bytes of a super-packet's first segment, whose checksum takes all of it.
fn first_segment(burst: &Burst, lane: usize, state: &mut WorkerState) -> Option<[u8; QUOTED]> {
    let gso = burst.gso(lane);
    let headers = offload::headers_len(burst, lane, gso, state.pool.area()) as usize;
    let (packet, len) = state.gather(burst, lane, headers + usize::from(gso.size))?;
    let first = cut(&packet[..len], burst.meta.ip_len[lane] as usize, gso.size);
    state.put_scratch(packet);
    first
}

/// The first bytes of the first segment of a packet of `len` bytes that begins as `start` does.
fn cut(start: &[u8], len: usize, size: u16) -> Option<[u8; QUOTED]> {
    let plan = Segmenter::new(start, len, size).ok()?;
    let segment = plan.segments().next()?;
    let (header_len, mut first) = (plan.header_len(), [0; QUOTED]);
    let data = start.get(header_len..header_len + segment.len)?;
    plan.finish_headers(&segment, first.get_mut(..header_len)?, checksum::sum(data)).ok()?;
    let here = data.len().min(QUOTED - header_len);
    first[header_len..header_len + here].copy_from_slice(&data[..here]);
    Some(first)
}

/// Sends an error about the packet itself, or about what `instead` holds.
fn about(
    burst: &Burst,
    lane: usize,
    instead: Option<&[u8]>,
    v4: (u8, u8, u32),
    v6: (u8, u8, u32),
    tables: &Tables,
    state: &mut WorkerState,
) {
    let is_v4 = burst.v4 >> lane & 1 == 1;
    let Some(mut frame) = state.fresh_frame() else {
        state.counters.run.icmp_suppressed.add(1);
        return;
    };
    let area = state.pool.area();
    let about = instead.unwrap_or(burst.network(lane, area));
    let l3 = HEADROOM + ethernet::HEADER_LEN;
    let out = &mut area.chunk_mut(&mut frame)[l3..];
    let mut made_to4 = core::net::Ipv4Addr::UNSPECIFIED;
    let mut made_to6 = core::net::Ipv6Addr::UNSPECIFIED;
    let in_port = burst.meta.in_port[lane];
    let (source4, source6) = tables.icmp_sources(in_port);
    let len = if is_v4 {
        made_to4 = core::net::Ipv4Addr::from(burst.meta.src4[lane]);
        let (kind, code, rest) = v4;
        icmpv4::emit_error_v4(out, source4, made_to4, kind, code, rest, about)
    } else {
        let mut octets = [0; 16];
        octets.copy_from_slice(&about[8..24]);
        made_to6 = octets.into();
        let (kind, code, rest) = v6;
        icmpv6::emit_error_v6(out, source6, made_to6, kind, code, rest, about)
    };
    if len == 0 {
        state.pool.free(frame);
        return;
    }
    let pushed = state.originated.push(frame, HEADROOM as u16, (ethernet::HEADER_LEN + len) as u16, in_port);
    let Ok(new) = pushed else { return };
    let made = &mut state.originated;
    made.meta.l3[new] = l3 as u16;
    made.meta.l4[new] = (l3 + if is_v4 { 20 } else { 40 }) as u16;
    made.meta.protocol[new] = if is_v4 { encap::wire::protocol::ICMP } else { encap::wire::protocol::ICMPV6 };
    made.meta.ip_len[new] = len as u32;
    made.meta.src4[new] = u32::from(source4);
    made.meta.dst4[new] = made_to4;
    made.meta.dst6[new] = made_to6;
    made.v4 |= u64::from(is_v4) << new;
    made.v6 |= u64::from(!is_v4) << new;
    state.counters.port(in_port).originated.add(1);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_queue::ArrayQueue;
    use encap::wire::{Ipv4Repr, protocol};

    use super::*;
    use crate::burst::{Checksum, Gso};
    use crate::counters::WorkerCounters;
    use crate::frame::{FrameArea, FramePool, FrameStore};
    use crate::ids::PortId;
    use crate::pipeline::flow_log::FlowLog;
    use crate::pipeline::punt::PuntSender;
    use crate::tables::{NeighborTable, PolicyTables, flow_table};

    #[test]
    fn the_bucket_limits_bursts_and_rate() {
        let mut bucket = TokenBucket::default();
        let start = Timestamp::from_millis(5_000);
        assert_eq!((0..1000).filter(|_| bucket.take(start)).count() as u64, TokenBucket::BURST);
        let later = Timestamp(start.0 + 10_000_000);
        assert_eq!((0..1000).filter(|_| bucket.take(later)).count() as u64, TokenBucket::RATE / 100);
    }

    fn state() -> WorkerState {
        WorkerState::new(
            FramePool::new(FrameStore::new(FrameArea::new(16, 2048).unwrap())),
            Arc::new(WorkerCounters::default()),
            PuntSender::new(Arc::new(ArrayQueue::new(4))),
            Arc::new(ArrayQueue::new(4)),
            FlowLog::new(Arc::new(ArrayQueue::new(4))),
            Vec::new(),
            1,
        )
    }

    fn tables() -> Tables {
        let policy = acl::Engine::new();
        let policy = PolicyTables {
            in_use: false,
            hosts: false,
            untracked: false,
            classes4: policy.trie(acl::model::Family::V4).clone(),
            classes6: policy.trie(acl::model::Family::V6).clone(),
            generations: Arc::new([]),
            flows: Arc::new(flow_table(64).unwrap()),
        };
        let (fib4, fib6) = (fib::FibWriter::new(), fib::FibWriter::new());
        Tables::empty(fib4.reader(), fib6.reader(), Arc::new(NeighborTable::new()), policy)
    }

    /// A TCP super-packet of 1400 bytes of data for segments of 500.
    fn super_packet(state: &mut WorkerState) -> Burst {
        const DATA: usize = 1400;
        let mut frame = state.fresh_frame().unwrap();
        let l3 = HEADROOM + ethernet::HEADER_LEN;
        let len = 40 + DATA;
        let chunk = state.pool.area().chunk_mut(&mut frame);
        chunk[l3..l3 + len].fill(0xaa);
        let (src, dst) = ([10, 1, 0, 1].into(), [10, 2, 0, 9].into());
        let payload_len = 20 + DATA as u16;
        let header = Ipv4Repr {
            tos: 0,
            id: 1,
            dont_fragment: true,
            ttl: 9,
            protocol: protocol::TCP,
            src,
            dst,
            payload_len,
        };
        header.emit(&mut chunk[l3..]).unwrap();
        chunk[l3 + 32] = 0x50;
        let mut burst = Burst::default();
        let link = (ethernet::HEADER_LEN + len) as u16;
        let lane = burst.push(frame, HEADROOM as u16, link, PortId(0)).unwrap();
        let l4 = l3 as u16 + 20;
        (burst.meta.l3[lane], burst.meta.l4[lane]) = (l3 as u16, l4);
        (burst.meta.ip_len[lane], burst.meta.protocol[lane]) = (len as u32, protocol::TCP);
        (burst.meta.src4[lane], burst.meta.dst4[lane]) = (u32::from(src), dst);
        burst.v4 |= 1 << lane;
        let left = Checksum::Partial { start: l4, field: 16 };
        burst.set_offload(lane, left, Gso { kind: GsoKind::Tcp4, size: 500 });
        burst
    }

    #[test]
    fn of_a_super_packet_no_more_than_its_first_segment_is_copied_and_only_within_the_limit() {
        let tables = tables();
        let mut state = state();
        state.now = Timestamp::from_millis(5_000);
        let burst = super_packet(&mut state);
        let copied = |state: &mut WorkerState| {
            let (scratch, len) = state.gather(&burst, 0, 0).unwrap();
            let copied = scratch.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            state.put_scratch(scratch);
            assert_eq!(len, 0);
            copied
        };
        state.icmp_limit = TokenBucket { used_ns: 100_000_000, at: state.now };
        too_big(&burst, 0, 400, &tables, &mut state);
        assert_eq!((state.counters.run.icmp_suppressed.get(), copied(&mut state)), (1, 0));

        state.icmp_limit = TokenBucket::default();
        too_big(&burst, 0, 400, &tables, &mut state);
        assert_eq!((state.counters.run.icmp_suppressed.get(), copied(&mut state)), (1, 20 + 20 + 500));
        assert_eq!(state.originated.alive.count_ones(), 1);
        let error = state.originated.network(0, state.pool.area());
        assert_eq!(error[20..22], [3, 4]);
        assert_eq!(error[30..32], 540u16.to_be_bytes(), "the segment's length is quoted");

        // Without room to copy to, the error is one that is not sent.
        let scratch = state.gather(&burst, 0, 0).unwrap();
        too_big(&burst, 0, 400, &tables, &mut state);
        assert_eq!(state.counters.run.icmp_suppressed.get(), 2);
        state.put_scratch(scratch.0);
    }
}
