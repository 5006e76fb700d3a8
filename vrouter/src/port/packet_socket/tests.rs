//! Queues on veth pairs in namespaces of their own. As root.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::burst::{Checksum, Gso, GsoKind};
use crate::counters::WorkerCounters;
use crate::frame::chain::{Chain, MAX_PACKET, frames_for};
use crate::frame::{FrameArea, FrameStore, HEADROOM};
use crate::sys::ifreq::Interface;
use crate::sys::test_net::{in_new_netns, run, veth_pair, within};

const FRAMES: u32 = 2048;

/// Queues on both ends of a pair.
struct Pair {
    store: Arc<FrameStore>,
    pool: FramePool,
    counters: WorkerCounters,
    ends: [Box<dyn PortQueue>; 2],
}

impl Pair {
    fn new(mtu: u32) -> Self {
        Self::with_frames(mtu, FRAMES)
    }

    fn with_frames(mtu: u32, frames: u32) -> Self {
        veth_pair(1);
        let open = |name: &str| {
            run(&format!("ip link set {name} mtu {mtu}"));
            let index = Interface::open(name).unwrap().index().unwrap();
            queues(index, false).unwrap().pop().unwrap()
        };
        let ends = ["va", "vb"].map(open);
        let store = FrameStore::new(FrameArea::new(frames, 2048).unwrap());
        Pair { pool: FramePool::new(store.clone()), store, counters: WorkerCounters::default(), ends }
    }

    /// A frame of an EtherType for experiments in as many frames as it takes.
    fn packet(&mut self, bytes: &[u8]) -> TxPacket {
        let mut pieces = bytes.chunks(self.store.area().capacity());
        let mut one = |piece: &[u8]| {
            let mut frame = self.pool.alloc().unwrap();
            self.store.area().chunk_mut(&mut frame)[HEADROOM..][..piece.len()].copy_from_slice(piece);
            frame
        };
        let first = pieces.next().unwrap();
        let mut chain = Chain::new(one(first));
        for piece in pieces {
            chain.append(self.store.area(), one(piece), HEADROOM as u16, piece.len() as u16);
        }
        TxPacket {
            frame: chain.finish(),
            offset: HEADROOM as u16,
            len: first.len() as u16,
            in_port: PortId(0),
            checksum: Checksum::Complete,
            gso: Gso::default(),
        }
    }

    fn send(&mut self, mut packets: Vec<TxPacket>) -> (u64, u64) {
        let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
        self.ends[0].tx_burst(&mut packets, &mut io)
    }

    /// The packets that arrive at the other end, at least `count`.
    fn receive(&mut self, count: usize) -> Vec<TxPacket> {
        let mut all = Vec::new();
        within(Duration::from_secs(2), || {
            let mut burst = Burst::default();
            let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
            let received = self.ends[1].rx_burst(PortId(1), &mut burst, &mut io);
            all.extend((0..received).map(|lane| burst.take_tx(lane)));
            (all.len() >= count).then_some(())
        })
        .unwrap_or_else(|| panic!("{} of {count} packets", all.len()));
        all
    }

    fn bytes(&self, packet: &TxPacket) -> Vec<u8> {
        self.store.area().pieces(&packet.frame, packet.offset, packet.len).collect::<Vec<_>>().concat()
    }

    fn drops(&self, port: u16, reason: DropReason) -> u64 {
        self.counters.drops(PortId(port), reason).get()
    }

    fn free(&mut self, packets: Vec<TxPacket>) {
        packets.into_iter().for_each(|packet| self.pool.free(packet.frame));
    }

    /// Every frame must be back.
    fn close(mut self) {
        self.ends.into_iter().for_each(|queue| queue.close(&mut self.pool));
        let free = self.store.free_frames() + self.pool.local_frames();
        assert_eq!(free, self.store.area().count() as usize);
    }
}

fn frame(len: usize, seed: u8) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 0x88, 0xb5];
    frame.extend((14..len).map(|i| (i * 31 + i / 251) as u8 ^ seed));
    frame
}

/// A TCP super-packet over IPv4 with `len` bytes of data, its checksum left to be finished.
fn super_packet(len: usize) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0];
    let total = (40 + len) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = encap::wire::checksum::checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(ip);
    let pseudo = encap::wire::checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, total - 20);
    bytes.extend([0x10, 0, 0x20, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0]);
    bytes.extend(encap::wire::checksum::fold(pseudo).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((0..len).map(|i| (i * 31 + i / 251) as u8));
    bytes
}

#[test]
fn packets_of_all_lengths_come_in_order() {
    in_new_netns(|| {
        let mut pair = Pair::new(9000);
        for round in 0..4 {
            let lens = [60, 61, 1514, 1792, 1793, 9014, 60, 4000, 60];
            let frames: Vec<_> = (0..72).map(|n| frame(lens[n % lens.len()], n as u8 ^ round)).collect();
            let packets = frames.iter().map(|frame| pair.packet(frame)).collect();
            let bytes: usize = frames.iter().map(Vec::len).sum();
            assert_eq!(pair.send(packets), (72, bytes as u64));
            let got = pair.receive(72);
            assert_eq!(got.iter().map(|packet| pair.bytes(packet)).collect::<Vec<_>>(), frames);
            pair.free(got);
        }
        pair.close();
    });
}

#[test]
fn super_packets_come_whole() {
    in_new_netns(|| {
        let mut pair = Pair::new(1500);
        for len in [3000, 20_000, 65_000] {
            let bytes = super_packet(len);
            let checksum = Checksum::Partial { start: HEADROOM as u16 + 34, field: 16 };
            let gso = Gso { kind: GsoKind::Tcp4, size: 1448 };
            let packet = TxPacket { checksum, gso, ..pair.packet(&bytes) };
            assert_eq!(pair.send(vec![packet]), (1, bytes.len() as u64));
            let got = pair.receive(1);
            assert_eq!(got.len(), 1);
            assert_eq!((got[0].checksum, got[0].gso), (checksum, gso), "{len} bytes");
            assert_eq!(pair.bytes(&got[0]), bytes, "{len} bytes");
            pair.free(got);
        }
        pair.close();
    });
}

/// The same in a tunnel, its checksum still left to be finished.
fn tunnelled(inner: &[u8]) -> Vec<u8> {
    let mut outer = vec![0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, 4, 0, 0, 172, 16, 0, 1, 172, 16, 0, 2];
    outer[2..4].copy_from_slice(&((inner.len() - 14 + 20) as u16).to_be_bytes());
    let sum = encap::wire::checksum::checksum(&outer);
    outer[10..12].copy_from_slice(&sum.to_be_bytes());
    [&inner[..14], &outer, &inner[14..]].concat()
}

const IN_TUNNEL: Checksum = Checksum::Partial { start: HEADROOM as u16 + 54, field: 16 };

#[test]
fn super_packets_in_a_tunnel_are_cut_up() {
    in_new_netns(|| {
        let mut pair = Pair::new(1500);
        let inner = super_packet(20_000);
        let gso = Gso { kind: GsoKind::Tcp4, size: 1440 };
        let packet = TxPacket { checksum: IN_TUNNEL, gso, ..pair.packet(&tunnelled(&inner)) };
        let count = 20_000_usize.div_ceil(1440);
        assert_eq!(pair.send(vec![packet]).0, count as u64);
        let got = pair.receive(count);
        let data: Vec<u8> = got.iter().flat_map(|packet| pair.bytes(packet)[74..].to_vec()).collect();
        assert_eq!(data, inner[54..]);
        assert!(got.iter().all(|packet| packet.gso == Gso::default()));
        pair.free(got);
        pair.close();
    });
}

#[test]
fn checksums_in_a_tunnel_are_finished() {
    in_new_netns(|| {
        let mut pair = Pair::new(1500);
        let packet = TxPacket { checksum: IN_TUNNEL, ..pair.packet(&tunnelled(&super_packet(100))) };
        assert_eq!(pair.send(vec![packet]).0, 1);
        let got = pair.receive(1);
        assert_eq!(got[0].checksum, Checksum::Complete);
        let bytes = pair.bytes(&got[0]);
        let pseudo = encap::wire::checksum::pseudo_v4([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 6, 120);
        let sum = encap::wire::checksum::sum(&bytes[54..]);
        assert_eq!(encap::wire::checksum::fold(pseudo + sum), 0xffff);
        pair.free(got);
        pair.close();
    });
}

#[test]
fn what_the_device_refuses_is_counted() {
    in_new_netns(|| {
        let mut pair = Pair::new(1500);
        let frames = [frame(60, 1), frame(3000, 2), frame(61, 3)];
        let packets = frames.iter().map(|frame| pair.packet(frame)).collect();
        assert_eq!(pair.send(packets).0, 2);
        assert_eq!(pair.drops(0, DropReason::TooBigForPort), 1);
        let got = pair.receive(2);
        assert_eq!(pair.bytes(&got[1]), frames[2], "what follows is sent");
        pair.free(got);
        let mut low = pair.packet(&frames[0]);
        low.offset = 4;
        assert_eq!(pair.send(vec![low]).0, 0);
        assert_eq!(pair.drops(0, DropReason::NoHeadroom), 1);
        run("ip link set va down");
        let packet = pair.packet(&frames[0]);
        assert_eq!(pair.send(vec![packet]).0, 0);
        assert_eq!(pair.drops(0, DropReason::PortDown), 1);
        // Up again, it works again.
        run("ip link set va up");
        let packet = pair.packet(&frames[0]);
        within(Duration::from_secs(2), || run("ip link show vb").contains("LOWER_UP").then_some(()));
        assert_eq!(pair.send(vec![packet]).0, 1);
        let got = pair.receive(1);
        pair.free(got);
        pair.close();
    });
}

#[test]
fn what_is_longer_than_there_are_frames_is_counted() {
    in_new_netns(|| {
        // The packet, sent, goes back to the pool before it arrives.
        let frames = frames_for(MAX_PACKET, 2048) as u32;
        let mut pair = Pair::with_frames(1500, frames);
        let packet = TxPacket {
            checksum: Checksum::Partial { start: HEADROOM as u16 + 34, field: 16 },
            gso: Gso { kind: GsoKind::Tcp4, size: 1448 },
            ..pair.packet(&super_packet(60_000))
        };
        assert_eq!(pair.send(vec![packet]).0, 1);
        let held: Vec<_> = (0..20).map(|_| pair.pool.alloc().unwrap()).collect();
        within(Duration::from_secs(2), || {
            let mut burst = Burst::default();
            let mut io = QueueIo { pool: &mut pair.pool, counters: &pair.counters };
            assert_eq!(pair.ends[1].rx_burst(PortId(1), &mut burst, &mut io), 0);
            (pair.drops(1, DropReason::NoFrame) == 1).then_some(())
        })
        .expect("the packet is counted");
        held.into_iter().for_each(|frame| pair.pool.free(frame));
        pair.close();
    });
}

#[test]
fn frames_with_a_tag_are_nobodys() {
    in_new_netns(|| {
        let mut pair = Pair::new(1500);
        let mut tagged = frame(100, 0);
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        let packet = pair.packet(&tagged);
        assert_eq!(pair.send(vec![packet]).0, 1);
        let plain = frame(60, 0);
        let packet = pair.packet(&plain);
        assert_eq!(pair.send(vec![packet]).0, 1);
        let got = pair.receive(1);
        assert_eq!((got.len(), pair.bytes(&got[0])), (1, plain));
        pair.free(got);
        pair.close();
    });
}
