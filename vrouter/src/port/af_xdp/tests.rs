//! Queues on veth pairs in namespaces of their own. As root.

use super::*;
use crate::burst::GsoKind;
use crate::burst::{Burst, Checksum, Gso, LANES, TxPacket};
use crate::counters::WorkerCounters;
use crate::frame::chain::Chain;
use crate::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use crate::ids::PortId;
use crate::port::{PortQueue, QueueIo};
use crate::sys::test_net::{PacketSocket, in_new_netns, run, test_frame, veth_pair, within};

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
        let options = DeviceOptions { fill_depth: FILL, ring_size: 256, ..DeviceOptions::pod(1) };
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

/// A device with an MTU of 9000, what is received on it, and the frames of both.
struct Jumbo {
    store: std::sync::Arc<FrameStore>,
    pool: FramePool,
    counters: WorkerCounters,
    queues: Vec<Box<dyn PortQueue>>,
    _device: Device,
}

impl Jumbo {
    fn open(mtu: u32, batch: usize) -> Self {
        veth_pair(1);
        run(&format!("ip link set va mtu {mtu}"));
        run(&format!("ip link set vb mtu {mtu}"));
        let area = FrameArea::new(FRAMES, 2048).unwrap();
        let store = FrameStore::new(area.clone());
        let pool = FramePool::new(store.clone());
        let tuning = Tuning { batch, ..Tuning::default() };
        let options = DeviceOptions { fill_depth: FILL, ring_size: 256, tuning, ..DeviceOptions::pod(1) };
        let (device, queues) = Device::open(&area, "va", &options).unwrap();
        assert!(device.suits(mtu, 2048) && !device.suits(10_500 - mtu, 2048));
        let mut jumbo = Jumbo { store, pool, counters: WorkerCounters::default(), queues, _device: device };
        // Gives the kernel frames to receive into.
        assert_eq!(jumbo.receive(&mut Burst::default()), 0);
        jumbo
    }

    /// Receives once into `burst`.
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
        self.queues[0].rx_burst(PortId(0), burst, &mut io)
    }

    /// The next packet.
    fn next(&mut self) -> TxPacket {
        let mut burst = Burst::default();
        within(std::time::Duration::from_secs(2), || (self.receive(&mut burst) > 0).then_some(()))
            .expect("a packet");
        burst.take_tx(0)
    }

    fn send(&mut self, packet: TxPacket) -> (u64, u64) {
        let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
        self.queues[0].tx_burst(&mut vec![packet], &mut io)
    }

    fn bytes(&self, packet: &TxPacket) -> Vec<u8> {
        self.store.area().pieces(&packet.frame, packet.offset, packet.len).collect::<Vec<_>>().concat()
    }

    /// A packet of so many frames.
    fn chain(&mut self, frames: usize) -> TxPacket {
        let mut one = || {
            let mut frame = self.pool.alloc().unwrap();
            self.store.area().chunk_mut(&mut frame).fill(2);
            frame
        };
        let mut chain = crate::frame::chain::Chain::new(one());
        (1..frames).for_each(|_| chain.append(self.store.area(), one(), HEADROOM as u16, 100));
        TxPacket {
            frame: chain.finish(),
            offset: HEADROOM as u16,
            len: 100,
            in_port: PortId(0),
            checksum: Checksum::Complete,
            gso: Gso::default(),
        }
    }

    fn drops(&self, reason: crate::drop_reason::DropReason) -> u64 {
        self.counters.drops(PortId(0), reason).get()
    }

    /// Closes the queues: every frame must be back.
    fn close(mut self) {
        self.queues.into_iter().for_each(|queue| queue.close(&mut self.pool));
        drop(self.pool);
        assert_eq!(self.store.free_frames(), FRAMES as usize);
    }
}

fn payload(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n * 31 + n / 251) as u8).collect()
}

#[test]
fn packets_of_several_frames_come_and_go() {
    in_new_netns(|| {
        let mut jumbo = Jumbo::open(9000, LANES);
        let wire = PacketSocket::on("vb");
        for len in [46, 1778, 1779, 3584, 3585, 8000, 9000] {
            let frame = test_frame(&payload(len));
            wire.send(&frame);
            let packet = jumbo.next();
            assert_eq!(jumbo.store.area().is_chain(&packet.frame), frame.len() > 1792, "{len} bytes");
            assert_eq!(jumbo.bytes(&packet), frame, "{len} bytes");
            assert_eq!(jumbo.send(packet), (1, frame.len() as u64));
            let back = wire.receive(|f| f[12..14] == [0x88, 0xb5] && f.len() == frame.len());
            assert_eq!(back, frame, "{len} bytes");
        }
        jumbo.close();
    });
}

#[test]
fn a_packet_received_in_parts_is_put_together() {
    in_new_netns(|| {
        // One ring entry a call.
        let mut jumbo = Jumbo::open(9000, 1);
        let wire = PacketSocket::on("vb");
        let frames = [test_frame(&payload(8000)), test_frame(&payload(60)), test_frame(&payload(4000))];
        frames.iter().for_each(|frame| wire.send(frame));
        for frame in &frames {
            let packet = jumbo.next();
            assert_eq!(&jumbo.bytes(&packet), frame);
            jumbo.pool.free(packet.frame);
        }
        // The frames of a packet whose end never came go back too.
        wire.send(&frames[0]);
        let mut burst = Burst::default();
        let depth = FILL as usize;
        within(std::time::Duration::from_secs(2), || {
            assert_eq!(jumbo.receive(&mut burst), 0, "the packet was to be in parts");
            // Lent, or waiting for the rest.
            let free = jumbo.store.free_frames() + jumbo.pool.local_frames();
            (free < FRAMES as usize - depth).then_some(())
        })
        .expect("a part of the packet");
        jumbo.close();
    });
}

#[test]
fn packets_of_too_many_frames_are_dropped_and_counted() {
    use crate::drop_reason::DropReason::TooBigForPort;
    in_new_netns(|| {
        let mut jumbo = Jumbo::open(9000, LANES);
        let packet = jumbo.chain(super::queue::MAX_ENTRIES + 1);
        assert_eq!((jumbo.send(packet), jumbo.drops(TooBigForPort)), ((0, 0), 1));
        let packet = jumbo.chain(super::queue::MAX_ENTRIES);
        assert_eq!((jumbo.send(packet), jumbo.drops(TooBigForPort)), ((1, 1800), 1));
        let wire = PacketSocket::on("vb");
        let packet = jumbo.chain(3);
        assert_eq!(jumbo.send(packet), (1, 300));
        assert_eq!(wire.receive(|f| f[12..14] == [2, 2]), [2; 300]);
        jumbo.close();
    });
    in_new_netns(|| {
        let mut single = Jumbo::open(1500, LANES);
        let packet = single.chain(2);
        assert_eq!((single.send(packet), single.drops(TooBigForPort)), ((0, 0), 1));
        single.close();
    });
}

#[test]
fn a_partial_checksum_of_a_long_packet_is_seen_and_finished() {
    in_new_netns(|| {
        let mut jumbo = Jumbo::open(9000, LANES);
        run("ip addr add 10.0.0.2/24 dev vb");
        run("ip neigh add 10.0.0.1 lladdr 02:00:00:00:00:0a dev vb");
        let sender = std::net::UdpSocket::bind("10.0.0.2:9").unwrap();
        sender.send_to(&payload(8000), "10.0.0.1:7").unwrap();
        let packet = jumbo.next();
        let Checksum::Partial { start, field: 6 } = packet.checksum else {
            panic!("{:?} of a packet whose stack leaves it to the device", packet.checksum)
        };
        assert_eq!(start, packet.offset + 34);
        let wire = PacketSocket::on("vb");
        jumbo.send(packet);
        let back = wire.receive(|f| f.len() == 8042);
        let pseudo = encap::wire::checksum::pseudo_v4([10, 0, 0, 2].into(), [10, 0, 0, 1].into(), 17, 8008);
        let sum = encap::wire::checksum::sum(&back[34..]);
        assert_eq!(encap::wire::checksum::fold(pseudo + sum), 0xffff);
        jumbo.close();
    });
}

#[test]
fn what_cannot_take_several_frames_is_refused_with_an_mtu_that_works() {
    let error = DeviceError::MtuTooLarge {
        device: "eth1".to_owned(),
        mtu: 9000,
        frame_size: 2048,
        refusal: "bind: Invalid argument".to_owned(),
    };
    let text = error.to_string();
    for words in ["eth1", "MTU of 9000", "bind: Invalid", "at most 1778", "3826 with memory.frame_size"] {
        assert!(text.contains(words), "{text}");
    }
    assert_eq!((single_frame_mtu(2048), single_frame_mtu(4096)), (1778, 3826));
    assert_eq!((largest_mtu(2048), largest_mtu(4096)), (30_450, 65_266));
    in_new_netns(|| {
        // Zero copy is what fails on veth, not the MTU.
        veth_pair(1);
        run("ip link set va mtu 9000");
        let area = FrameArea::new(FRAMES, 2048).unwrap();
        let options = DeviceOptions { mode: Mode::ZeroCopy, ..DeviceOptions::pod(1) };
        let refusal = Device::open(&area, "va", &options).err().expect("veth has no zero copy");
        assert!(matches!(refusal, DeviceError::Os(_)), "{refusal}");
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
        let options = DeviceOptions { fill_depth: 8, ring_size: 64, ..DeviceOptions::pod(1) };
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
