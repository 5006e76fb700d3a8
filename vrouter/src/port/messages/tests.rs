//! Reading without a kernel: packets of all lengths, in any order, into few frames.

use proptest::prelude::*;

use super::*;
use crate::burst::GsoKind;
use crate::counters::WorkerCounters;
use crate::frame::FrameStore;

/// As `readv` of a descriptor whose next packet is this: header, then bytes.
fn fill(buffers: &mut [IoSliceMut<'_>], header: VirtioHeader, packet: &[u8]) -> io::Result<usize> {
    let mut rest = [&header.to_bytes()[..], packet].concat();
    let mut read = 0;
    for buffer in buffers {
        let len = buffer.len().min(rest.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        rest.drain(..len);
        read += len;
    }
    Ok(read)
}

fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 253 + seed) as u8).collect()
}

proptest! {
    #[test]
    fn every_packet_is_read_whole_or_counted(
        lens in prop::collection::vec(prop_oneof![1..200usize, 1700..1900usize, 1..MAX_PACKET + 1], 1..200),
        frames in 1..80u32,
        big in any::<bool>(),
    ) {
        let store = FrameStore::new(FrameArea::new(frames, if big { 4096 } else { 2048 }).unwrap());
        let mut pool = FramePool::new(store.clone());
        let counters = WorkerCounters::default();
        let mut reading = Reading::new();
        for (seed, len) in lens.into_iter().enumerate() {
            let packet = bytes(len, seed);
            let mut burst = Burst::default();
            let lost = counters.drops(PortId(0), DropReason::NoFrame).get();
            let mut io = QueueIo { pool: &mut pool, counters: &counters };
            let read = reading.one(PortId(0), &mut burst, &mut io, |buffers| {
                fill(buffers, VirtioHeader::default(), &packet)
            });
            // Frames behind the first are used whole.
            let size = store.area().frame_size() as usize;
            let fits = len <= frames as usize * size - HEADROOM;
            prop_assert_eq!(read.unwrap(), Some((len, fits)));
            prop_assert_eq!(counters.drops(PortId(0), DropReason::NoFrame).get() - lost, u64::from(!fits));
            if fits {
                let got = burst.take_tx(0);
                let pieces = store.area().pieces(&got.frame, got.offset, got.len);
                prop_assert_eq!(pieces.collect::<Vec<_>>().concat(), packet);
                pool.free(got.frame);
            }
            prop_assert_eq!(store.free_frames() + pool.local_frames(), frames as usize);
        }
    }

    #[test]
    fn any_header_is_read(header in any::<[u8; VIRTIO_HEADER_LEN]>()) {
        // Whether it fits the packet is for the parser to say; see `pipeline::parse::offload`.
        let (checksum, gso) = offload_of(&header);
        prop_assert_eq!(checksum == Checksum::Complete, header[0] & 1 == 0);
        prop_assert!(gso == Gso::default() || gso.kind != GsoKind::None);
    }
}

#[test]
fn room_follows_what_is_read() {
    let store = FrameStore::new(FrameArea::new(256, 2048).unwrap());
    let mut pool = FramePool::new(store);
    let counters = WorkerCounters::default();
    let mut reading = Reading::new();
    // How many frames were offered, with the buffer behind them.
    let mut offered = |len: usize| {
        let (mut frames, mut burst) = (0, Burst::default());
        let mut io = QueueIo { pool: &mut pool, counters: &counters };
        let read = reading.one(PortId(0), &mut burst, &mut io, |buffers| {
            let (last, front) = buffers.split_last().unwrap();
            assert_eq!(last.len(), MAX_MESSAGE);
            frames = front.iter().map(|buffer| buffer.len()).sum::<usize>().div_ceil(2048);
            fill(buffers, VirtioHeader::default(), &bytes(len, 0))
        });
        assert_eq!(read.unwrap(), Some((len, true)));
        let frame = burst.take(0);
        pool.free(frame);
        frames
    };
    assert_eq!((offered(60), offered(1500)), (0, 0));
    assert_eq!((offered(60_000), offered(60)), (0, MAX_FRAMES));
    (1..MEMORY).for_each(|_| assert_eq!(offered(9000), MAX_FRAMES));
    assert_eq!(offered(9000), 6, "as the longest of late took");
    (0..2 * MEMORY).for_each(|_| {
        offered(60);
    });
    assert_eq!(offered(60), 0);
}
