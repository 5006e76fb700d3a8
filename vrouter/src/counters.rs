//! Counters of one worker: written by that worker alone, read by anyone.
//!
//! ```text
//!   rx + originated = tx + sum(drops) + punts + consumed + held
//! ```
//!
//! `originated` are packets that the router made (ICMP errors, replies that need
//! a fresh frame, fragments), `consumed` those that ended here on purpose (an
//! original whose fragments were sent, a reply to our own question), `held` those
//! that wait at this moment. Readers sum over workers; a worker adds with a plain
//! load and store, so counting costs no locked instruction.

mod rules;

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub use rules::{RuleCounters, RuleTotals};

use crate::drop_reason::DropReason;
use crate::ids::{AdjacencyId, MAX_PORTS, NeighborSlot, PortId, TRACE_SLOTS, TunnelId};
use crate::path_stage::PathStage;

/// A counter with a single writer.
#[derive(Default, Debug)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the value of a gauge. Only the owning worker may call this.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// The value, from any thread.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Packets of one tunnel in a row, to be counted at once.
#[derive(Debug)]
pub struct TunnelRun {
    tunnel: TunnelId,
    packets: u64,
    bytes: u64,
}

impl TunnelRun {
    /// None yet.
    pub const NONE: TunnelRun = TunnelRun { tunnel: TunnelId::NONE, packets: 0, bytes: 0 };

    /// Packets of one tunnel.
    pub fn new(tunnel: TunnelId, packets: u64, bytes: u64) -> TunnelRun {
        TunnelRun { tunnel, packets, bytes }
    }

    /// Adds a packet; what came before is returned where it belongs to another tunnel.
    #[inline]
    #[must_use]
    pub fn add(&mut self, tunnel: TunnelId, bytes: u32) -> Option<TunnelRun> {
        let ended = (self.tunnel != tunnel)
            .then(|| core::mem::replace(self, TunnelRun { tunnel, packets: 0, bytes: 0 }));
        self.packets += 1;
        self.bytes += u64::from(bytes);
        ended
    }
}

impl WorkerCounters {
    /// Counts packets that went into a tunnel.
    pub fn sent_by_tunnel(&self, run: TunnelRun) {
        if run.packets > 0 {
            let counters = self.tunnel(run.tunnel);
            counters.tx_packets.add(run.packets);
            counters.tx_bytes.add(run.bytes);
        }
    }

    /// Counts packets that came out of a tunnel.
    pub fn received_by_tunnel(&self, tunnel: TunnelId, packets: u32, bytes: u64) {
        let counters = self.tunnel(tunnel);
        counters.rx_packets.add(packets.into());
        counters.rx_bytes.add(bytes);
    }
}

/// What one worker counted on one port: two cache lines, the first for every packet.
///
/// What the kernel counted is taken over by the worker about twice a second, and gauges are set then.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct PortCounters {
    /// Packets received.
    pub rx_packets: Counter,
    /// Bytes received, from the Ethernet header on.
    pub rx_bytes: Counter,
    /// Packets handed to the port's transmit ring.
    pub tx_packets: Counter,
    /// Bytes handed to the port's transmit ring.
    pub tx_bytes: Counter,
    /// Packets that entered here and went to the slow path.
    pub punts: Counter,
    /// Packets that entered here and ended on purpose.
    pub consumed: Counter,
    /// Packets that the router made in answer to what entered here.
    pub originated: Counter,
    /// Packets decapsulated on this port.
    pub decapsulated: Counter,
    /// Lost by the kernel because the receive ring was full.
    pub kernel_rx_ring_full: Counter,
    /// Lost by the kernel because no frame waited in the fill ring.
    pub kernel_fill_empty: Counter,
    /// Lost by the kernel on receive for other reasons.
    pub kernel_rx_dropped: Counter,
    /// Addresses in the fill ring that the kernel refused.
    pub kernel_rx_invalid: Counter,
    /// Descriptors in the transmit ring that the kernel refused.
    pub kernel_tx_invalid: Counter,
    /// Times that the kernel found the transmit ring empty: no loss.
    pub kernel_tx_empty: Counter,
    /// 1 when the other side of a queue is gone for good (gauge).
    pub broken: Counter,
    /// Frames lent to the kernel by the worker's queues (gauge).
    pub lent_frames: Counter,
}

/// What one worker counted on one tunnel. Packets and bytes are the inner ones.
#[derive(Default, Debug)]
#[repr(align(32))]
pub struct TunnelCounters {
    /// Packets encapsulated.
    pub tx_packets: Counter,
    /// Their bytes, from the inner IP header on.
    pub tx_bytes: Counter,
    /// Packets decapsulated.
    pub rx_packets: Counter,
    /// Their bytes, from the inner IP header on.
    pub rx_bytes: Counter,
}

/// What one worker sent by one adjacency.
#[derive(Default, Debug)]
#[repr(align(16))]
pub struct AdjacencyCounters {
    /// Packets handed to the port.
    pub tx_packets: Counter,
    /// Their bytes, from the Ethernet header on.
    pub tx_bytes: Counter,
}

/// Drops by reason of what entered on one port.
#[derive(Debug)]
struct PortDrops([Counter; DropReason::COUNT]);

impl Default for PortDrops {
    fn default() -> Self {
        PortDrops(core::array::from_fn(|_| Counter::default()))
    }
}

/// Busy turns, and what they took.
#[derive(Default, Debug)]
pub struct TurnCounters {
    /// Bursts in these turns.
    pub bursts: Counter,
    /// Packets in them.
    pub packets: Counter,
    /// Nanoseconds of these turns.
    pub ns: Counter,
}

/// A burst that was let grow before it was taken, to see what larger bursts cost: its
/// packets and the nanoseconds of its turn, in one word.
#[derive(Default, Debug)]
pub struct Probe(Counter);

impl Probe {
    /// Notes a turn of `bursts` bursts.
    pub fn set(&self, packets: u32, bursts: u32, ns: u64) {
        let bursts = u64::from(bursts.max(1));
        self.0.set((ns / bursts) << 16 | (u64::from(packets) * 64 / bursts).min(0xffff));
    }

    /// Packets and nanoseconds of a burst; zeros before there is one.
    pub fn get(&self) -> (f64, f64) {
        let word = self.0.get();
        ((word & 0xffff) as f64 / 64.0, (word >> 16) as f64)
    }
}

/// Counters of the worker itself.
#[derive(Default, Debug)]
#[repr(align(64))]
pub struct LoopCounters {
    /// Turns of the worker's loop.
    pub loops: Counter,
    /// Turns that moved at least one packet; several at one reading of the clock are one.
    pub busy_loops: Counter,
    /// Bursts received.
    pub bursts: Counter,
    /// Nanoseconds spent in busy turns.
    pub busy_ns: Counter,
    /// Nanoseconds between the first and the latest turn.
    pub total_ns: Counter,
    /// Times the worker blocked for want of work.
    pub sleeps: Counter,
    /// Packets that wait for a neighbour now (gauge).
    pub held: Counter,
    /// Packets handed to another worker.
    pub handoffs: Counter,
    /// Table generations adopted.
    pub adoptions: Counter,
    /// ICMP errors not sent because of the rate limit.
    pub icmp_suppressed: Counter,
    /// Packets that a trace or capture may have wanted and that found no record, by
    /// the slot of its filter.
    pub trace_lost: [Counter; TRACE_SLOTS],
    /// Frames in the worker's own free list now (gauge).
    pub free_frames: Counter,
    /// Packets that policy has something to say of and that found no room in the flow log.
    pub flow_log_lost: Counter,
    /// Busy turns whose bursts were full or nearly so.
    pub full: TurnCounters,
    /// The other busy turns.
    pub partial: TurnCounters,
    /// The latest probes, as a ring.
    pub probes: [Probe; LoopCounters::PROBES],
    /// Probes in all.
    pub probe_count: Counter,
    /// Cycles of sampled bursts, by stage.
    pub stage_cycles: [Counter; PathStage::COUNT],
    /// Bursts whose cycles were counted.
    pub sampled_bursts: Counter,
    /// Packets in them.
    pub sampled_packets: Counter,
}

impl LoopCounters {
    /// Probes that are kept.
    pub const PROBES: usize = 8;
    /// Packets of a burst from which it counts as full.
    pub const FULL: u32 = 48;

    /// The counters of turns of `bursts` bursts with `packets` packets in all.
    #[inline]
    pub fn turns(&self, packets: u32, bursts: u32) -> &TurnCounters {
        if packets >= Self::FULL * bursts { &self.full } else { &self.partial }
    }
}

/// All counters of one worker.
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[PortCounters]>,
    drops: Box<[PortDrops]>,
    /// Packets that wait now, by neighbour slot (gauges).
    waiting: Box<[Counter]>,
    tunnels: Box<[TunnelCounters]>,
    /// What policy rules counted.
    pub rules: RuleCounters,
    adjacencies: Box<[AdjacencyCounters]>,
    /// The worker's own.
    pub run: LoopCounters,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        WorkerCounters {
            ports: (0..MAX_PORTS).map(|_| PortCounters::default()).collect(),
            drops: (0..MAX_PORTS).map(|_| PortDrops::default()).collect(),
            waiting: (0..NeighborSlot::COUNT).map(|_| Counter::default()).collect(),
            tunnels: (0..TunnelId::COUNT).map(|_| TunnelCounters::default()).collect(),
            rules: RuleCounters::default(),
            adjacencies: (0..AdjacencyId::COUNTED).map(|_| AdjacencyCounters::default()).collect(),
            run: LoopCounters::default(),
        }
    }
}

impl WorkerCounters {
    /// Bytes of one worker's counters.
    pub const BYTES: usize = MAX_PORTS * (size_of::<PortCounters>() + size_of::<PortDrops>())
        + NeighborSlot::COUNT * size_of::<Counter>()
        + TunnelId::COUNT * size_of::<TunnelCounters>()
        + size_of::<LoopCounters>();

    /// Counters of `port`.
    #[inline]
    pub fn port(&self, port: PortId) -> &PortCounters {
        &self.ports[port.index() % MAX_PORTS]
    }

    /// The counter of drops for `reason` of what entered on `port`.
    #[inline]
    pub fn drops(&self, port: PortId, reason: DropReason) -> &Counter {
        &self.drops[port.index() % MAX_PORTS].0[reason as usize]
    }

    /// Counters of a tunnel.
    #[inline]
    pub fn tunnel(&self, tunnel: TunnelId) -> &TunnelCounters {
        &self.tunnels[tunnel.index() % TunnelId::COUNT]
    }

    /// Counters of an adjacency.
    #[inline]
    pub fn adjacency(&self, adjacency: AdjacencyId) -> &AdjacencyCounters {
        &self.adjacencies[adjacency.index().min(AdjacencyId::COUNTED - 1)]
    }

    /// Packets that wait for the neighbour in `slot`.
    #[inline]
    pub fn waiting(&self, slot: NeighborSlot) -> &Counter {
        &self.waiting[slot.index() % NeighborSlot::COUNT]
    }

    /// All drops of what entered on `port`.
    pub fn drops_of(&self, port: PortId) -> u64 {
        DropReason::ALL.iter().map(|r| self.drops(port, *r).get()).sum()
    }
}
