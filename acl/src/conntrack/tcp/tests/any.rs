//! Any segments at all, and all that proper ends may send.

use super::*;
use proptest::prelude::*;

fn any_segment() -> impl Strategy<Value = TcpSegment> {
    // Numbers near each other, so that segments meet; now and then anything.
    let number = prop_oneof![4 => 0_u32..20_000, 1 => any::<u32>()];
    let flags = prop_oneof![Just(SYN), Just(SYN_ACK), Just(ACK), Just(FIN_ACK), Just(RST), any::<u8>()];
    (flags, number.clone(), number, any::<u16>(), 0_u32..70_000, proptest::option::of(any::<u8>())).prop_map(
        |(flags, seq, ack, window, payload, scale)| TcpSegment { flags, seq, ack, window, payload, scale },
    )
}

proptest! {
    #[test]
    fn any_segments_are_judged_and_the_state_survives_its_words(
        first in any_segment(),
        segments in proptest::collection::vec((any::<bool>(), any_segment()), 0..40),
        check_windows: bool,
    ) {
        let settings = TcpSettings { check_windows, pick_up: true };
        let Ok((tcp, phase)) = Tcp::open(&first, &settings) else { return Ok(()) };
        let mut connection = Connection { tcp, phase, settings };
        for (who, segment) in segments {
            let before = connection.phase;
            match connection.step(who, segment) {
                Step::Pass(_) => {}
                Step::Ignore | Step::Drop(_) => prop_assert_eq!(connection.phase, before),
                Step::Reopen => prop_assert_eq!(segment.flags & (SYN | ACK | RST | FIN), SYN),
            }
            let words = connection.tcp.pack();
            prop_assert_eq!(Tcp::unpack(words).pack(), words);
        }
    }

    /// A connection whose ends keep to the window and to each other never loses a segment, however the network drops,
    /// repeats and reorders what the middle box has seen.
    #[test]
    fn a_proper_connection_is_never_dropped(
        scales in (0_u8..15, 0_u8..15), start in any::<(u32, u32)>(), window in 1_u16..,
        moves in proptest::collection::vec((any::<bool>(), 1_u32..3000, any::<bool>()), 1..100),
    ) {
        let syn = TcpSegment { scale: Some(scales.0), ..segment(SYN, start.0, 0, window, 0) };
        let mut connection = Connection::open(STRICT, &syn);
        let syn_ack = segment(SYN_ACK, start.1, start.0.wrapping_add(1), window, 0);
        connection.pass(S, TcpSegment { scale: Some(scales.1), ..syn_ack }, Phase::TcpSynReceived);
        // What each side has sent, and what the other has acknowledged of it.
        let mut sent = [start.0.wrapping_add(1), start.1.wrapping_add(1)];
        let mut acknowledged = sent;
        connection.pass(C, segment(ACK, sent[0], sent[1], window, 0), Phase::TcpEstablished);
        connection.pass(S, segment(ACK, sent[1], sent[0], window, 0), Phase::TcpEstablished);
        for (who, length, again) in moves {
            let (own, peer) = (usize::from(who), usize::from(!who));
            let scale = if own == 0 { scales.1 } else { scales.0 };
            let offered = u32::from(window) << scale;
            // What is allowed: up to what the peer has acknowledged and offered.
            let room = offered.saturating_sub(sent[own].wrapping_sub(acknowledged[own]));
            let length = length.min(room);
            let data = segment(ACK, sent[own], sent[peer], window, length);
            connection.pass(who, data, Phase::TcpEstablished);
            sent[own] = sent[own].wrapping_add(length);
            acknowledged[peer] = sent[peer];
            if again {
                // Sent again from the last acknowledged byte on.
                let from = acknowledged[own];
                let all = segment(ACK, from, sent[peer], window, sent[own].wrapping_sub(from));
                connection.pass(who, all, Phase::TcpEstablished);
            }
        }
    }
}
