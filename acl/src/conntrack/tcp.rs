//! TCP: which segments belong to a connection, and how far it has come.
//!
//! Sources: RFC 9293 (3.3.2, 3.5, 3.6, 3.10.7), RFC 5961 (resets and SYNs in the middle), RFC 7323 (window scale), and
//! the behaviour of Linux's conntrack, which operators know. A packet takes these steps:
//!
//! ```text
//!   flags no stack sends                       -> invalid
//!   phase x direction x kind of segment        -> next phase | ignore | invalid | reopen      (fn next)
//!   ignore: passes and is remembered. The ends may know better than we do: if what was ignored is answered, we are
//!           the ones out of step, and fall in (SYN answered by SYN-ACK, or by RST)
//!   resets: below what the other side acknowledged -> invalid; exactly there, or after a FIN -> closed; else it passes
//!           and the phase stays, since the receiver may answer it with a challenge ACK (RFC 5961 3.2)
//!   window  (window.rs)                        -> invalid, or ignore for an old acknowledgment
//! ```
//!
//! The state of a connection is four words:
//!
//! ```text
//!   word 0   side 0: end of what it sent 32 | highest it acknowledged 32
//!   word 1   side 1: the same
//!   word 2   largest window it offered, in 16 bytes 26 | scale 4 | offered a scale 1 | acknowledged 1    side 0 || side 1
//!   word 3   last segment: end 32 | window 16 | scale 4 | had a scale 1 | kind 3 | side 1 || FIN 1 | FIN 1 | not checked 1
//!            | 3 | locked 1 (connection.rs)
//! ```

use super::error::Invalid;
use super::headers::TcpSegment;
use super::phase::Phase;
use super::window::{ACK_SLACK, Fit, after, before};

pub(super) mod connection;
pub(super) mod established;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;
const URG: u8 = 0x20;
/// The flags whose combinations are checked; PSH, ECE and CWR go with everything.
const CHECKED: u8 = FIN | SYN | RST | ACK | URG;

/// How strict TCP is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSettings {
    /// Whether segments must lie in the window. Resets are checked in any case.
    pub check_windows: bool,
    /// Whether a connection whose beginning was not seen may be picked up in the middle, by a plain ACK. Its windows
    /// are not checked, since their scale is not known.
    pub pick_up: bool,
}

impl Default for TcpSettings {
    /// Windows are checked; connections are picked up, so that they survive a restart of the router.
    fn default() -> Self {
        TcpSettings { check_windows: true, pick_up: true }
    }
}

/// What a segment is, by its most telling flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    None,
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl Kind {
    /// The kind, or nothing for flags that no stack sends together (RFC 9293 3.10.7: beyond the handshake every segment
    /// but a reset has ACK set).
    #[inline(always)]
    pub(super) fn of(flags: u8) -> Option<Kind> {
        const UA: u8 = ACK | URG;
        const SU: u8 = SYN | URG;
        const SA: u8 = SYN | ACK;
        const RA: u8 = RST | ACK;
        const FA: u8 = FIN | ACK;
        const FAU: u8 = FIN | ACK | URG;
        match flags & CHECKED {
            ACK | UA => Some(Kind::Ack),
            SYN | SU => Some(Kind::Syn),
            SA => Some(Kind::SynAck),
            FA | FAU => Some(Kind::Fin),
            RST | RA => Some(Kind::Rst),
            _ => None,
        }
    }

    fn from_number(number: u64) -> Kind {
        [Kind::None, Kind::Syn, Kind::SynAck, Kind::Fin, Kind::Ack, Kind::Rst]
            .get(number as usize)
            .copied()
            .unwrap_or(Kind::None)
    }
}

/// What becomes of a packet, and of its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// It belongs to the flow, whose phase is now this.
    Pass(Phase),
    /// It passes and changes neither phase nor timer.
    Ignore,
    /// It does not belong to the flow.
    Drop(Invalid),
    /// It begins a new connection between the same ends: policy decides again.
    Reopen,
}

/// What one side has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Side {
    /// Sequence number after the last byte it sent.
    pub(super) end: u32,
    /// The highest number it acknowledged; counts if `acknowledged`.
    pub(super) max_ack: u32,
    /// The largest window it offered, in bytes, rounded up to 16; 0 before its first segment.
    pub(super) max_window: u32,
    /// Shift count of its windows.
    pub(super) scale: u8,
    /// Whether its SYN had the window scale option.
    pub(super) offered_scale: bool,
    /// Whether it has acknowledged anything.
    pub(super) acknowledged: bool,
}

impl Side {
    fn unpack(numbers: u64, window: u32) -> Self {
        Side {
            end: (numbers >> 32) as u32,
            max_ack: numbers as u32,
            max_window: (window >> 6) << 4,
            scale: (window >> 2 & 0xf) as u8,
            offered_scale: window & 2 != 0,
            acknowledged: window & 1 != 0,
        }
    }

    fn numbers(&self) -> u64 {
        u64::from(self.end) << 32 | u64::from(self.max_ack)
    }

    fn window(&self) -> u32 {
        let units = self.max_window.div_ceil(16).min((1 << 26) - 1);
        units << 6
            | u32::from(self.scale & 0xf) << 2
            | u32::from(self.offered_scale) << 1
            | u32::from(self.acknowledged)
    }

    /// Whether a segment of this side was seen.
    #[inline(always)]
    pub(super) fn known(&self) -> bool {
        self.max_window != 0
    }

    /// What a SYN says about its sender.
    pub(super) fn start(&mut self, segment: &TcpSegment, end: u32) {
        self.end = end;
        self.max_window = u32::from(segment.window).max(1);
        // RFC 7323 2.3: a shift count above 14 means 14.
        self.scale = segment.scale.unwrap_or(0).min(14);
        self.offered_scale = segment.scale.is_some();
    }
}

/// The last segment seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Last {
    kind: Kind,
    reply: bool,
    /// Its end; the number acknowledged, of an ACK that was ignored.
    end: u32,
    window: u16,
    scale: Option<u8>,
}

/// A connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tcp {
    pub(super) sides: [Side; 2],
    last: Last,
    fin: [bool; 2],
    /// Picked up in the middle: windows are not checked.
    pub(super) unchecked: bool,
}

impl Tcp {
    pub(super) fn unpack(words: [u64; 4]) -> Self {
        let last = words[3];
        let scale = (last >> 44 & 0xf) as u8;
        Tcp {
            sides: [Side::unpack(words[0], (words[2] >> 32) as u32), Side::unpack(words[1], words[2] as u32)],
            last: Last {
                kind: Kind::from_number(last >> 40 & 7),
                reply: last >> 39 & 1 != 0,
                end: last as u32,
                window: (last >> 48) as u16,
                scale: (last >> 43 & 1 != 0).then_some(scale),
            },
            fin: [last >> 38 & 1 != 0, last >> 37 & 1 != 0],
            unchecked: last >> 36 & 1 != 0,
        }
    }

    pub(super) fn pack(&self) -> [u64; 4] {
        let last = u64::from(self.last.end)
            | u64::from(self.unchecked) << 36
            | u64::from(self.fin[1]) << 37
            | u64::from(self.fin[0]) << 38
            | u64::from(self.last.reply) << 39
            | (self.last.kind as u64) << 40
            | u64::from(self.last.scale.is_some()) << 43
            | u64::from(self.last.scale.unwrap_or(0) & 0xf) << 44
            | u64::from(self.last.window) << 48;
        let [a, b] = &self.sides;
        [a.numbers(), b.numbers(), u64::from(a.window()) << 32 | u64::from(b.window()), last]
    }

    /// The phase of a connection whose first segment has these flags.
    ///
    /// # Errors
    /// Why it cannot be the first.
    #[inline]
    pub(super) fn may_open(flags: u8, settings: &TcpSettings) -> Result<(Kind, Phase), Invalid> {
        match Kind::of(flags) {
            None => Err(Invalid::TcpFlags),
            Some(Kind::Syn) => Ok((Kind::Syn, Phase::TcpSynSent)),
            Some(Kind::Ack) if settings.pick_up => Ok((Kind::Ack, Phase::TcpPickedUp)),
            Some(_) => Err(Invalid::TcpNotSyn),
        }
    }

    /// The first segment of a connection.
    ///
    /// # Errors
    /// Why it cannot be the first.
    pub(super) fn open(segment: &TcpSegment, settings: &TcpSettings) -> Result<(Self, Phase), Invalid> {
        let (kind, phase) = Self::may_open(segment.flags, settings)?;
        let end = end_of(segment);
        let mut side = Side::default();
        side.start(segment, end);
        let unchecked = phase == Phase::TcpPickedUp;
        let peer = if unchecked {
            (side.max_ack, side.acknowledged) = (segment.ack, true);
            Side { end: segment.ack, ..Side::default() }
        } else {
            Side::default()
        };
        let last = Last { kind, reply: false, end, window: segment.window, scale: segment.scale };
        Ok((Tcp { sides: [side, peer], last, fin: [false; 2], unchecked }, phase))
    }

    /// A further segment.
    pub(super) fn segment(
        &mut self,
        phase: Phase,
        reply: bool,
        segment: &TcpSegment,
        settings: &TcpSettings,
    ) -> Step {
        let Some(kind) = Kind::of(segment.flags) else {
            return Step::Drop(Invalid::TcpFlags);
        };
        let sender = usize::from(reply);
        let mut phase = phase;
        let mut next = match next(phase, reply, kind) {
            Next::To(next) => next,
            Next::Invalid => return Step::Drop(Invalid::TcpState),
            // RFC 9293 3.6.1: a SYN reopens a connection in TIME-WAIT if its number is above those used before.
            Next::Reopen if phase == Phase::TcpTimeWait && !after(segment.seq, self.sides[sender].end) => {
                return self.ignore(kind, reply, segment);
            }
            Next::Reopen => return Step::Reopen,
            Next::Ignore => {
                let answers_ignored_syn = kind == Kind::SynAck
                    && self.last.kind == Kind::Syn
                    && self.last.reply != reply
                    && segment.ack == self.last.end;
                if !answers_ignored_syn {
                    return self.ignore(kind, reply, segment);
                }
                // The ends have begun anew without us: fall in with the SYN that was ignored.
                let syn =
                    TcpSegment { window: self.last.window, scale: self.last.scale, ..TcpSegment::default() };
                self.sides = [Side::default(); 2];
                self.sides[1 - sender].start(&syn, self.last.end);
                self.fin = [false; 2];
                phase = Phase::TcpSynSent;
                Phase::TcpSynReceived
            }
        };
        if kind == Kind::Rst {
            match self.reset(phase, reply, segment) {
                Reset::Drop(reason) => return Step::Drop(reason),
                Reset::Close => return Step::Pass(next),
                Reset::InWindow => {}
                Reset::Challenge => next = phase,
            }
        }
        match self.fit(phase, reply, segment, settings) {
            Fit::In => {}
            Fit::OldAck => return Step::Ignore,
            Fit::Out(reason) => return Step::Drop(reason),
        }
        self.fin[sender] |= kind == Kind::Fin;
        self.last = Last { kind, reply, end: end_of(segment), window: segment.window, scale: segment.scale };
        Step::Pass(match next {
            Phase::TcpFinWait | Phase::TcpCloseWait | Phase::TcpLastAck => self.closing(),
            next => next,
        })
    }

    /// Remembers a segment that passes though it does not fit.
    fn ignore(&mut self, kind: Kind, reply: bool, segment: &TcpSegment) -> Step {
        let end = if kind == Kind::Ack { segment.ack } else { end_of(segment) };
        self.last = Last { kind, reply, end, window: segment.window, scale: segment.scale };
        Step::Ignore
    }

    /// How far closing has come, once a FIN was seen.
    fn closing(&self) -> Phase {
        let acknowledged = |side: usize| {
            let peer = &self.sides[1 - side];
            self.fin[side] && peer.acknowledged && peer.max_ack == self.sides[side].end
        };
        match (self.fin, acknowledged(0), acknowledged(1)) {
            ([true, true], true, true) => Phase::TcpTimeWait,
            ([true, true], ..) => Phase::TcpLastAck,
            (_, false, false) => Phase::TcpFinWait,
            _ => Phase::TcpCloseWait,
        }
    }

    /// RFC 5961 3.2, for one who does not know which resets the receiver takes.
    fn reset(&self, phase: Phase, reply: bool, segment: &TcpSegment) -> Reset {
        let receiver = &self.sides[1 - usize::from(reply)];
        let answers = self.last.reply != reply;
        // RFC 9293 3.10.7.3: an unacceptable ACK in SYN-SENT is answered by a reset with its number.
        if answers
            && self.last.kind == Kind::Ack
            && phase == Phase::TcpSynSent
            && segment.seq == self.last.end
        {
            return Reset::Close;
        }
        if receiver.acknowledged && before(segment.seq, receiver.max_ack) {
            return Reset::Drop(Invalid::TcpResetOutside);
        }
        // The reset that answers a SYN which was ignored: its sender knows of no connection.
        if answers
            && self.last.kind == Kind::Syn
            && phase != Phase::TcpSynSent
            && segment.ack == self.last.end
        {
            return Reset::Close;
        }
        let exact = !receiver.acknowledged || segment.seq == receiver.max_ack;
        // A reset that ends a train of segments of the same sender.
        let train = self.last.kind == Kind::Ack && !answers && segment.seq == self.last.end;
        if phase == Phase::TcpEstablished && !exact && !train { Reset::Challenge } else { Reset::InWindow }
    }
}

enum Reset {
    Drop(Invalid),
    Close,
    InWindow,
    Challenge,
}

/// Sequence number after the segment.
#[inline(always)]
pub(super) fn end_of(segment: &TcpSegment) -> u32 {
    let control = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
    segment.seq.wrapping_add(segment.payload).wrapping_add(control)
}

enum Next {
    To(Phase),
    Ignore,
    Invalid,
    Reopen,
}

/// The next phase by what the segment is and who sent it; `FinWait` stands for every phase of closing.
#[inline]
fn next(phase: Phase, reply: bool, kind: Kind) -> Next {
    use Phase as P;
    match (kind, phase) {
        (Kind::Ack, P::TcpEstablished) => Next::To(phase),
        (Kind::Syn, P::TcpSynSent) => Next::To(if reply { P::TcpSynSentBoth } else { phase }),
        (Kind::Syn, P::TcpSynSentBoth) => Next::To(phase),
        (Kind::Syn, P::TcpTimeWait | P::TcpClosed | P::TcpPickedUp | P::Refused) => Next::Reopen,
        // RFC 5961 4: the receiver answers with a challenge ACK, which tells the two who is right.
        (Kind::Syn, _) if !reply => Next::Ignore,
        (Kind::SynAck, P::TcpSynSentBoth) => Next::To(P::TcpSynReceived),
        (Kind::SynAck, P::TcpSynSent) if reply => Next::To(P::TcpSynReceived),
        (Kind::SynAck, P::TcpSynReceived) if !reply => Next::To(phase),
        (Kind::SynAck, _) if reply => Next::Ignore,
        (Kind::Fin, P::TcpSynReceived | P::TcpEstablished | P::TcpFinWait | P::TcpCloseWait) => {
            Next::To(P::TcpFinWait)
        }
        (Kind::Fin, P::TcpPickedUp) => Next::To(if reply { P::TcpFinWait } else { phase }),
        (Kind::Fin | Kind::Ack, P::TcpLastAck) => Next::To(phase),
        (Kind::Fin | Kind::Ack, P::TcpTimeWait | P::TcpClosed | P::Refused) => Next::To(phase),
        // RFC 9293 3.10.7.3 and RFC 5961: an answer that is not to the SYN. The sender of the SYN will reset.
        (Kind::Ack, P::TcpSynSent | P::TcpSynSentBoth) if reply => Next::Ignore,
        (Kind::Ack, P::TcpSynReceived) => Next::To(if reply { phase } else { P::TcpEstablished }),
        (Kind::Ack, P::TcpPickedUp) => Next::To(if reply { P::TcpEstablished } else { phase }),
        (Kind::Ack, P::TcpFinWait | P::TcpCloseWait) => Next::To(P::TcpFinWait),
        // Nobody but the opener has agreed to this connection yet.
        (Kind::Rst, P::TcpSynSent | P::TcpPickedUp | P::Refused) => Next::To(P::Refused),
        (Kind::Rst, _) => Next::To(P::TcpClosed),
        _ => Next::Invalid,
    }
}

#[cfg(test)]
mod tests;
