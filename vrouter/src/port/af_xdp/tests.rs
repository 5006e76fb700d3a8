//! Queues on veth pairs in namespaces of their own. As root.

use super::*;
use crate::burst::{Burst, Checksum, Gso, LANES, TxPacket};
use crate::counters::WorkerCounters;
use crate::frame::{FrameArea, FramePool, FrameStore, HEADROOM};
use crate::ids::PortId;
use crate::port::{PortQueue, QueueIo};
use crate::sys::test_net::{in_new_netns, run, veth_pair};

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
