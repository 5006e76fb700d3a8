//! A packet of a known flow: state, time, counters.

use super::atomic::{AtomicU64, Ordering};
#[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
use super::avx512;
use super::entry::FlowId;
use super::error::Invalid;
use super::found::Found;
use super::headers::Headers;
use super::phase::{Phase, Tick};
use super::sctp::{Sctp, SctpPacket};
use super::table::View;
use super::tcp::connection::Connection;
use super::tcp::established::is_plain;
use super::tcp::{Step, Tcp};
use super::{icmp, lanes, protocol};

/// Lanes whose bodies are on their way while one is worked on: as many as a core has misses under way.
const AHEAD: usize = 16;
/// Bits of a counters' word that are bytes; those above are packets.
const PACKETS_SHIFT: u32 = 36;
/// One packet in a counters' word.
pub(super) const PACKET: u64 = 1 << PACKETS_SHIFT;
/// The highest bits of packets and bytes: when they are reached, they go to the word above.
pub(super) const HIGHEST: u64 = 1 << 63 | 1 << (PACKETS_SHIFT - 1);

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
                kind if icmp::asks(number, kind) => {
                    let code = u64::from(headers.seq[lane] & 0xff);
                    Ok((Phase::IcmpUnreplied, [code, 0, 0, 0]))
                }
                kind if icmp::answers(number, kind) => Err(Invalid::IcmpUnasked),
                _ => Err(Invalid::IcmpUntracked),
            },
            _ => Ok((Phase::OtherUnreplied, [0; 4])),
        }
    }

    /// Applies the packets of `mask` to their flows, in their order.
    pub(super) fn track(&self, headers: &Headers, mask: u64, now: Tick, found: &mut Found) {
        let tracked = mask & found.hit & !found.related;
        #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
        if let Some(available) = self.fixed.wide {
            return avx512::track(available, self, headers, tracked, now, found);
        }
        self.track_scalar(headers, tracked, now, found);
    }

    /// The same without vector instructions, of lanes that are hits and no errors.
    pub(super) fn track_scalar(&self, headers: &Headers, tracked: u64, now: Tick, found: &mut Found) {
        let mut ahead = lanes(tracked);
        for lane in ahead.by_ref().take(AHEAD) {
            self.parts.fetch_body(found.flow[lane].entry());
        }
        for lane in lanes(tracked) {
            if let Some(lane) = ahead.next() {
                self.parts.fetch_body(found.flow[lane].entry());
            }
            self.track_one(headers, lane, now, found);
        }
    }

    /// The same, where the bodies have been fetched.
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    #[inline(never)]
    pub(super) fn track_each(&self, headers: &Headers, tracked: u64, now: Tick, found: &mut Found) {
        for lane in lanes(tracked) {
            self.track_one(headers, lane, now, found);
        }
    }

    #[inline(always)]
    fn track_one(&self, headers: &Headers, lane: usize, now: Tick, found: &mut Found) {
        let (id, reply) = (found.flow[lane], found.reply >> lane & 1 != 0);
        let verdicts = match headers.protocol[lane] {
            protocol::TCP => self.settled_segment(headers, lane, id, reply, now),
            protocol::UDP => self.settled_datagram(headers, lane, id, reply, now),
            _ => None,
        };
        match verdicts {
            Some(verdicts) => found.verdicts[lane] = verdicts,
            None => self.apply(headers, lane, now, found),
        }
    }

    /// A datagram that changes nothing of its flow but the counters of its direction, for which nothing is locked: most
    /// of a UDP flow, whose phase is settled and whose time is up to date. Returns the flow's verdicts; nothing where
    /// the flow has to be locked.
    ///
    /// Packets of one direction come to one worker at a time. Where they do not, or where the entry has been given to
    /// another flow within the last instructions, a count is wrong, and nothing else.
    #[inline(always)]
    fn settled_datagram(
        &self,
        headers: &Headers,
        lane: usize,
        id: FlowId,
        reply: bool,
        now: Tick,
    ) -> Option<u64> {
        let entry = self.entry(id.entry())?;
        let state = entry.state();
        let phase = state.phase_number();
        let stays = phase == Phase::UdpReplied as usize || !reply && phase == Phase::UdpUnreplied as usize;
        if !id.is_of(state) || !stays || now.since(state.last_seen()) != 0 {
            return None;
        }
        self.count(id.entry(), reply, headers.len[lane]);
        Some(entry.verdicts())
    }

    /// A segment that changes nothing of its flow but windows and counters, for which only the connection's words are
    /// locked: nearly all of an established connection. Returns the flow's verdicts; nothing where the flow has to be
    /// locked.
    #[inline(always)]
    fn settled_segment(
        &self,
        headers: &Headers,
        lane: usize,
        id: FlowId,
        reply: bool,
        now: Tick,
    ) -> Option<u64> {
        if !is_plain(headers.kind[lane]) {
            return None;
        }
        let entry = self.entry(id.entry())?;
        let (words, counters) = self.protocol(id.entry());
        let connection = Connection(words).try_lock()?;
        if !entry.state().is_settled(id, Phase::TcpEstablished, now) {
            connection.unlock();
            return None;
        }
        let Some(after) = connection.advance(reply, &headers.tcp(lane)) else {
            connection.unlock();
            return None;
        };
        count(counters, reply, headers.len[lane]);
        let verdicts = entry.verdicts();
        connection.unlock_with(after.last);
        Some(verdicts)
    }

    /// Applies a packet to its flow, which is locked for it.
    #[inline(never)]
    fn apply(&self, headers: &Headers, lane: usize, now: Tick, found: &mut Found) {
        let bit = 1 << lane;
        let id = found.flow[lane];
        let Some(entry) = self.entry(id.entry()) else { return };
        let Some(locked) = entry.lock(id) else {
            // Removed since the lookup.
            found.hit &= !bit;
            self.miss(headers, lane, found);
            return;
        };
        found.verdicts[lane] = entry.verdicts();
        let state = locked.state();
        let reply = found.reply & bit != 0;
        let phase = state.phase();
        match self.step(headers, lane, id.entry(), phase, reply) {
            Step::Pass(next) => {
                if next != phase {
                    self.moved(entry, phase, next);
                }
                // Another worker's clock may be ahead.
                let seen = if now.since(state.last_seen()) == 0 { Tick(state.last_seen()) } else { now };
                locked.unlock(next, seen);
            }
            Step::Ignore => locked.unlock_unchanged(),
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

    /// What a packet makes of a flow whose entry is locked. It is counted if it passes.
    #[inline(always)]
    fn step(&self, headers: &Headers, lane: usize, number: u32, phase: Phase, reply: bool) -> Step {
        let len = headers.len[lane];
        let step = match headers.protocol[lane] {
            protocol::TCP => {
                let (words, counters) = self.protocol(number);
                let connection = Connection(words).lock(self.parts.contention());
                let mut tcp = Tcp::unpack(connection.read());
                let step = tcp.segment(phase, reply, &headers.tcp(lane), &self.fixed.tcp);
                if matches!(step, Step::Pass(_) | Step::Ignore) {
                    // While the words are locked: the vector kernel writes the counters of both directions.
                    count(counters, reply, len);
                }
                connection.write(tcp.pack());
                return step;
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
        };
        if matches!(step, Step::Pass(_) | Step::Ignore) {
            self.count(number, reply, len);
        }
        step
    }

    /// The protocol's words of a body, and those of the counters.
    #[inline(always)]
    pub(super) fn protocol(&self, number: u32) -> (&[AtomicU64; 4], &[AtomicU64; 4]) {
        let (halves, _) = self.parts.body(number).as_chunks();
        (&halves[0], &halves[1])
    }

    /// Counts a packet.
    #[inline(always)]
    fn count(&self, number: u32, reply: bool, len: u32) {
        count(self.protocol(number).1, reply, len);
    }

    /// Takes over what has reached the highest bits of a direction's counters.
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    pub(super) fn carry(&self, number: u32, reply: bool) {
        carry(self.protocol(number).1, reply);
    }

    /// Packets and bytes of a flow's two directions.
    pub(super) fn counted(&self, number: u32) -> [Traffic; 2] {
        counted(self.protocol(number).1)
    }
}

/// Counts a packet, in the word of its direction.
#[inline(always)]
fn count(words: &[AtomicU64; 4], reply: bool, len: u32) {
    let word = &words[usize::from(reply)];
    let sum = word.load(Ordering::Relaxed).wrapping_add(PACKET | u64::from(len));
    word.store(sum, Ordering::Relaxed);
    if sum & HIGHEST != 0 {
        carry(words, reply);
    }
}

/// Takes the highest bits of a direction's counters over into its half of the word above, which both directions may do
/// at a time.
#[cold]
#[inline(never)]
fn carry(words: &[AtomicU64; 4], reply: bool) {
    let word = &words[usize::from(reply)];
    let sum = word.load(Ordering::Relaxed);
    word.store(sum & !HIGHEST, Ordering::Relaxed);
    let (packets, bytes) = ((sum >> 63) as u32, (sum >> (PACKETS_SHIFT - 1)) as u32 & 1);
    let shift = if reply { 0 } else { 32 };
    let added = |above: u64| {
        let half = (above >> shift) as u32;
        let half = (half >> 16).wrapping_add(packets) << 16 | half.wrapping_add(bytes) & 0xffff;
        Some(above & !(0xffff_ffff << shift) | u64::from(half) << shift)
    };
    // It always gives a value.
    let _ = words[2].fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
}

fn counted(words: &[AtomicU64; 4]) -> [Traffic; 2] {
    let word = |at: usize| words[at].load(Ordering::Relaxed);
    let above = word(2);
    [(word(0), above >> 32), (word(1), above)].map(|(low, above)| Traffic {
        packets: ((above >> 16 & 0xffff) << (63 - PACKETS_SHIFT)) + (low >> PACKETS_SHIFT),
        bytes: ((above & 0xffff) << (PACKETS_SHIFT - 1)) + (low & (PACKET - 1)),
    })
}

/// The counters' words of a flow after its first packet.
pub(super) fn counted_once(len: u32) -> [u64; 3] {
    [PACKET | u64::from(len), 0, 0]
}

/// What one direction of a flow has carried: up to 2^43 packets and 2^51 bytes, modulo that.
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

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn counters_outgrow_their_words() {
        let words = [0; 4].map(AtomicU64::new);
        // Of 2^32 - 1 bytes each: bytes leave their 36 bits in the 17th.
        let mut expected = [Traffic::default(); 2];
        for (reply, packets) in [(false, 100), (true, 30)] {
            for _ in 0..packets {
                count(&words, reply, u32::MAX);
            }
            expected[usize::from(reply)] = Traffic { packets, bytes: packets * u64::from(u32::MAX) };
        }
        assert_eq!(counted(&words), expected);
        // Just before the packets leave their 28 bits, twice.
        for _ in 0..2 {
            let before = counted(&words)[1];
            let all_packets = ((1 << 63) - PACKET) & !(PACKET - 1);
            words[1].fetch_or(all_packets, Ordering::Relaxed);
            let full = counted(&words)[1];
            count(&words, true, 7);
            let after = counted(&words)[1];
            assert_eq!((after.packets, after.bytes), (full.packets + 1, before.bytes + 7));
            assert_eq!(after.packets % (1 << 27), 0);
            assert_eq!(counted(&words)[0], expected[0]);
        }
    }
}
