//! A burst: up to 64 packets that move through the stages together.
//!
//! ```text
//!   lane:        0    1    2    3   ...  63
//!   frames     [ f9 | f4 | f7 | f1 | ... ]     handles, one packet each (head of a chain)
//!   meta.l3    [ 14 | 14 | 18 | 14 | ... ]     one array per fact (structure of arrays)
//!   alive        1    1    0    1   ...        one bit per lane
//!   v4           1    0    0    1   ...
//! ```
//!
//! Stages iterate the set bits of a mask ([`lanes`]) and clear a packet's bit in
//! `alive` when it leaves the burst. A cleared lane's frame has gone elsewhere
//! (dropped, punted, held): that is the invariant which keeps frames from leaking.

mod masks;
mod offload;

use core::net::{Ipv4Addr, Ipv6Addr};

use fib::NO_ROUTE;

use crate::frame::columns::{Links, ROWS};
use crate::frame::{Frame, FrameArea};
use crate::ids::{AdjacencyId, PortId};
use crate::vector;

pub use masks::{FEW, Lanes, are_few, lanes};
pub use offload::{Checksum, Gso, GsoKind, TxPacket};

/// Lanes of a burst.
pub const LANES: usize = ROWS;

/// Lanes that are cleared of a burst with no more than that.
const SMALL: usize = 16;

/// Per-packet facts, one array each. Offsets count from the start of the chunk.
#[derive(Debug)]
pub struct Meta {
    /// First byte of the packet: the Ethernet header on receive and on transmit,
    /// the IP header between parse and rewrite where they differ (`l3`).
    pub offset: [u16; LANES],
    /// Bytes in the head frame from `offset` on.
    pub len: [u16; LANES],
    /// First byte of the network header.
    pub l3: [u16; LANES],
    /// First byte of the transport header; 0 where there is none to see
    /// (non-first fragments, unknown protocols).
    pub l4: [u16; LANES],
    /// Transport protocol, after extension headers.
    pub protocol: [u8; LANES],
    /// Length of the IP packet in bytes, header included (what the MTU is compared with).
    pub ip_len: [u32; LANES],
    /// The port where the packet entered.
    pub in_port: [PortId; LANES],
    /// IPv4 source, where the lane is in `v4`.
    pub src4: [u32; LANES],
    /// IPv4 destination, where the lane is in `v4`.
    pub dst4: [Ipv4Addr; LANES],
    /// IPv6 destination, where the lane is in `v6`.
    pub dst6: [Ipv6Addr; LANES],
    /// Transport checksum state; means something where the lane is in `offloaded`.
    checksum: [Checksum; LANES],
    /// Segmentation state; means something where the lane is in `offloaded`.
    gso: [Gso; LANES],
    /// What lookup found: raw next-hop group id, `fib::NO_ROUTE` without one.
    /// This is the route id that traces and counters name.
    pub group: [u32; LANES],
    /// The adjacency chosen from the group.
    pub adjacency: [AdjacencyId; LANES],
    /// The port of the way out, from lookup on.
    pub out_port: [PortId; LANES],
    /// Largest IP packet that the way out takes, from lookup on.
    pub mtu: [u32; LANES],
    /// Ethernet header of the way out, but for its type, from lookup on.
    pub link: Links,
    /// The policy rule that let the packet pass or not; 0 before policy ran.
    pub rule: [u32; LANES],
}

/// Up to 64 packets and what the stages know of them.
#[derive(Debug)]
pub struct Burst {
    frames: [Frame; LANES],
    /// Lanes that hold a packet that is still on its way.
    pub alive: u64,
    /// Lanes that came from a pod.
    pub from_pod: u64,
    /// Lanes that came from the node's own stack.
    pub from_host: u64,
    /// Lanes that carry IP in IP, by the protocol of the outer header.
    pub ip_in_ip: u64,
    /// Lanes whose adjacency leads to the one station behind a port.
    pub direct: u64,
    /// Lanes whose adjacency leads to a pod, from `dest_policy` on.
    pub to_pod: u64,
    /// Lanes whose adjacency leads to the node itself.
    pub to_host: u64,
    /// Lanes whose adjacency is a tunnel.
    pub tunnelled: u64,
    /// Lanes that hold IPv4.
    pub v4: u64,
    /// Lanes that hold IPv6.
    pub v6: u64,
    /// Lanes made by this router, not received: no TTL decrement, no policy.
    pub originated: u64,
    /// Lanes that came out of a tunnel.
    pub decapsulated: u64,
    /// Lanes that are fragments (IPv4 or IPv6).
    pub fragments: u64,
    /// Lanes that waited for a neighbour before.
    pub held: u64,
    /// Lanes of a flow that policy has let pass: no later stage asks again.
    pub known: u64,
    /// Lanes of no known flow: policy is asked, and then opens one.
    pub opens: u64,
    /// Of `opens`, lanes that open no flow: policy decides about each such packet by itself.
    pub untracked: u64,
    /// Lanes that fit no flow and may not open one: dropped where policy applies.
    pub unfit: u64,
    /// Lanes that a trace or capture follows.
    pub traced: u64,
    /// Lanes whose packet is a chain of frames. Until the network header is parsed, `ip_len` holds the
    /// bytes of all its frames from there on.
    pub chained: u64,
    /// Lanes whose network header lies in the worker's columns, where parse has put it, as it is in the
    /// frame.
    pub(crate) in_columns: u64,
    /// Lanes with a checksum or segmentation still to be done.
    offloaded: u64,
    /// Per-packet facts.
    pub meta: Meta,
    len: u8,
}

impl Meta {
    /// Forgets what the first `N` lanes must not hand on to the next packets.
    #[inline]
    fn forget<const N: usize>(&mut self) {
        self.rule[..N].fill(0);
        self.group[..N].fill(NO_ROUTE);
    }

    /// Bytes of the IP packets in `mask`.
    #[inline]
    pub(crate) fn ip_bytes(&self, mask: u64) -> u64 {
        u64::from(sum(&self.ip_len, mask))
    }
}

vector::widest! {
    fn sum(lens: &[u32; LANES], mask: u64) -> u32 {
        lens.iter().enumerate().map(|(lane, len)| *len * (mask >> lane & 1) as u32).sum()
    }
}

impl Default for Burst {
    fn default() -> Self {
        Burst {
            frames: [const { Frame::NONE }; LANES],
            alive: 0,
            from_pod: 0,
            from_host: 0,
            ip_in_ip: 0,
            direct: 0,
            to_pod: 0,
            to_host: 0,
            tunnelled: 0,
            v4: 0,
            v6: 0,
            originated: 0,
            decapsulated: 0,
            fragments: 0,
            held: 0,
            known: 0,
            opens: 0,
            untracked: 0,
            unfit: 0,
            traced: 0,
            chained: 0,
            in_columns: 0,
            offloaded: 0,
            len: 0,
            meta: Meta {
                offset: [0; LANES],
                len: [0; LANES],
                l3: [0; LANES],
                l4: [0; LANES],
                protocol: [0; LANES],
                ip_len: [0; LANES],
                in_port: [PortId::NONE; LANES],
                src4: [0; LANES],
                dst4: [Ipv4Addr::UNSPECIFIED; LANES],
                dst6: [Ipv6Addr::UNSPECIFIED; LANES],
                checksum: [Checksum::Complete; LANES],
                gso: [Gso { kind: GsoKind::None, size: 0 }; LANES],
                group: [NO_ROUTE; LANES],
                adjacency: [AdjacencyId(0); LANES],
                out_port: [PortId::NONE; LANES],
                mtu: [0; LANES],
                link: Links::default(),
                rule: [0; LANES],
            },
        }
    }
}

impl Burst {
    /// Empties the burst. Every lane must have left it (asserted in debug).
    #[inline]
    pub fn clear(&mut self) {
        debug_assert_eq!(self.alive, 0, "packets are still in the burst");
        self.alive = 0;
        self.from_pod = 0;
        self.from_host = 0;
        self.ip_in_ip = 0;
        self.direct = 0;
        self.to_pod = 0;
        self.to_host = 0;
        self.tunnelled = 0;
        self.v4 = 0;
        self.v6 = 0;
        self.originated = 0;
        self.decapsulated = 0;
        self.fragments = 0;
        self.held = 0;
        self.known = 0;
        self.opens = 0;
        self.untracked = 0;
        self.unfit = 0;
        self.traced = 0;
        self.chained = 0;
        self.in_columns = 0;
        self.offloaded = 0;
        // Two fixed numbers, so that a small burst costs little and a large one no call.
        match usize::from(self.len) {
            0..=SMALL => self.meta.forget::<SMALL>(),
            _ => self.meta.forget::<LANES>(),
        }
        self.len = 0;
    }

    /// Lanes used since the burst was cleared.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether no lane is used.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Lanes still free.
    #[inline]
    pub fn room(&self) -> usize {
        LANES - self.len as usize
    }

    /// Adds a received packet; gives the frame back where the burst is full.
    ///
    /// # Errors
    /// The frame itself, where no lane is free.
    #[inline]
    pub fn push(&mut self, frame: Frame, offset: u16, len: u16, in_port: PortId) -> Result<usize, Frame> {
        let lane = self.len as usize;
        if lane >= LANES {
            return Err(frame);
        }
        self.frames[lane] = frame;
        self.meta.offset[lane] = offset;
        self.meta.len[lane] = len;
        self.meta.in_port[lane] = in_port;
        self.alive |= 1 << lane;
        self.len += 1;
        Ok(lane)
    }

    /// Adds the packets that `next` gives, each a frame, where it begins and its length, until it has no more or no lane
    /// is free; how many it were.
    #[inline(always)]
    pub fn push_each(
        &mut self,
        in_port: PortId,
        mut next: impl FnMut() -> Option<(Frame, u16, u16)>,
    ) -> usize {
        let first = self.len as usize;
        let mut lane = first;
        let mut bit = 1_u64.checked_shl(self.len.into()).unwrap_or(0);
        while lane < LANES
            && let Some((frame, offset, len)) = next()
        {
            self.frames[lane] = frame;
            self.meta.offset[lane] = offset;
            self.meta.len[lane] = len;
            self.meta.in_port[lane] = in_port;
            self.alive |= bit;
            bit <<= 1;
            lane += 1;
        }
        self.len = lane as u8;
        lane - first
    }

    /// Takes a packet out of the burst: its lane dies and the caller owns the frame.
    #[inline]
    pub fn take(&mut self, lane: usize) -> Frame {
        self.alive &= !(1 << lane);
        self.frames[lane].take()
    }

    /// Takes a packet out of the burst for transmission.
    #[inline]
    pub fn take_tx(&mut self, lane: usize) -> TxPacket {
        TxPacket {
            frame: self.take(lane),
            offset: self.meta.offset[lane],
            len: self.meta.len[lane],
            in_port: self.meta.in_port[lane],
            checksum: self.checksum(lane),
            gso: self.gso(lane),
        }
    }

    /// Takes the packets of `mask` out of the burst for transmission, in order, to the end of `out`.
    #[inline]
    pub fn take_all_tx(&mut self, mask: u64, out: &mut Vec<TxPacket>) {
        if self.offloaded & mask == 0 && mask & mask.wrapping_add(1) == 0 {
            // The usual burst: nothing is left to be done, and no lane is missing.
            let lanes = LANES - mask.leading_zeros() as usize;
            out.reserve(lanes);
            let (frames, meta) = (&mut self.frames[..lanes], &self.meta);
            out.extend(frames.iter_mut().enumerate().map(|(lane, frame)| TxPacket {
                frame: frame.take(),
                offset: meta.offset[lane],
                len: meta.len[lane],
                in_port: meta.in_port[lane],
                checksum: Checksum::Complete,
                gso: Gso::NONE,
            }));
            self.alive &= !mask;
        } else {
            out.reserve(mask.count_ones() as usize);
            lanes(mask).for_each(|lane| out.push(self.take_tx(lane)));
        }
    }

    /// Notes that a packet, just pushed, is a chain with so many bytes behind its head frame.
    #[inline]
    pub fn set_chained(&mut self, lane: usize, behind: usize) {
        self.chained |= 1 << lane;
        self.meta.ip_len[lane] = u32::from(self.meta.len[lane]) + behind as u32;
    }

    /// Lanes with a checksum or segmentation still to be done.
    #[inline]
    pub fn offloaded(&self) -> u64 {
        self.offloaded
    }

    /// A packet's transport checksum state.
    #[inline]
    pub fn checksum(&self, lane: usize) -> Checksum {
        if self.offloaded >> lane & 1 == 1 { self.meta.checksum[lane] } else { Checksum::Complete }
    }

    /// A packet's segmentation state.
    #[inline]
    pub fn gso(&self, lane: usize) -> Gso {
        if self.offloaded >> lane & 1 == 1 { self.meta.gso[lane] } else { Gso::default() }
    }

    /// Notes what is still to be done on a packet.
    #[inline]
    pub fn set_offload(&mut self, lane: usize, checksum: Checksum, gso: Gso) {
        let offloaded = (checksum, gso) != (Checksum::Complete, Gso::default());
        self.offloaded = self.offloaded & !(1 << lane) | u64::from(offloaded) << lane;
        self.meta.checksum[lane] = checksum;
        self.meta.gso[lane] = gso;
    }

    /// The lanes of `mask` whose way out is `port`.
    #[inline]
    pub fn toward(&self, port: PortId, mask: u64) -> u64 {
        with_port(&self.meta.out_port, port, mask)
    }

    /// The lanes of `mask` that entered at `port`.
    #[inline]
    pub fn came_from(&self, port: PortId, mask: u64) -> u64 {
        with_port(&self.meta.in_port, port, mask)
    }

    /// The frames of all lanes; none where there is no packet.
    #[inline]
    pub fn frames(&self) -> &[Frame; LANES] {
        &self.frames
    }

    /// The frame of a lane.
    #[inline]
    pub fn frame(&self, lane: usize) -> &Frame {
        &self.frames[lane]
    }

    /// The frames of all lanes, to write to, beside the facts.
    #[inline]
    pub fn frames_mut(&mut self) -> (&mut [Frame; LANES], &mut Meta) {
        (&mut self.frames, &mut self.meta)
    }

    /// The frame of a lane, to write to.
    #[inline]
    pub fn frame_mut(&mut self, lane: usize) -> &mut Frame {
        &mut self.frames[lane]
    }

    /// A packet's bytes in its head frame, from `offset` on.
    #[inline]
    pub fn bytes<'a>(&'a self, lane: usize, area: &'a FrameArea) -> &'a [u8] {
        area.bytes(&self.frames[lane], self.meta.offset[lane], self.meta.len[lane])
    }

    /// A packet's bytes in its head frame, from `offset` on, to write to.
    #[inline]
    pub fn bytes_mut<'a>(&'a mut self, lane: usize, area: &'a FrameArea) -> &'a mut [u8] {
        area.bytes_mut(&mut self.frames[lane], self.meta.offset[lane], self.meta.len[lane])
    }

    /// A packet's bytes from its network header to the end of its head frame.
    #[inline]
    pub fn network<'a>(&'a self, lane: usize, area: &'a FrameArea) -> &'a [u8] {
        area.bytes(&self.frames[lane], self.meta.l3[lane], self.network_len(lane))
    }

    /// A packet's bytes from its network header to the end of its head frame, to write to.
    #[inline]
    pub fn network_mut<'a>(&'a mut self, lane: usize, area: &'a FrameArea) -> &'a mut [u8] {
        let len = self.network_len(lane);
        area.bytes_mut(&mut self.frames[lane], self.meta.l3[lane], len)
    }

    #[inline]
    fn network_len(&self, lane: usize) -> u16 {
        (self.meta.offset[lane] + self.meta.len[lane]).saturating_sub(self.meta.l3[lane])
    }
}

/// The lanes of `mask` with this port.
#[inline]
fn with_port(ports: &[PortId; LANES], port: PortId, mask: u64) -> u64 {
    if are_few(mask) {
        return lanes(mask).fold(0, |same, lane| same | u64::from(ports[lane] == port) << lane);
    }
    equal(ports, port, mask)
}

vector::widest! {
    /// The lanes of `mask` with this port.
    fn equal(ports: &[PortId; LANES], port: PortId, mask: u64) -> u64 {
        vector::mask(mask, |lane| ports[lane] == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_burst_gives_the_frame_back() {
        let mut burst = Burst::default();
        for _ in 0..LANES {
            burst.push(Frame::NONE, 0, 0, PortId(0)).unwrap();
        }
        assert_eq!(burst.room(), 0);
        assert_eq!(burst.push(Frame::NONE, 0, 0, PortId(0)), Err(Frame::NONE));
        for lane in 0..LANES {
            let _ = burst.take(lane);
        }
        burst.clear();
        assert!(burst.is_empty());
    }
}
