//! One rule a test, with its source. A script is a list of segments, each with what becomes of it:
//! `(who, flags, seq, ack, window, payload) -> step`.

use super::*;

mod any;

const SYN_ACK: u8 = SYN | ACK;
const FIN_ACK: u8 = FIN | ACK;

/// The opener and its peer.
const C: bool = false;
const S: bool = true;

/// Initial sequence numbers.
const CI: u32 = 1000;
const SI: u32 = 0xffff_ff00;
const WIN: u16 = 8192;

struct Connection {
    tcp: Tcp,
    phase: Phase,
    settings: TcpSettings,
}

const STRICT: TcpSettings = TcpSettings { check_windows: true, pick_up: false };
const LOOSE: TcpSettings = TcpSettings { check_windows: false, pick_up: true };

fn segment(flags: u8, seq: u32, ack: u32, window: u16, payload: u32) -> TcpSegment {
    TcpSegment { flags, seq, ack, window, payload, scale: None }
}

impl Connection {
    fn open(settings: TcpSettings, first: &TcpSegment) -> Self {
        let (tcp, phase) = Tcp::open(first, &settings).unwrap();
        Connection { tcp, phase, settings }
    }

    /// Client SYN, without a scale.
    fn syn() -> Self {
        Self::open(STRICT, &segment(SYN, CI, 0, WIN, 0))
    }

    /// After the handshake.
    fn established() -> Self {
        let mut connection = Self::syn();
        connection.pass(S, segment(SYN_ACK, SI, CI + 1, WIN, 0), Phase::TcpSynReceived);
        connection.pass(C, segment(ACK, CI + 1, SI.wrapping_add(1), WIN, 0), Phase::TcpEstablished);
        connection
    }

    /// After the client's FIN and the server's acknowledgment.
    fn half_closed() -> Self {
        let mut connection = Self::established();
        connection.pass(C, segment(FIN_ACK, CI + 1, s(1), WIN, 0), Phase::TcpFinWait);
        connection.pass(S, segment(ACK, s(1), CI + 2, WIN, 0), Phase::TcpCloseWait);
        connection
    }

    /// After both FINs and their acknowledgments.
    fn time_wait() -> Self {
        let mut connection = Self::half_closed();
        connection.pass(S, segment(FIN_ACK, s(1), CI + 2, WIN, 0), Phase::TcpLastAck);
        connection.pass(C, segment(ACK, CI + 2, s(2), WIN, 0), Phase::TcpTimeWait);
        connection
    }

    fn step(&mut self, who: bool, segment: TcpSegment) -> Step {
        // Through its words each time, as in the table.
        self.tcp = Tcp::unpack(self.tcp.pack());
        let step = self.tcp.segment(self.phase, who, &segment, &self.settings);
        if let Step::Pass(phase) = step {
            self.phase = phase;
        }
        step
    }

    #[track_caller]
    fn pass(&mut self, who: bool, segment: TcpSegment, phase: Phase) {
        assert_eq!(self.step(who, segment), Step::Pass(phase), "{segment:?}");
    }

    #[track_caller]
    fn drops(&mut self, who: bool, segment: TcpSegment, reason: Invalid) {
        let before = self.phase;
        assert_eq!(self.step(who, segment), Step::Drop(reason), "{segment:?}");
        assert_eq!(self.phase, before);
    }

    #[track_caller]
    fn ignores(&mut self, who: bool, segment: TcpSegment) {
        assert_eq!(self.step(who, segment), Step::Ignore, "{segment:?}");
    }
}

/// A number of the server's, `offset` behind its first.
fn s(offset: u32) -> u32 {
    SI.wrapping_add(offset)
}

// RFC 9293 3.5, figure 6: the three-way handshake; the server's numbers wrap on the way.
#[test]
fn handshake_and_data_across_the_wrap_of_sequence_numbers() {
    let mut connection = Connection::established();
    for n in 0..4 {
        let at = n * 1000;
        connection.pass(S, segment(ACK, s(1 + at), CI + 1, WIN, 1000), Phase::TcpEstablished);
        connection.pass(C, segment(ACK, CI + 1, s(1 + at + 1000), WIN, 0), Phase::TcpEstablished);
    }
}

// RFC 9293 3.5, figure 8: simultaneous open. Linux: SYN_SENT2.
#[test]
fn simultaneous_open() {
    let mut connection = Connection::syn();
    connection.pass(S, segment(SYN, SI, 0, WIN, 0), Phase::TcpSynSentBoth);
    connection.pass(C, segment(SYN_ACK, CI, s(1), WIN, 0), Phase::TcpSynReceived);
    connection.ignores(S, segment(SYN_ACK, SI, CI + 1, WIN, 0));
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 10), Phase::TcpEstablished);
    connection.pass(S, segment(ACK, s(1), CI + 11, WIN, 10), Phase::TcpEstablished);
}

// RFC 9293 3.10.7.3 (retransmission of the SYN); Linux: SYN in SYN_SENT.
#[test]
fn a_retransmitted_syn_changes_nothing_and_a_new_number_starts_again() {
    let mut connection = Connection::syn();
    connection.pass(C, segment(SYN, CI, 0, WIN, 0), Phase::TcpSynSent);
    connection.pass(C, segment(SYN, CI + 500, 0, WIN, 0), Phase::TcpSynSent);
    connection.pass(S, segment(SYN_ACK, SI, CI + 501, WIN, 0), Phase::TcpSynReceived);
    connection.pass(C, segment(ACK, CI + 501, s(1), WIN, 0), Phase::TcpEstablished);
}

// RFC 9293 3.10.7.4; Linux: a retransmitted SYN-ACK in SYN_RECV is ignored and passes.
#[test]
fn a_retransmitted_syn_ack_passes() {
    let mut connection = Connection::syn();
    let syn_ack = segment(SYN_ACK, SI, CI + 1, WIN, 0);
    connection.pass(S, syn_ack, Phase::TcpSynReceived);
    connection.ignores(S, syn_ack);
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 0), Phase::TcpEstablished);
}

// RFC 9293 3.5: the SYN-ACK must acknowledge the SYN.
#[test]
fn a_syn_ack_for_another_syn_is_out_of_the_window() {
    let mut connection = Connection::syn();
    connection.drops(S, segment(SYN_ACK, SI, CI + 5000, WIN, 0), Invalid::TcpAckUnsent);
    connection.pass(S, segment(SYN_ACK, SI, CI + 1, WIN, 0), Phase::TcpSynReceived);
}

// RFC 9293 3.6: the normal close.
#[test]
fn close_by_both_sides() {
    let mut connection = Connection::time_wait();
    // A FIN sent again in TIME-WAIT (3.10.7.4, eighth) is acknowledged again.
    connection.pass(S, segment(FIN_ACK, s(1), CI + 2, WIN, 0), Phase::TcpTimeWait);
}

// RFC 9293 3.6, case 1 and figure 12 turned: the server closes first.
#[test]
fn close_by_the_other_side_first() {
    let mut connection = Connection::established();
    connection.pass(S, segment(FIN_ACK, s(1), CI + 1, WIN, 0), Phase::TcpFinWait);
    connection.pass(C, segment(FIN_ACK, CI + 1, s(2), WIN, 0), Phase::TcpLastAck);
    connection.pass(S, segment(ACK, s(2), CI + 2, WIN, 0), Phase::TcpTimeWait);
}

// RFC 9293 3.6, figure 13: simultaneous close.
#[test]
fn simultaneous_close() {
    let mut connection = Connection::established();
    connection.pass(C, segment(FIN_ACK, CI + 1, s(1), WIN, 0), Phase::TcpFinWait);
    connection.pass(S, segment(FIN_ACK, s(1), CI + 1, WIN, 0), Phase::TcpLastAck);
    connection.pass(C, segment(ACK, CI + 2, s(2), WIN, 0), Phase::TcpLastAck);
    connection.pass(S, segment(ACK, s(2), CI + 2, WIN, 0), Phase::TcpTimeWait);
}

// RFC 9293 3.6: after one FIN the other side may go on sending (half-close).
#[test]
fn half_close_carries_data() {
    let mut connection = Connection::half_closed();
    for n in 0..5 {
        connection.pass(S, segment(ACK, s(1 + n * 100), CI + 2, WIN, 100), Phase::TcpCloseWait);
        connection.pass(C, segment(ACK, CI + 2, s(1 + n * 100 + 100), WIN, 0), Phase::TcpCloseWait);
    }
    connection.pass(S, segment(FIN_ACK, s(501), CI + 2, WIN, 0), Phase::TcpLastAck);
    connection.pass(C, segment(ACK, CI + 2, s(502), WIN, 0), Phase::TcpTimeWait);
}

// RFC 9293 3.6: a FIN that comes twice is still one side's.
#[test]
fn a_retransmitted_fin_does_not_close_both_sides() {
    let mut connection = Connection::established();
    let fin = segment(FIN_ACK, CI + 1, s(1), WIN, 0);
    connection.pass(C, fin, Phase::TcpFinWait);
    connection.pass(C, fin, Phase::TcpFinWait);
    connection.pass(S, segment(ACK, s(1), CI + 1, WIN, 50), Phase::TcpFinWait);
    connection.pass(S, segment(ACK, s(51), CI + 2, WIN, 0), Phase::TcpCloseWait);
}

// RFC 9293 3.6: a FIN may come with data, and is acknowledged behind it.
#[test]
fn a_fin_with_data() {
    let mut connection = Connection::established();
    connection.pass(C, segment(FIN_ACK, CI + 1, s(1), WIN, 100), Phase::TcpFinWait);
    connection.pass(S, segment(ACK, s(1), CI + 101, WIN, 0), Phase::TcpFinWait);
    connection.pass(S, segment(ACK, s(1), CI + 102, WIN, 0), Phase::TcpCloseWait);
}

// RFC 9293 3.6.1: a SYN with a number above those used before reopens a connection in TIME-WAIT.
#[test]
fn a_newer_syn_reopens_time_wait_and_an_old_one_does_not() {
    let mut connection = Connection::time_wait();
    connection.ignores(C, segment(SYN, CI, 0, WIN, 0));
    assert_eq!(connection.step(C, segment(SYN, CI + 70_000, 0, WIN, 0)), Step::Reopen);
    // The other side may reopen it too, if it is the client now.
    assert_eq!(connection.step(S, segment(SYN, s(5000), 0, WIN, 0)), Step::Reopen);
    connection.ignores(S, segment(SYN, s(0), 0, WIN, 0));
}

// Linux: SYN in CLOSE; Calico: TCPRecycleClosedConn.
#[test]
fn any_syn_reopens_a_reset_connection() {
    let mut connection = Connection::established();
    connection.pass(C, segment(RST, CI + 1, 0, 0, 0), Phase::TcpClosed);
    assert_eq!(connection.step(C, segment(SYN, CI, 0, WIN, 0)), Step::Reopen);
}

// RFC 9293 3.10.7.3: a closed port answers a SYN with RST, ACK, and sequence number 0.
#[test]
fn a_refused_connection_is_over_at_once() {
    let mut connection = Connection::syn();
    connection.pass(S, segment(RST | ACK, 0, CI + 1, 0, 0), Phase::Refused);
    assert_eq!(connection.step(C, segment(SYN, CI + 9, 0, WIN, 0)), Step::Reopen);
    // Not one that answers something else.
    let mut connection = Connection::syn();
    connection.drops(S, segment(RST | ACK, 0, CI + 4000, 0, 0), Invalid::TcpAckUnsent);
}

// RFC 5961 3.2: a reset with exactly the number that the receiver waits for.
#[test]
fn a_reset_with_the_exact_number_closes() {
    let mut connection = Connection::established();
    connection.pass(S, segment(ACK, s(1), CI + 1, WIN, 100), Phase::TcpEstablished);
    connection.pass(C, segment(ACK, CI + 1, s(101), WIN, 0), Phase::TcpEstablished);
    connection.pass(S, segment(RST, s(101), 0, 0, 0), Phase::TcpClosed);
}

// RFC 5961 3.2: one in the window, but not exact, is answered with a challenge ACK. Linux: "inexact RST".
#[test]
fn a_reset_elsewhere_in_the_window_passes_but_does_not_close() {
    let mut connection = Connection::established();
    connection.pass(S, segment(RST, s(1001), 0, 0, 0), Phase::TcpEstablished);
    // The challenge ACK, and the exact reset that answers it.
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 0), Phase::TcpEstablished);
    connection.pass(S, segment(RST, s(1), 0, 0, 0), Phase::TcpClosed);
}

// Linux: an inexact RST closes once a FIN was seen.
#[test]
fn an_inexact_reset_closes_after_a_fin() {
    let mut connection = Connection::half_closed();
    connection.pass(S, segment(RST, s(1001), 0, 0, 0), Phase::TcpClosed);
}

// RFC 5961 3.2: outside the window it is dropped.
#[test]
fn a_reset_outside_the_window_is_dropped() {
    let mut connection = Connection::established();
    connection.drops(S, segment(RST, s(1) - 5000, 0, 0, 0), Invalid::TcpResetOutside);
    connection.drops(S, segment(RST, s(1 + 8192 + 1), 0, 0, 0), Invalid::TcpBeyondWindow);
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 10), Phase::TcpEstablished);
}

// Linux: a reset behind data of the same sender that was not acknowledged yet.
#[test]
fn a_reset_at_the_end_of_a_train_closes() {
    let mut connection = Connection::established();
    connection.pass(S, segment(ACK, s(1), CI + 1, WIN, 100), Phase::TcpEstablished);
    connection.pass(S, segment(RST, s(101), 0, 0, 0), Phase::TcpClosed);
}

// RFC 5961 4.2: a SYN on an established connection passes, and the challenge ACK decides. Here the client has
// restarted: it answers the challenge with an exact reset, and tries again.
#[test]
fn a_restarted_client_gets_through_by_a_challenge_ack() {
    let mut connection = Connection::established();
    connection.ignores(C, segment(SYN, 77_777, 0, WIN, 0));
    connection.pass(S, segment(ACK, s(1), CI + 1, WIN, 0), Phase::TcpEstablished);
    connection.pass(C, segment(RST, CI + 1, 0, 0, 0), Phase::TcpClosed);
    assert_eq!(connection.step(C, segment(SYN, 77_777, 0, WIN, 0)), Step::Reopen);
}

// Linux: a SYN that was ignored, answered by SYN-ACK: the ends have begun anew, and tracking falls in.
#[test]
fn an_ignored_syn_that_is_answered_brings_tracking_into_step() {
    let mut connection = Connection::half_closed();
    connection.ignores(C, TcpSegment { scale: Some(2), ..segment(SYN, 70_000, 0, 1000, 0) });
    let syn_ack = TcpSegment { scale: Some(0), ..segment(SYN_ACK, 5, 70_001, 1000, 0) };
    connection.pass(S, syn_ack, Phase::TcpSynReceived);
    connection.pass(C, segment(ACK, 70_001, 6, 1000, 0), Phase::TcpEstablished);
    // The client's scale holds: 1000 << 2 bytes.
    connection.pass(S, segment(ACK, 6 + 3900, 70_001, 1000, 100), Phase::TcpEstablished);
    connection.drops(S, segment(ACK, 6 + 4001, 70_001, 1000, 100), Invalid::TcpBeyondWindow);
    // One FIN of the old connection does not count for the new one.
    connection.pass(C, segment(FIN_ACK, 70_001, 6, 1000, 0), Phase::TcpFinWait);
}

// Linux: a SYN that was ignored, answered by a reset: there is no connection.
#[test]
fn an_ignored_syn_that_is_reset_ends_the_connection() {
    let mut connection = Connection::established();
    connection.ignores(C, segment(SYN, 70_000, 0, WIN, 0));
    connection.pass(S, segment(RST | ACK, s(1), 70_001, 0, 0), Phase::TcpClosed);
}

// RFC 9293 3.5.1 and 3.10.7.3: the server has an old connection and answers a SYN by an ACK; the client resets that.
#[test]
fn a_half_open_connection_is_discovered() {
    let mut connection = Connection::syn();
    connection.ignores(S, segment(ACK, 300, 100, WIN, 0));
    connection.pass(C, segment(RST, 100, 0, 0, 0), Phase::Refused);
}

// RFC 9293 3.8.6.1 and RFC 1122 4.2.3.6: a keepalive has the number in front of the next one, and perhaps a byte.
#[test]
fn keepalive_probes_and_their_answers_pass() {
    let mut connection = Connection::established();
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 100), Phase::TcpEstablished);
    connection.pass(S, segment(ACK, s(1), CI + 101, WIN, 0), Phase::TcpEstablished);
    for payload in [0, 1] {
        connection.pass(C, segment(ACK, CI + 100, s(1), WIN, payload), Phase::TcpEstablished);
        connection.pass(S, segment(ACK, s(1), CI + 101, WIN, 0), Phase::TcpEstablished);
        connection.pass(S, segment(ACK, s(0), CI + 101, WIN, payload), Phase::TcpEstablished);
        connection.pass(C, segment(ACK, CI + 101, s(1), WIN, 0), Phase::TcpEstablished);
    }
}

// RFC 9293 3.8.6.1: probes of a zero window.
#[test]
fn zero_window_probes_pass() {
    let mut connection = Connection::established();
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 8192), Phase::TcpEstablished);
    connection.pass(S, segment(ACK, s(1), CI + 1 + 8192, 0, 0), Phase::TcpEstablished);
    connection.pass(C, segment(ACK, CI + 1 + 8192, s(1), WIN, 1), Phase::TcpEstablished);
    connection.pass(S, segment(ACK, s(1), CI + 1 + 8192, 0, 0), Phase::TcpEstablished);
}

// RFC 9293 3.4: the window bounds what may be sent.
#[test]
fn data_beyond_the_window_is_dropped() {
    let mut connection = Connection::established();
    connection.drops(C, segment(ACK, CI + 1 + 8192 + 1, s(1), WIN, 10), Invalid::TcpBeyondWindow);
    connection.drops(C, segment(ACK, CI + 0x4000_0000, s(1), WIN, 10), Invalid::TcpBeyondWindow);
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 8192), Phase::TcpEstablished);
}

// Linux: a sender that went a little too far does not make all that follows look wrong.
#[test]
fn an_acknowledgment_of_a_little_too_much_data_passes() {
    let mut connection = Connection::established();
    connection.drops(C, segment(ACK, CI + 1 + 8193, s(1), WIN, 100), Invalid::TcpBeyondWindow);
    connection.pass(S, segment(ACK, s(1), CI + 1 + 8293, WIN, 0), Phase::TcpEstablished);
}

// RFC 9293 3.10.7.4 and RFC 5961 5.2: what was not sent cannot be acknowledged; what is too old is harmless.
#[test]
fn acknowledgments_of_unsent_data_are_dropped_and_old_ones_pass() {
    let mut connection = Connection::established();
    connection.drops(S, segment(ACK, s(1), CI + 2, WIN, 10), Invalid::TcpAckUnsent);
    for n in 0..20 {
        let at = CI + 1 + n * 8000;
        connection.pass(C, segment(ACK, at, s(1), WIN, 8000), Phase::TcpEstablished);
        connection.pass(S, segment(ACK, s(1), at + 8000, WIN, 0), Phase::TcpEstablished);
    }
    connection.ignores(S, segment(ACK, s(1), CI + 1, WIN, 0));
}

// Linux: a retransmission of what is more than a window old.
#[test]
fn data_from_long_ago_is_dropped() {
    let mut connection = Connection::established();
    for n in 0..5 {
        let at = CI + 1 + n * 8000;
        connection.pass(C, segment(ACK, at, s(1), WIN, 8000), Phase::TcpEstablished);
        connection.pass(S, segment(ACK, s(1), at + 8000, WIN, 0), Phase::TcpEstablished);
    }
    connection.drops(C, segment(ACK, CI + 1, s(1), WIN, 8000), Invalid::TcpOldData);
    // The last segment may have been lost behind us, acknowledged or not.
    connection.pass(C, segment(ACK, CI + 1 + 32_000, s(1), WIN, 8000), Phase::TcpEstablished);
}

// RFC 9293 3.4: lost segments are sent again, and segments overtake each other.
#[test]
fn retransmissions_and_reordering_within_the_window_pass() {
    let mut connection = Connection::established();
    connection.pass(C, segment(ACK, CI + 1001, s(1), WIN, 1000), Phase::TcpEstablished);
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 1000), Phase::TcpEstablished);
    connection.pass(C, segment(ACK, CI + 1001, s(1), WIN, 1000), Phase::TcpEstablished);
    connection.pass(S, segment(ACK, s(1), CI + 2001, WIN, 0), Phase::TcpEstablished);
    connection.pass(C, segment(ACK, CI + 1, s(1), WIN, 1000), Phase::TcpEstablished);
}

// RFC 7323 2.2, 2.3: windows are scaled if both sides offered it, never in a SYN, and by 14 at most.
#[test]
fn windows_are_scaled_where_both_sides_offered_it() {
    for (client, server, window) in [
        (Some(7), Some(3), 1000 << 3),
        (Some(7), None, 1000),
        (None, Some(7), 1000),
        (Some(0), Some(200), 1000 << 14),
    ] {
        let syn = TcpSegment { scale: client, ..segment(SYN, CI, 0, 1000, 0) };
        let mut connection = Connection::open(STRICT, &syn);
        let syn_ack = TcpSegment { scale: server, ..segment(SYN_ACK, SI, CI + 1, 1000, 0) };
        connection.pass(S, syn_ack, Phase::TcpSynReceived);
        connection.pass(C, segment(ACK, CI + 1, s(1), 1000, 0), Phase::TcpEstablished);
        // The server offers 1000 in an ordinary segment: scaled from here on.
        connection.pass(S, segment(ACK, s(1), CI + 1, 1000, 0), Phase::TcpEstablished);
        // Windows are kept in units of 16 bytes, rounded up.
        let end = CI + 1 + u32::next_multiple_of(window, 16);
        connection.drops(C, segment(ACK, end + 1, s(1), 1000, 1), Invalid::TcpBeyondWindow);
        connection.pass(C, segment(ACK, end, s(1), 1000, 0), Phase::TcpEstablished);
    }
}

// Linux nf_conntrack_tcp_loose: a connection that began before the router did.
#[test]
fn a_connection_is_picked_up_in_the_middle_where_it_may_be() {
    let ack = segment(ACK, 5_000_000, 9_000_000, 100, 1000);
    assert_eq!(Tcp::open(&ack, &STRICT).unwrap_err(), Invalid::TcpNotSyn);
    for first in [SYN_ACK, FIN_ACK, RST] {
        assert_eq!(Tcp::open(&segment(first, 1, 1, 1, 0), &LOOSE).unwrap_err(), Invalid::TcpNotSyn);
    }
    let mut connection = Connection::open(TcpSettings::default(), &ack);
    assert_eq!(connection.phase, Phase::TcpPickedUp);
    connection.pass(C, segment(ACK, 5_001_000, 9_000_000, 100, 1000), Phase::TcpPickedUp);
    connection.pass(S, segment(ACK, 9_000_000, 5_002_000, 100, 1000), Phase::TcpEstablished);
    // Its scale is not known, so its windows are not checked.
    connection.pass(S, segment(ACK, 9_500_000, 5_002_000, 100, 1000), Phase::TcpEstablished);
    connection.pass(C, segment(FIN_ACK, 5_002_000, 9_501_000, 100, 0), Phase::TcpFinWait);
    connection.pass(S, segment(FIN_ACK, 9_501_000, 5_002_001, 100, 0), Phase::TcpLastAck);
    connection.pass(C, segment(ACK, 5_002_001, 9_501_001, 100, 0), Phase::TcpTimeWait);
}

// Nobody has agreed to a connection that was picked up and not answered: a SYN begins it properly.
#[test]
fn a_syn_replaces_a_connection_that_was_picked_up_and_not_answered() {
    let mut connection = Connection::open(LOOSE, &segment(ACK, 1, 1, 1, 0));
    connection.pass(C, segment(FIN_ACK, 1, 1, 1, 0), Phase::TcpPickedUp);
    assert_eq!(connection.step(C, segment(SYN, 9, 0, 1, 0)), Step::Reopen);
    connection.pass(C, segment(RST, 2, 0, 0, 0), Phase::Refused);
}

// Linux nf_conntrack_tcp_be_liberal.
#[test]
fn windows_are_not_checked_where_settings_say_so_but_resets_are() {
    let mut connection = Connection::established();
    connection.settings = LOOSE;
    connection.pass(C, segment(ACK, CI + 50_000, s(1), WIN, 10), Phase::TcpEstablished);
    connection.drops(S, segment(RST, s(1) - 5000, 0, 0, 0), Invalid::TcpResetOutside);
}

// RFC 9293 3.10.7 and Linux's table of valid flags.
#[test]
fn flags_that_no_stack_sends_together_are_dropped() {
    let valid = [SYN, SYN | URG, SYN_ACK, RST, RST | ACK, FIN_ACK, FIN_ACK | URG, ACK, ACK | URG];
    for flags in 0..=u8::MAX {
        let expected = valid.contains(&(flags & CHECKED));
        assert_eq!(Kind::of(flags).is_some(), expected, "{flags:#04x}");
        if !expected {
            let mut connection = Connection::established();
            connection.drops(C, segment(flags, CI + 1, s(1), WIN, 0), Invalid::TcpFlags);
            assert_eq!(Tcp::open(&segment(flags, 1, 0, 1, 0), &LOOSE).unwrap_err(), Invalid::TcpFlags);
        }
    }
}

// Linux: segments that a state does not allow.
#[test]
fn segments_out_of_state_are_dropped() {
    let mut connection = Connection::syn();
    connection.drops(C, segment(ACK, CI + 1, s(1), WIN, 0), Invalid::TcpState);
    connection.drops(C, segment(FIN_ACK, CI + 1, s(1), WIN, 0), Invalid::TcpState);
    connection.drops(S, segment(FIN_ACK, SI, CI + 1, WIN, 0), Invalid::TcpState);
    connection.drops(C, segment(SYN_ACK, CI, 1, WIN, 0), Invalid::TcpState);
    let mut connection = Connection::established();
    connection.drops(S, segment(SYN, SI, 0, WIN, 0), Invalid::TcpState);
    connection.drops(C, segment(SYN_ACK, CI, s(1), WIN, 0), Invalid::TcpState);
}
