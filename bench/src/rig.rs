//! A router between ports in memory, for cycles and instructions per packet of the whole path.
//!
//! ```text
//!   Source -> parse ... lookup ... rewrite -> Sink        Rig
//!   Source ---------------------------------> Sink        Floor: the same ports, nothing between
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use vrouter::burst::{Burst, LANES, TxPacket};
use vrouter::clock;
use vrouter::counters::WorkerCounters;
use vrouter::frame::{FrameArea, FramePool, FrameStore};
use vrouter::ids::{PortId, Timestamp};
use vrouter::port::{PortQueue, QueueIo};
use vrouter::router::Workers;
use vrouter::tables::NeighborState;
use vrouter::{IdleMode, Router};

use crate::workload::Workload;
use vrouter::port::synthetic::{Packet, Sink, Source};

/// Flows that the table is made for, as in the daemon.
const FLOWS: u32 = 1 << 20;
/// Frames beside those in rotation.
const SPARE: usize = 4096;

/// How packets come and go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// Packets that are received at a time, 1 to 64.
    pub burst: usize,
    /// Frames in rotation.
    pub rotation: usize,
}

impl Default for Ports {
    fn default() -> Self {
        Ports { burst: LANES, rotation: vrouter::port::synthetic::ROTATION }
    }
}

impl Ports {
    fn frames(self) -> u32 {
        (self.rotation + SPARE) as u32
    }

    /// Bursts until every frame was used.
    fn warm_up(self) -> usize {
        2 * (self.rotation + SPARE) / self.burst
    }
}

/// A router with a source on one port and a sink on another.
pub struct Rig {
    router: Router,
    clock: Timestamp,
    sink: PortId,
    ports: Ports,
}

impl Rig {
    /// A rig for a workload other than [`Workload::Io`].
    ///
    /// # Panics
    /// Where the router cannot be built (there is no memory for it), or drops packets.
    pub fn new(workload: Workload, ports: Ports) -> Self {
        let mut builder = Router::builder().frames(ports.frames()).idle(IdleMode::Poll);
        if workload.has_pod() {
            builder = builder.flows(FLOWS);
        }
        let mut router = builder.build().expect("memory for the frames");
        let (near, far) = workload.ports();
        let source = Source::new(workload.packets(), ports.burst);
        let (opener, answers) = workload.handshakes();
        let openings = opener.len() / ports.burst;
        let near_queue = Preceded::new(opener, 0, ports.burst, source);
        router.add_port(near, vec![Box::new(near_queue)]).expect("a right port");
        // An answer comes a turn behind its question.
        let far_queue = Preceded::new(answers, 1, ports.burst, Sink::new(ports.rotation));
        let sink = router.add_port(far, vec![Box::new(far_queue)]).expect("a right port");
        for event in workload.events() {
            router.apply(event).expect("a right event");
        }
        router.commit().expect("the routes fit");
        for (address, mac) in workload.neighbors() {
            router.neighbor(sink, address, NeighborState::Usable(mac));
        }
        router.commit().expect("the routes fit");
        // The clock that a thread goes on by, so that flows which are opened here have not expired there.
        let mut rig = Rig { router, clock: clock::now(), sink, ports };
        let warm_up = ports.warm_up().max(workload.packets().len() / ports.burst) + openings + 2;
        (0..warm_up).for_each(|_| {
            rig.turn();
        });
        let sent = rig.sent();
        rig.turn();
        assert_eq!(rig.sent() - sent, ports.burst as u64, "{}: every packet is forwarded", workload.name());
        rig
    }

    /// The router, to change its tables.
    pub fn router(&mut self) -> &mut Router {
        &mut self.router
    }

    /// One turn of the worker, as its thread runs it (control has a thread of its own): a burst. Returns how many packets came in.
    pub fn turn(&mut self) -> usize {
        self.clock.0 += 1000;
        self.router.poll_workers(self.clock).unwrap_or(0)
    }

    /// Packets that the sink got.
    pub fn sent(&self) -> u64 {
        self.router.workers()[0].counters.port(self.sink).tx_packets.get()
    }

    /// Lets the worker run in a thread, until what is returned is dropped.
    ///
    /// # Panics
    /// Where no thread can be made.
    pub fn start(mut self) -> RunningRig {
        let workers = self.router.start().expect("a thread");
        RunningRig { rig: self, _workers: workers }
    }

    /// How packets come and go.
    pub fn ports(&self) -> Ports {
        self.ports
    }
}

/// A queue that receives some packets once, before it is what it is.
struct Preceded<Q> {
    first: Option<Source>,
    left: usize,
    /// Turns to wait before.
    wait: usize,
    burst: usize,
    then: Q,
}

impl<Q> Preceded<Q> {
    fn new(first: Vec<Packet>, wait: usize, burst: usize, then: Q) -> Self {
        let left = first.len();
        Preceded { first: (left != 0).then(|| Source::new(first, burst)), left, wait, burst, then }
    }
}

impl<Q: PortQueue> PortQueue for Preceded<Q> {
    fn rx_burst(&mut self, port: PortId, burst: &mut Burst, io: &mut QueueIo<'_>) -> usize {
        let Some(first) = &mut self.first else { return self.then.rx_burst(port, burst, io) };
        if self.wait != 0 {
            self.wait -= 1;
            return 0;
        }
        let received = first.receive(self.burst.min(self.left), port, burst, io);
        self.left -= received;
        if self.left == 0 {
            self.first = None;
        }
        received
    }

    fn tx_burst(&mut self, batch: &mut Vec<TxPacket>, io: &mut QueueIo<'_>) -> (u64, u64) {
        self.then.tx_burst(batch, io)
    }

    fn close(self: Box<Self>, pool: &mut FramePool) {
        Box::new(self.then).close(pool);
    }
}

/// A rig whose worker runs in a thread of its own.
pub struct RunningRig {
    /// Dropped first: it stops the worker.
    _workers: Workers,
    rig: Rig,
}

impl RunningRig {
    /// Packets that the sink got.
    pub fn sent(&self) -> u64 {
        self.rig.sent()
    }
}

/// The ports of a rig without a router between them.
pub struct Floor {
    source: Source,
    sink: Sink,
    burst: Box<Burst>,
    batch: Vec<TxPacket>,
    pool: FramePool,
    counters: Box<WorkerCounters>,
}

impl Floor {
    /// Ports in memory.
    ///
    /// # Panics
    /// Where there is no memory for the frames.
    pub fn new(ports: Ports) -> Self {
        let area = FrameArea::new(ports.frames(), 2048).expect("memory for the frames");
        let mut floor = Floor {
            source: Source::new(Workload::Io.packets(), ports.burst),
            sink: Sink::new(ports.rotation),
            burst: Box::default(),
            batch: Vec::with_capacity(LANES),
            pool: FramePool::new(FrameStore::new(area)),
            counters: Box::default(),
        };
        (0..ports.warm_up()).for_each(|_| {
            floor.turn();
        });
        floor
    }

    /// Moves a burst from source to sink. Returns how many packets that were.
    pub fn turn(&mut self) -> usize {
        let mut io = QueueIo { pool: &mut self.pool, counters: &self.counters };
        let received = self.source.rx_burst(PortId(0), &mut self.burst, &mut io);
        self.burst.take_all_tx(self.burst.alive, &mut self.batch);
        self.burst.clear();
        self.sink.tx_burst(&mut self.batch, &mut io);
        received
    }

    /// Runs in a thread, until what is returned is dropped.
    ///
    /// # Panics
    /// Where no thread can be made.
    pub fn start(mut self) -> RunningFloor {
        let shared = Arc::new((AtomicBool::new(false), AtomicU64::new(0)));
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("floor".to_owned()).spawn(move || {
            let (stop, moved) = &*of_thread;
            while !stop.load(Relaxed) {
                let burst = self.turn() as u64;
                moved.store(moved.load(Relaxed) + burst, Relaxed);
            }
        });
        RunningFloor { shared, thread: Some(thread.expect("a thread")) }
    }
}

/// A floor that runs in a thread of its own.
pub struct RunningFloor {
    shared: Arc<(AtomicBool, AtomicU64)>,
    thread: Option<JoinHandle<()>>,
}

impl RunningFloor {
    /// Packets that were moved.
    pub fn sent(&self) -> u64 {
        self.shared.1.load(Relaxed)
    }
}

impl Drop for RunningFloor {
    fn drop(&mut self) {
        self.shared.0.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed already.
            let _ = thread.join();
        }
    }
}
