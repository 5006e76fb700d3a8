//! The common case: an acknowledgment, with or without data, in the window of an established connection. It is judged
//! on the packed words, by the same bounds as [`Tcp::fit`]; whatever is not plainly right goes the long way.

use super::*;

/// The bits of a side in word 2.
pub(in super::super) const ACKNOWLEDGED: u32 = 1;
pub(in super::super) const UNITS_SHIFT: u32 = 6;
pub(in super::super) const MAX_UNITS: u32 = (1 << 26) - 1;
/// The bits of word 3 that a segment leaves as they are: FINs and "not checked".
pub(in super::super) const KEPT: u64 = 7 << 36;
pub(in super::super) const NOT_CHECKED: u64 = 1 << 36;
/// The flags of a plain segment, of those that matter.
pub(in super::super) const PLAIN: u8 = ACK;
pub(in super::super) const PLAIN_OF: u8 = CHECKED & !URG;

/// What an acknowledgment reads of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Known {
    /// Word of the side that sends the segment.
    pub(in super::super) sender: u64,
    /// Word of the side that receives it.
    pub(in super::super) receiver: u64,
    /// Word 2.
    pub(in super::super) windows: u64,
    /// Word 3.
    pub(in super::super) last: u64,
}

/// Whether a segment may be one that [`acknowledgment`] judges.
#[inline(always)]
pub(in super::super) fn is_plain(flags: u8) -> bool {
    flags & PLAIN_OF == PLAIN
}

/// The words after a plain segment of an established connection, or nothing where the long way must judge it. Nothing
/// changes of the receiver's word.
#[inline(always)]
pub(in super::super) fn acknowledgment(known: Known, reply: bool, segment: &TcpSegment) -> Option<Known> {
    let shift = if reply { 0 } else { 32 };
    let (sent, offered) = ((known.windows >> shift) as u32, (known.windows >> (32 - shift)) as u32);
    let (own_end, own_ack) = ((known.sender >> 32) as u32, known.sender as u32);
    let (peer_end, peer_ack) = ((known.receiver >> 32) as u32, known.receiver as u32);
    let (own_window, window) = ((sent >> UNITS_SHIFT) << 4, (offered >> UNITS_SHIFT) << 4);
    let end = segment.seq.wrapping_add(segment.payload);
    let upper = peer_ack.wrapping_add(window);
    let newest = if after(own_end, upper) { upper } else { own_end };
    let oldest_ack = peer_end.wrapping_sub(own_window.max(ACK_SLACK)).wrapping_sub(1);
    // All at once: next to no segment of an established connection fails, and a branch for each would cost more.
    let fits = (known.last & NOT_CHECKED == 0)
        & (sent & offered & ACKNOWLEDGED != 0)
        & !after(segment.seq, upper)
        & !after(segment.ack, peer_end)
        & after(end, newest.wrapping_sub(window).wrapping_sub(1))
        & after(segment.ack, oldest_ack)
        & (own_window != 0)
        & (window != 0);
    if !fits {
        return None;
    }
    let end_now = if after(end, own_end) { end } else { own_end };
    let ack_now = if after(segment.ack, own_ack) { segment.ack } else { own_ack };
    let scaled = u32::from(segment.window) << (sent >> 2 & 0xf);
    let units = (sent >> UNITS_SHIFT).max(scaled.div_ceil(16).min(MAX_UNITS));
    let sent = units << UNITS_SHIFT | sent & ((1 << UNITS_SHIFT) - 1);
    let last = (Kind::Ack as u64) << 40 | u64::from(reply) << 39 | u64::from(segment.window) << 48;
    Some(Known {
        sender: u64::from(end_now) << 32 | u64::from(ack_now),
        receiver: known.receiver,
        windows: known.windows & !(0xffff_ffff << shift) | u64::from(sent) << shift,
        last: known.last & KEPT | last | u64::from(end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn side(at: u32) -> impl Strategy<Value = Side> {
        (0..9000_u32, 0..9000_u32, 0..20_000_u32, 0..15_u8, any::<(bool, u8)>()).prop_map(
            move |(end, ack, max_window, scale, (offered_scale, acknowledged))| Side {
                end: at.wrapping_add(end),
                max_ack: at.wrapping_sub(9000).wrapping_add(ack),
                max_window,
                scale,
                offered_scale,
                acknowledged: acknowledged > 20,
            },
        )
    }

    /// All words after a segment that the short way takes.
    fn short(words: [u64; 4], reply: bool, segment: &TcpSegment) -> Option<[u64; 4]> {
        let [opener, peer, windows, last] = words;
        let (sender, receiver) = if reply { (peer, opener) } else { (opener, peer) };
        let known = Known { sender, receiver, windows, last };
        let known = is_plain(segment.flags).then(|| acknowledgment(known, reply, segment))??;
        let Known { sender, receiver, windows, last } = known;
        let [opener, peer] = if reply { [receiver, sender] } else { [sender, receiver] };
        Some([opener, peer, windows, last])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_short_way_says_what_the_long_way_says(
            sides in any::<u32>().prop_flat_map(|at| (side(at), side(at), Just(at))),
            reply: bool, fin: [bool; 2], unchecked in prop::bool::weighted(0.1),
            seq in 0..30_000_u32, ack in 0..30_000_u32, window: u16, payload in 0..9000_u32,
            flags in prop_oneof![8 => Just(ACK), 1 => Just(ACK | URG | 8), 1 => any::<u8>()],
            scale in prop::option::of(0..15_u8),
        ) {
            let (a, b, at) = sides;
            let last = Last { kind: Kind::Syn, reply: false, end: 1, window: 2, scale: Some(3) };
            let words = Tcp { sides: [a, b], last, fin, unchecked }.pack();
            let near = |offset: u32| at.wrapping_sub(10_000).wrapping_add(offset);
            let segment = TcpSegment { flags, seq: near(seq), ack: near(ack), window, payload, scale: None };
            // A scale is read from SYNs alone.
            let segment = if flags & SYN != 0 { TcpSegment { scale, ..segment } } else { segment };
            if let Some(short) = short(words, reply, &segment) {
                let mut tcp = Tcp::unpack(words);
                let step = tcp.segment(Phase::TcpEstablished, reply, &segment, &TcpSettings::default());
                prop_assert_eq!(step, Step::Pass(Phase::TcpEstablished));
                prop_assert_eq!(short, tcp.pack());
            }
        }
    }

    #[test]
    fn the_short_way_takes_ordinary_segments() {
        let syn = TcpSegment { flags: SYN, seq: 9, window: 500, ..TcpSegment::default() };
        let settings = TcpSettings::default();
        let (mut tcp, _) = Tcp::open(&syn, &settings).unwrap();
        let syn_ack = TcpSegment { flags: SYN | ACK, seq: 70, ack: 10, window: 500, ..syn };
        let _ = tcp.segment(Phase::TcpSynSent, true, &syn_ack, &settings);
        let ack = TcpSegment { flags: ACK, seq: 10, ack: 71, window: 500, ..syn };
        let _ = tcp.segment(Phase::TcpSynReceived, false, &ack, &settings);
        let data = TcpSegment { payload: 100, ..ack };
        assert!(short(tcp.pack(), false, &data).is_some());
        assert!(short(tcp.pack(), false, &TcpSegment { seq: 9000, ..data }).is_none());
    }
}
