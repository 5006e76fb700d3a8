//! Which segments lie in the window, seen from between the two ends.
//!
//! Four bounds, after van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2001), as Linux uses them:
//!
//! ```text
//!   sender:    lower < end of data,  first byte <= upper          upper = highest acknowledged by the receiver
//!                                                                         + largest window it ever offered
//!   receiver:  end - slack < acknowledged <= end of what it sent
//! ```
//!
//! A middle box sees segments that may be lost before the receiver or come late to the sender, so each bound has a
//! window's slack. The upper bound uses the largest window ever offered instead of the current one: wider only where a
//! receiver has taken back what it offered, which RFC 9293 3.8.6 tells it not to do.

use super::error::Invalid;
use super::headers::TcpSegment;
use super::phase::Phase;
use super::tcp::{ACK, RST, SYN, Tcp, TcpSettings, end_of};

/// Acknowledgments may be older than the end by this much even where windows are small: Linux's bound, 64 KiB and a
/// full segment.
pub(super) const ACK_SLACK: u32 = 66_000;

/// Whether sequence number `a` is behind `b` (RFC 9293 3.4).
#[inline(always)]
pub(super) const fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Whether sequence number `a` is in front of `b`.
#[inline(always)]
pub(super) const fn before(a: u32, b: u32) -> bool {
    after(b, a)
}

/// Where a segment lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// In the window; the connection has taken note.
    In,
    /// It acknowledges what was acknowledged long ago: harmless, and late.
    OldAck,
    /// Outside.
    Out(Invalid),
}

impl Tcp {
    /// Compares a segment with the window, and takes note of what it says.
    #[inline]
    pub(super) fn fit(
        &mut self,
        phase: Phase,
        reply: bool,
        segment: &TcpSegment,
        settings: &TcpSettings,
    ) -> Fit {
        let from = usize::from(reply);
        let (mut sender, mut receiver) = (self.sides[from], self.sides[1 - from]);
        let (syn, has_ack) = (segment.flags & SYN != 0, segment.flags & ACK != 0);
        let (mut seq, mut end) = (segment.seq, end_of(segment));

        if !sender.known() {
            if syn {
                sender.start(segment, end);
                if !(sender.offered_scale && receiver.offered_scale) {
                    // RFC 7323 2.2: windows are scaled only where both offered it.
                    (sender.scale, receiver.scale) = (0, 0);
                }
                if !has_ack {
                    // Simultaneous open: nothing to compare it with.
                    self.sides[from] = sender;
                    self.sides[1 - from] = receiver;
                    return Fit::In;
                }
            } else {
                sender.end = end;
                sender.max_window = (u32::from(segment.window) << sender.scale).max(1);
                if !receiver.known() {
                    receiver.end = segment.ack;
                }
            }
        } else if syn && phase == Phase::TcpSynSent && !reply && after(end, sender.end) {
            // The opener tries again with another number.
            sender.start(segment, end);
        }

        let mut ack = segment.ack;
        if !has_ack || (segment.flags & RST != 0 && ack == 0) {
            // Nothing is acknowledged; some stacks set the flag in a reset all the same.
            ack = receiver.end;
        }
        if segment.flags & RST != 0 && seq == 0 && phase == Phase::TcpSynSent {
            // RFC 9293 3.10.7.1: the answer to a SYN for a closed port has sequence number 0.
            (seq, end) = (sender.end, sender.end);
        }

        let base = if receiver.acknowledged { receiver.max_ack } else { sender.end };
        let width = if receiver.known() { receiver.max_window } else { sender.max_window };
        let upper = base.wrapping_add(width);
        if settings.check_windows && !self.unchecked {
            let newest = if after(sender.end, upper) { upper } else { sender.end };
            let fresh =
                !receiver.known() || after(end, newest.wrapping_sub(receiver.max_window).wrapping_sub(1));
            let slack = sender.max_window.max(ACK_SLACK);
            let ack_sent = !after(ack, receiver.end);
            let ack_recent = after(ack, receiver.end.wrapping_sub(slack).wrapping_sub(1));
            if after(seq, upper) {
                // A sender that goes a little too far may be acknowledged all the same if policy lets it pass: know
                // about the data, or everything after it looks wrong too.
                let little = end.wrapping_sub(upper) <= receiver.max_window;
                if little && fresh && ack_sent && ack_recent && after(end, sender.end) {
                    self.sides[from].end = end;
                }
                return Fit::Out(Invalid::TcpBeyondWindow);
            }
            if !ack_sent {
                return Fit::Out(Invalid::TcpAckUnsent);
            }
            if !fresh {
                return Fit::Out(Invalid::TcpOldData);
            }
            if !ack_recent {
                return Fit::OldAck;
            }
        }

        let window = u32::from(segment.window) << if syn { 0 } else { sender.scale };
        sender.max_window = sender.max_window.max(window);
        if after(end, sender.end) {
            sender.end = end;
        }
        if has_ack && (!sender.acknowledged || after(ack, sender.max_ack)) {
            (sender.max_ack, sender.acknowledged) = (ack, true);
        }
        self.sides[from] = sender;
        self.sides[1 - from] = receiver;
        Fit::In
    }
}

/// The shift count in the options of a SYN (the bytes behind the fixed TCP header), if there is a window scale option
/// (RFC 7323 2.2). Malformed options end the search, as in a receiver.
pub fn window_scale(mut options: &[u8]) -> Option<u8> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const WINDOW_SCALE: u8 = 3;
    loop {
        match options {
            [] | [END, ..] => return None,
            [NO_OPERATION, rest @ ..] => options = rest,
            [WINDOW_SCALE, 3, shift, ..] => return Some((*shift).min(14)),
            [_, len, ..] if *len >= 2 => options = options.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_scale_is_found_among_other_options() {
        // MSS, SACK permitted, timestamps, no operation, window scale 7: what Linux sends.
        let linux = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(window_scale(&linux), Some(7));
        assert_eq!(window_scale(&[3, 3, 200]), Some(14));
        for none in
            [&[][..], &[0, 3, 3, 7], &[3], &[3, 3], &[2, 0, 3, 3, 7], &[2, 1, 3, 3, 7], &[2, 40, 3, 3, 7]]
        {
            assert_eq!(window_scale(none), None, "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn order_of_sequence_numbers(a: u32, d in 1u32..0x7fff_ffff) {
            let b = a.wrapping_add(d);
            prop_assert!(after(b, a) && before(a, b) && !after(a, b) && !after(a, a));
        }

        #[test]
        fn any_options_end(options: Vec<u8>) {
            let _ = window_scale(&options);
        }
    }
}
