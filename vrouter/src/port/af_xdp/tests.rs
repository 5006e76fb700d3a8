//! Queues on veth pairs in namespaces of their own. As root.

use super::*;
use crate::burst::GsoKind;
use crate::burst::{Burst, Checksum, Gso, LANES, TxPacket};
use crate::counters::WorkerCounters;
use crate::frame::chain::Chain;
use crate::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use crate::ids::PortId;
use crate::port::{PortQueue, QueueIo};
use crate::sys::test_net::{PacketSocket, in_new_netns, run, veth_pair};

const FRAMES: u32 = 4096;
const FILL: u32 = 64;

/// A frame for somebody whom no switch knows.
fn packet(pool: &mut FramePool) -> Option<TxPacket> {
    let mut frame = pool.alloc()?;
    let bytes = &mut pool.area().chunk_mut(&mut frame)[HEADROOM..HEADROOM + 60];
    bytes.fill(2);
    bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
    Some(TxPacket {
        frame,
        offset: HEADROOM as u16,
        len: 60,
        in_port: PortId(0),
        checksum: Checksum::Complete,
        gso: Gso::default(),
    })
}

/// What is sent waits in a queue of another device, which lets nearly nothing pass: the socket's
/// buffer fills up, then the ring, and the kernel takes nothing. When the queue goes, sending must go
/// on, and end without another packet's help.
///
/// ```text
///   va (AF_XDP) --- vb ~~bridge~~ wa (tbf) --- wb
/// ```
#[test]
fn a_ring_that_was_full_is_sent_in_the_end() {
    in_new_netns(|| {
        veth_pair(1);
        for command in [
            "ip link add wa type veth peer name wb",
            "ip link add sw type bridge",
            "ip link set vb master sw",
            "ip link set wa master sw",
            "ip link set wa up",
            "ip link set wb up",
            "ip link set sw up",
            "tc qdisc add dev wa root tbf rate 8kbit burst 2000 limit 10000000",
        ] {
            run(command);
        }
        let area = FrameArea::new(FRAMES, 2048).unwrap();
        let store = FrameStore::new(area.clone());
        let mut pool = FramePool::new(store.clone());
        let counters = WorkerCounters::default();
        let options = DeviceOptions { fill_depth: FILL, ring_size: 256, ..DeviceOptions::pod() };
        let (_device, mut queues) = Device::open(&area, "va", &options).unwrap();
        let queue = &mut queues[0];
        let mut batch = Vec::with_capacity(LANES);
        let mut turn = |queue: &mut Box<dyn PortQueue>, pool: &mut FramePool| {
            batch.extend(std::iter::from_fn(|| packet(pool)).take(LANES));
            queue.tx_burst(&mut batch, &mut QueueIo { pool, counters: &counters }).0
        };
        let full = (0..100).any(|_| turn(queue, &mut pool) == 0);
        assert!(full, "the kernel never had enough");
        run("tc qdisc del dev wa root");
        let sent: u64 = (0..10).map(|_| turn(queue, &mut pool)).sum();
        assert!(sent >= 5 * LANES as u64, "{sent} of {} packets were sent", 10 * LANES);
        // A worker that polls only receives from now on.
        let mut io = QueueIo { pool: &mut pool, counters: &counters };
        let mut burst = Burst::default();
        for _ in 0..1000 {
            assert_eq!(queue.rx_burst(PortId(0), &mut burst, &mut io), 0);
        }
        assert_eq!(queue.outstanding(), FILL as usize, "frames to receive into alone are with the kernel");
        queues.into_iter().for_each(|queue| queue.close(&mut pool));
        drop(pool);
        assert_eq!(store.free_frames(), FRAMES as usize);
    });
}

/// A TCP super-packet of three segments of 1000 bytes, with its data in two frames.
fn super_packet(pool: &mut FramePool) -> TxPacket {
    let mut head = pool.alloc().unwrap();
    let mut behind = pool.alloc().unwrap();
    let area = pool.area();
    let bytes = &mut area.chunk_mut(&mut head)[HEADROOM..HEADROOM + 1054];
    bytes.fill(7);
    bytes[..14].copy_from_slice(&[2, 0, 0, 0, 0, 0xb, 2, 0, 0, 0, 0, 0xa, 8, 0]);
    // 3,040 bytes, no fragment, TTL 64, TCP, checksum left to the reader of this test.
    bytes[14..34]
        .copy_from_slice(&[0x45, 0, 0x0b, 0xe0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = encap::wire::checksum::checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[34..54].copy_from_slice(&[0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 1, 0, 0, 0, 0]);
    area.chunk_mut(&mut behind)[..2000].fill(8);
    let mut chain = Chain::new(head);
    chain.append(area, behind, 0, 2000);
    TxPacket {
        frame: chain.finish(),
        offset: HEADROOM as u16,
        len: 1054,
        in_port: PortId(0),
        checksum: Checksum::Partial { start: HEADROOM as u16 + 34, field: 16 },
        gso: Gso { kind: GsoKind::Tcp4, size: 1000 },
    }
}

#[test]
fn a_super_packet_leaves_a_veth_whole_and_in_its_turn() {
    in_new_netns(|| {
        veth_pair(1);
        let area = FrameArea::new(64, 2048).unwrap();
        let store = FrameStore::new(area.clone());
        let mut pool = FramePool::new(store.clone());
        let counters = WorkerCounters::default();
        let options = DeviceOptions { fill_depth: 8, ring_size: 64, ..DeviceOptions::pod() };
        let (_device, mut queues) = Device::open(&area, "va", &options).unwrap();
        let other_end = PacketSocket::on("vb");
        let ours =
            |frame: &[u8]| frame.len() >= 60 && (frame[6..12] == [2, 0, 0, 0, 0, 0xa] || frame[11] == 9);
        for (device, lens) in [("whole", vec![60, 3054, 60]), ("cut", vec![60, 1054, 1054, 1054, 60])] {
            if device == "cut" {
                run("ethtool -K va tso off gso off");
            }
            let mut batch = vec![packet(&mut pool).unwrap(), super_packet(&mut pool)];
            batch.push(packet(&mut pool).unwrap());
            let sent = queues[0].tx_burst(&mut batch, &mut QueueIo { pool: &mut pool, counters: &counters });
            assert_eq!(sent, (3, 60 + 3054 + 60));
            let received: Vec<_> = lens.iter().map(|_| other_end.receive(ours)).collect();
            let found: Vec<_> = received.iter().map(Vec::len).collect();
            assert_eq!(found, lens, "{device}");
            let data: Vec<u8> =
                received[1..lens.len() - 1].iter().flat_map(|frame| frame[54..].to_vec()).collect();
            assert!(data[..1000] == [7; 1000] && data[1000..] == [8; 2000], "{device}");
        }
        queues.into_iter().for_each(|queue| queue.close(&mut pool));
        drop(pool);
        assert_eq!(store.free_frames(), 64);
    });
}
