//! A packet of a known flow: state, time, counters.

use super::atomic::{AtomicU64, Ordering};
use super::error::Invalid;
use super::found::Found;
use super::headers::Headers;
use super::phase::{Phase, Tick};
use super::sctp::{Sctp, SctpPacket};
use super::table::View;
use super::tcp::established::acknowledgment;
use super::tcp::{Step, Tcp};
use super::{icmp, lanes, protocol};

/// Lanes whose bodies are on their way while one is worked on: as many as a core has misses under way.
const AHEAD: usize = 16;
/// Bits of a bytes word; the bits above continue the packets.
const BYTES_BITS: u32 = 52;

impl View<'_> {
    /// Whether a lane's packet may open a flow, if policy lets it.
    #[inline]
    pub(super) fn may_open(&self, headers: &Headers, lane: usize) -> Result<(), Invalid> {
        match (headers.protocol[lane], headers.kind[lane]) {
            (protocol::TCP, flags) => Tcp::may_open(flags, &self.fixed.tcp).map(|_| ()),
            (protocol::UDP, _) => Ok(()),
            _ => self.opening_state(headers, lane).map(|_| ()),
        }
    }

    /// The state of a flow that a lane's packet opens.
    pub(super) fn opening_state(&self, headers: &Headers, lane: usize) -> Result<(Phase, [u64; 4]), Invalid> {
        let number = headers.protocol[lane];
        match number {
            protocol::TCP => {
                let (tcp, phase) = Tcp::open(&headers.tcp(lane), &self.fixed.tcp)?;
                Ok((phase, tcp.pack()))
            }
            protocol::UDP | protocol::UDPLITE => Ok((Phase::UdpUnreplied, [0; 4])),
            protocol::SCTP => {
                let (sctp, phase) = Sctp::open(&sctp_packet(headers, lane), self.fixed.tcp.pick_up)?;
                Ok((phase, sctp.pack()))
            }
            _ if icmp::is(number) => match headers.kind[lane] {
                kind if icmp::asks(number, kind) => Ok((Phase::IcmpUnreplied, [0; 4])),
                kind if icmp::answers(number, kind) => Err(Invalid::IcmpUnasked),
                _ => Err(Invalid::IcmpUntracked),
            },
            _ => Ok((Phase::OtherUnreplied, [0; 4])),
        }
    }

    /// Applies the packets of `mask` to their flows.
    pub(super) fn track(&self, headers: &Headers, mask: u64, now: Tick, found: &mut Found) {
        let tracked = mask & found.hit & !found.related;
        let mut ahead = lanes(tracked);
        for lane in ahead.by_ref().take(AHEAD) {
            self.parts.fetch_body(found.flow[lane].entry());
        }
        for lane in lanes(tracked) {
            if let Some(lane) = ahead.next() {
                self.parts.fetch_body(found.flow[lane].entry());
            }
            let bit = 1 << lane;
            let id = found.flow[lane];
            let Some(entry) = self.entry(id.entry()) else { continue };
            let Some(locked) = entry.lock(id) else {
                // Removed since the lookup.
                found.hit &= !bit;
                self.miss(headers, lane, found);
                continue;
            };
            found.verdicts[lane] = entry.verdicts();
            let state = locked.state();
            let reply = found.reply & bit != 0;
            let phase = state.phase();
            match self.step(headers, lane, id.entry(), phase, reply) {
                Step::Pass(next) => {
                    self.count(id.entry(), reply, headers.len[lane]);
                    if next != phase {
                        self.moved(entry, phase, next);
                    }
                    // Another worker's clock may be ahead.
                    let seen = if now.since(state.last_seen()) == 0 { Tick(state.last_seen()) } else { now };
                    locked.unlock(next, seen);
                }
                Step::Ignore => {
                    self.count(id.entry(), reply, headers.len[lane]);
                    locked.unlock_unchanged();
                }
                Step::Drop(reason) => {
                    locked.unlock_unchanged();
                    found.refuse(lane, reason);
                }
                Step::Reopen => {
                    locked.unlock_unchanged();
                    found.hit &= !bit;
                    found.first |= bit;
                    found.reopens |= bit;
                }
            }
        }
    }

    /// What a packet makes of a flow whose entry is locked.
    #[inline(always)]
    fn step(&self, headers: &Headers, lane: usize, number: u32, phase: Phase, reply: bool) -> Step {
        match headers.protocol[lane] {
            protocol::TCP => {
                let (words, _) = self.protocol(number);
                let before = core::array::from_fn(|at| words[at].load(Ordering::Relaxed));
                let segment = headers.tcp(lane);
                if phase == Phase::TcpEstablished
                    && let Some(after) = acknowledgment(before, reply, &segment)
                {
                    words.iter().zip(after).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
                    return Step::Pass(phase);
                }
                let mut tcp = Tcp::unpack(before);
                let step = tcp.segment(phase, reply, &segment, &self.fixed.tcp);
                words.iter().zip(tcp.pack()).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
                step
            }
            protocol::UDP | protocol::UDPLITE => Step::Pass(if reply { Phase::UdpReplied } else { phase }),
            protocol::SCTP => {
                let (words, _) = self.protocol(number);
                let mut sctp = Sctp::unpack(core::array::from_fn(|at| words[at].load(Ordering::Relaxed)));
                let step = sctp.packet(phase, reply, &sctp_packet(headers, lane));
                words[0].store(sctp.pack()[0], Ordering::Relaxed);
                step
            }
            protocol::ICMP | protocol::ICMPV6 => Step::Pass(if reply { Phase::IcmpReplied } else { phase }),
            _ => Step::Pass(if reply { Phase::OtherReplied } else { phase }),
        }
    }

    /// The protocol's words of a body, and those of the counters.
    #[inline(always)]
    fn protocol(&self, number: u32) -> (&[AtomicU64; 4], &[AtomicU64; 4]) {
        let (halves, _) = self.parts.body(number).as_chunks();
        (&halves[0], &halves[1])
    }

    /// Counts a packet.
    #[inline(always)]
    fn count(&self, number: u32, reply: bool, len: u32) {
        let (_, words) = self.protocol(number);
        let bytes = &words[usize::from(reply)];
        let shift = if reply { 0 } else { 32 };
        let old = words[2].load(Ordering::Relaxed);
        // Neither half carries into the other.
        let one_more = ((old >> shift) as u32).wrapping_add(1);
        let carry = u64::from(one_more == 0) << BYTES_BITS;
        words[2].store(old & !(0xffff_ffff << shift) | u64::from(one_more) << shift, Ordering::Relaxed);
        let sum = bytes.load(Ordering::Relaxed).wrapping_add(u64::from(len)).wrapping_add(carry);
        bytes.store(sum, Ordering::Relaxed);
    }

    /// Packets and bytes of a flow's two directions.
    pub(super) fn counted(&self, number: u32) -> [Traffic; 2] {
        let (_, words) = self.protocol(number);
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        let packets = word(2);
        [(word(0), packets >> 32), (word(1), packets & 0xffff_ffff)].map(|(bytes, low)| Traffic {
            packets: (bytes >> BYTES_BITS) << 32 | low,
            bytes: bytes & ((1 << BYTES_BITS) - 1),
        })
    }
}

/// The counters' words of a flow after its first packet.
pub(super) fn counted_once(len: u32) -> [u64; 3] {
    [u64::from(len), 0, 1 << 32]
}

/// What one direction of a flow has carried: up to 2^44 packets and 2^52 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of IP packets.
    pub bytes: u64,
}

fn sctp_packet(headers: &Headers, lane: usize) -> SctpPacket {
    SctpPacket { chunk: headers.kind[lane], tag: headers.seq[lane], initiate_tag: headers.ack[lane] }
}
