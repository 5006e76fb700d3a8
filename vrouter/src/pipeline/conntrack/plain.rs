//! What conntrack reads of ordinary packets, for the whole burst at once.
//!
//! Almost every packet is TCP without SYN, or a protocol with ports of which nothing else is read. All of
//! it lies in the first 16 bytes behind the network header, one piece of columns:
//!
//! ```text
//!   word 0  source port | destination port     word 2  acknowledgment number
//!   word 1  sequence number                    word 3  length, flags | window
//! ```
//!
//! Invariant: for the lanes that pass, `headers` is as `read` would leave it (tested on arbitrary packets).

use acl::conntrack::{Headers, NO_SCALE};
use encap::wire::protocol;

use super::read::SYN;
use crate::burst::{Burst, Meta};
use crate::frame::FrameArea;
use crate::frame::columns::Columns;
use crate::vector;

/// Bytes of a TCP header without options.
const TCP_HEADER: u16 = 20;
/// Bytes of ports.
const PORTS: u16 = 4;
/// Bytes of a piece of columns.
const PIECE: u32 = 16;

/// Reads the ordinary packets among those in `mask`; returns which these were. The rows of other lanes
/// may change.
pub(super) fn packets(
    headers: &mut Headers,
    burst: &Burst,
    mask: u64,
    area: &FrameArea,
    columns: &mut Columns,
) -> u64 {
    area.columns(burst.frames(), &burst.meta.l4, [0], mask, core::array::from_mut(columns));
    read(headers, &burst.meta, mask, columns, area.frame_size().saturating_sub(PIECE))
}

vector::widest! {
    fn read(headers: &mut Headers, meta: &Meta, mask: u64, columns: &Columns, last: u32) -> u64 {
        let passed = vector::mask(mask, |lane| passes(meta, columns, last, lane));
        vector::each(mask, |lane| {
            let [ports, seq, ack, flags] = columns.0.each_ref().map(|column| column[lane]);
            let is_tcp = meta.protocol[lane] == protocol::TCP;
            headers.src4[lane] = meta.src4[lane];
            headers.dst4[lane] = meta.dst4[lane].to_bits();
            headers.src_port[lane] = (ports as u16).swap_bytes();
            headers.dst_port[lane] = ((ports >> 16) as u16).swap_bytes();
            headers.seq[lane] = seq.swap_bytes();
            headers.ack[lane] = ack.swap_bytes();
            headers.window[lane] = ((flags >> 16) as u16).swap_bytes();
            headers.kind[lane] = if is_tcp { (flags >> 8) as u8 } else { 0 };
            let before = u32::from(meta.l4[lane].wrapping_sub(meta.l3[lane])) + header_len(flags);
            headers.payload[lane] = meta.ip_len[lane].saturating_sub(before);
            headers.protocol[lane] = meta.protocol[lane];
            headers.len[lane] = meta.ip_len[lane];
            headers.zone[lane] = 0;
            headers.tcp_scale[lane] = NO_SCALE;
        });
        passed
    }
}

/// Bytes of the TCP header, from the word with the flags.
#[inline(always)]
fn header_len(flags: u32) -> u32 {
    (flags & 0xf0) >> 2
}

/// `last`: where the last piece of a frame begins.
#[inline(always)]
fn passes(meta: &Meta, columns: &Columns, last: u32, lane: usize) -> bool {
    let number = meta.protocol[lane];
    let l4 = meta.l4[lane];
    // What the head frame holds from there on.
    let held = meta.offset[lane].wrapping_add(meta.len[lane]).saturating_sub(l4);
    let flags = columns.0[3][lane];
    let header_len = header_len(flags) as u16;
    let syn = (flags >> 8) as u8 & SYN != 0;
    let segment = (number == protocol::TCP) & (header_len >= TCP_HEADER) & (held >= header_len) & !syn;
    let datagram = (number == protocol::UDP) & (held >= PORTS);
    (l4 != 0) & (u32::from(l4) <= last) & (segment | datagram)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FlowState, read};
    use super::*;
    use crate::burst::lanes;
    use crate::frame::{FramePool, FrameStore};
    use crate::ids::PortId;

    const NETWORK: u16 = 20;

    /// Protocol, where the transport header lies, its bytes.
    type Transport = (u8, u16, Vec<u8>);

    fn transport() -> impl Strategy<Value = Transport> {
        let protocol = prop_oneof![4 => Just(protocol::TCP), 2 => Just(protocol::UDP), 1 => any::<u8>()];
        let at = prop_oneof![4 => Just(290_u16), 1 => 1980..2048_u16];
        let flags = prop_oneof![4 => Just(0x10), 1 => Just(0x02), 1 => any::<u8>()];
        let bytes = prop_oneof![3 => prop::collection::vec(any::<u8>(), 20..40), 1 => prop::collection::vec(any::<u8>(), 0..30)];
        (protocol, at, bytes, prop_oneof![4 => Just(0x50_u8), 1 => any::<u8>()], flags).prop_map(
            |(protocol, at, mut bytes, length, flags)| {
                bytes.truncate(2048 - usize::from(at));
                bytes.iter_mut().skip(12).zip([length, flags]).for_each(|(byte, value)| *byte = value);
                (protocol, at, bytes)
            },
        )
    }

    /// Reads packets both ways; the lanes that passed here.
    fn passed(transports: &[Transport]) -> u64 {
        let mut pool = FramePool::new(FrameStore::new(FrameArea::new(70, 2048).unwrap()));
        let mut burst = Burst::default();
        for (lane, (protocol, at, bytes)) in transports.iter().enumerate() {
            let mut frame = pool.alloc().unwrap();
            let chunk = pool.area().chunk_mut(&mut frame);
            chunk.fill(0x5a);
            chunk[usize::from(*at)..][..bytes.len()].copy_from_slice(bytes);
            let len = NETWORK + bytes.len() as u16;
            burst.push(frame, at - NETWORK, len, PortId(0)).unwrap();
            let meta = &mut burst.meta;
            (meta.l3[lane], meta.l4[lane]) = (at - NETWORK, *at);
            (meta.protocol[lane], meta.ip_len[lane]) = (*protocol, len.into());
            (meta.src4[lane], meta.dst4[lane]) = (0x0a00_0000 + lane as u32, [10, 1, 0, lane as u8].into());
        }
        let mask = burst.alive;
        burst.v4 = mask;
        let (mut wide, mut single) = (FlowState::new(1), FlowState::new(1));
        let passed = packets(&mut wide.headers, &burst, mask, pool.area(), &mut Columns::default());
        let read = read::one_by_one(&mut single, &burst, mask, pool.area());
        assert_eq!(passed & !read.tracked, 0, "passes what is not to be tracked");
        let (wide, single) = (&wide.headers, &single.headers);
        for lane in lanes(passed) {
            let common = |h: &Headers| {
                let ends = (h.src4[lane], h.dst4[lane], h.src_port[lane], h.dst_port[lane]);
                (ends, h.protocol[lane], h.kind[lane], h.zone[lane], h.len[lane])
            };
            assert_eq!(common(wide), common(single), "lane {lane}");
            let segment =
                |h: &Headers| (h.seq[lane], h.ack[lane], h.window[lane], h.payload[lane], h.tcp_scale[lane]);
            if wide.protocol[lane] == protocol::TCP {
                assert_eq!(segment(wide), segment(single), "lane {lane}");
            }
        }
        for lane in lanes(mask) {
            pool.free(burst.take(lane));
        }
        passed
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn all_at_once_is_one_by_one(transports in prop::collection::vec(transport(), 1..=64)) {
            passed(&transports);
        }
    }

    #[test]
    fn ordinary_packets_pass_and_others_do_not() {
        let tcp = |length: u8, flags: u8| {
            let mut bytes = vec![7; 32];
            (bytes[12], bytes[13]) = (length, flags);
            (protocol::TCP, 290, bytes)
        };
        let udp = (protocol::UDP, 290, vec![1; 8]);
        let short = (protocol::UDP, 290, vec![1; 3]);
        let last = (protocol::UDP, 2040, vec![1; 8]);
        let echo = (protocol::ICMP, 290, vec![8; 8]);
        let all = [
            tcp(0x50, 0x10),
            tcp(0x80, 0x19),
            udp,
            tcp(0x50, 2),
            tcp(0x40, 0x10),
            tcp(0x90, 0x10),
            short,
            last,
            echo,
        ];
        assert_eq!(passed(&all), 0b111);
    }
}
