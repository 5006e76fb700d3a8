//! How far a flow has come, and how long it may then be silent.
//!
//! The defaults are Calico's (felix `bpf/conntrack/timeouts`): a SYN 20 s, established 1 h, both FINs 30 s, reset
//! 40 s, UDP 60 s, ICMP 5 s, everything else 10 min. A flow's timer starts again with each of its packets.

use super::error::LayoutError;

/// Ticks of the table's clock in a second.
pub const TICKS_PER_SECOND: u32 = 8;

/// A moment, in ticks of an eighth of a second since any fixed moment, modulo 2^24 (24 days). A worker reads the clock
/// once a burst. Workers may disagree by a few ticks. A successor process must count from the same moment, as
/// CLOCK_BOOTTIME does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick(pub(super) u32);

impl Tick {
    const BITS: u32 = 24;
    pub(super) const MASK: u32 = (1 << Self::BITS) - 1;
    /// The longest time that is told apart from the past.
    pub(super) const MAX_AGE: u32 = Self::MASK >> 1;

    /// The tick of a moment given in milliseconds.
    #[inline]
    pub const fn from_millis(millis: u64) -> Self {
        Tick((millis * TICKS_PER_SECOND as u64 / 1000) as u32 & Self::MASK)
    }

    /// The tick that an entry keeps.
    pub(super) const fn of(word: u32) -> Self {
        Tick(word & Self::MASK)
    }

    /// Ticks from `earlier` to now; 0 where `earlier` is the later one (another worker's clock).
    #[inline]
    pub(super) const fn since(self, earlier: u32) -> u32 {
        let age = self.0.wrapping_sub(earlier) & Self::MASK;
        if age > Self::MAX_AGE { 0 } else { age }
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// No flow: the entry is free. Never seen outside.
    Free = 0,
    /// TCP: a SYN was seen.
    TcpSynSent = 1,
    /// TCP: SYNs from both sides (simultaneous open).
    TcpSynSentBoth = 2,
    /// TCP: SYN and SYN-ACK.
    TcpSynReceived = 3,
    /// TCP: seen in the middle, from one side only.
    TcpPickedUp = 4,
    /// TCP: the handshake is complete.
    TcpEstablished = 5,
    /// TCP: one side has sent a FIN.
    TcpFinWait = 6,
    /// TCP: the FIN of one side is acknowledged; the other may go on sending.
    TcpCloseWait = 7,
    /// TCP: both FINs seen.
    TcpLastAck = 8,
    /// TCP: both FINs acknowledged.
    TcpTimeWait = 9,
    /// TCP: reset.
    TcpClosed = 10,
    /// UDP: no answer yet.
    UdpUnreplied = 11,
    /// UDP: both sides have sent.
    UdpReplied = 12,
    /// ICMP echo: no answer yet.
    IcmpUnreplied = 13,
    /// ICMP echo: answered.
    IcmpReplied = 14,
    /// SCTP: INIT to COOKIE-ECHO.
    SctpSetup = 15,
    /// SCTP: COOKIE-ACK seen.
    SctpEstablished = 16,
    /// SCTP: shutting down.
    SctpShutdown = 17,
    /// SCTP: shut down or aborted.
    SctpClosed = 18,
    /// Another protocol: no answer yet.
    OtherUnreplied = 19,
    /// Another protocol: both sides have sent.
    OtherReplied = 20,
    /// The first answer was a refusal: the flow ends with this tick.
    Refused = 21,
}

impl Phase {
    /// Number of phases.
    pub(super) const COUNT: usize = 22;

    /// Every phase, by number.
    pub const ALL: [Phase; Self::COUNT] = [
        Phase::Free,
        Phase::TcpSynSent,
        Phase::TcpSynSentBoth,
        Phase::TcpSynReceived,
        Phase::TcpPickedUp,
        Phase::TcpEstablished,
        Phase::TcpFinWait,
        Phase::TcpCloseWait,
        Phase::TcpLastAck,
        Phase::TcpTimeWait,
        Phase::TcpClosed,
        Phase::UdpUnreplied,
        Phase::UdpReplied,
        Phase::IcmpUnreplied,
        Phase::IcmpReplied,
        Phase::SctpSetup,
        Phase::SctpEstablished,
        Phase::SctpShutdown,
        Phase::SctpClosed,
        Phase::OtherUnreplied,
        Phase::OtherReplied,
        Phase::Refused,
    ];

    /// The phase with this number; numbers without one (damaged memory) count as free.
    #[inline]
    pub(super) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Phase::Free)
    }

    /// Whether nobody would miss the flow much: the other side has not agreed to it yet, or it has ended. Such flows
    /// may be evicted, and are counted against the endpoint that they concern.
    #[inline]
    pub const fn is_evictable(self) -> bool {
        (HALF_OPEN | ENDED) >> self as u8 & 1 != 0
    }

    /// Whether the flow has ended and only waits for stragglers.
    #[inline]
    pub const fn has_ended(self) -> bool {
        ENDED >> self as u8 & 1 != 0
    }
}

const HALF_OPEN: u32 = 1 << Phase::TcpSynSent as u8
    | 1 << Phase::TcpSynSentBoth as u8
    | 1 << Phase::TcpSynReceived as u8
    | 1 << Phase::TcpPickedUp as u8
    | 1 << Phase::UdpUnreplied as u8
    | 1 << Phase::IcmpUnreplied as u8
    | 1 << Phase::SctpSetup as u8
    | 1 << Phase::OtherUnreplied as u8;
const ENDED: u32 = 1 << Phase::TcpLastAck as u8
    | 1 << Phase::TcpTimeWait as u8
    | 1 << Phase::TcpClosed as u8
    | 1 << Phase::SctpClosed as u8
    | 1 << Phase::Refused as u8;

/// How long a flow may be silent, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timers {
    /// TCP before the handshake is complete, and picked up in the middle without an answer.
    pub tcp_syn: u32,
    /// TCP, established; also with one side closed, since the other may go on (RFC 9293 3.6, half-close).
    pub tcp_established: u32,
    /// TCP, both FINs seen.
    pub tcp_fin: u32,
    /// TCP, reset.
    pub tcp_reset: u32,
    /// UDP without an answer.
    pub udp_unreplied: u32,
    /// UDP, answered.
    pub udp: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// SCTP before COOKIE-ACK and after SHUTDOWN or ABORT.
    pub sctp_setup: u32,
    /// SCTP, established.
    pub sctp_established: u32,
    /// Every other protocol.
    pub other: u32,
}

impl Default for Timers {
    fn default() -> Self {
        Timers {
            tcp_syn: 20,
            tcp_established: 3600,
            tcp_fin: 30,
            tcp_reset: 40,
            udp_unreplied: 60,
            udp: 60,
            icmp: 5,
            sctp_setup: 20,
            sctp_established: 3600,
            other: 600,
        }
    }
}

/// Timers in ticks, by phase.
pub(super) type Timeouts = [u32; 32];

impl Timers {
    /// # Errors
    /// [`LayoutError::Settings`] for a timer of 0 or of 12 days and more.
    pub(super) fn timeouts(&self) -> Result<Timeouts, LayoutError> {
        let mut timeouts = [0; 32];
        for phase in Phase::ALL {
            let seconds = match phase {
                Phase::Free | Phase::Refused => continue,
                Phase::TcpSynSent | Phase::TcpSynSentBoth | Phase::TcpSynReceived | Phase::TcpPickedUp => {
                    self.tcp_syn
                }
                Phase::TcpEstablished | Phase::TcpFinWait | Phase::TcpCloseWait => self.tcp_established,
                Phase::TcpLastAck | Phase::TcpTimeWait => self.tcp_fin,
                Phase::TcpClosed => self.tcp_reset,
                Phase::UdpUnreplied => self.udp_unreplied,
                Phase::UdpReplied => self.udp,
                Phase::IcmpUnreplied | Phase::IcmpReplied => self.icmp,
                Phase::SctpSetup | Phase::SctpShutdown | Phase::SctpClosed => self.sctp_setup,
                Phase::SctpEstablished => self.sctp_established,
                Phase::OtherUnreplied | Phase::OtherReplied => self.other,
            };
            let ticks = seconds.checked_mul(TICKS_PER_SECOND).ok_or(LayoutError::Settings)?;
            if ticks == 0 || ticks >= Tick::MAX_AGE {
                return Err(LayoutError::Settings);
            }
            timeouts[usize::from(phase as u8)] = ticks;
        }
        Ok(timeouts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_its_number() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_number(phase as u8), phase);
        }
        assert_eq!(Phase::from_number(31), Phase::Free);
        assert!(Phase::TcpSynSent.is_evictable() && !Phase::TcpSynSent.has_ended());
        assert!(Phase::TcpTimeWait.has_ended() && !Phase::TcpEstablished.is_evictable());
    }

    #[test]
    fn ages_wrap_and_a_clock_ahead_is_no_age() {
        let tick = |at| Tick(at & Tick::MASK);
        assert_eq!(tick(5).since(3), 2);
        assert_eq!(tick(3).since(5), 0);
        assert_eq!(tick(1).since(Tick::MASK), 2);
        assert_eq!(Tick::from_millis(1000), Tick(8));
    }

    #[test]
    fn timers_out_of_range_are_refused() {
        assert!(Timers::default().timeouts().is_ok());
        for seconds in [0, 12 * 86_400 + 86_400, u32::MAX] {
            assert!(Timers { udp: seconds, ..Timers::default() }.timeouts().is_err(), "{seconds}");
        }
    }
}
