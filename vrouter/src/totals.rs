//! What ports, tunnels and next hops counted, over all workers, since they were added.
//!
//! Workers count by number and never reset a counter. A number that served another
//! port or tunnel before starts with its counts: they are remembered when the number
//! changes hands and taken off whenever they are looked at.

use crate::counters::WorkerCounters;
use crate::drop_reason::DropReason;
use crate::ids::{AdjacencyId, PortId, TunnelId};
use crate::port::KernelLosses;

/// Sums over workers. The first eight fields and `drops` grow; the rest are gauges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortTotals {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, from the Ethernet header on.
    pub rx_bytes: u64,
    /// Packets given to the port.
    pub tx_packets: u64,
    /// Bytes given to the port.
    pub tx_bytes: u64,
    /// Packets that went to the slow path.
    pub punts: u64,
    /// Packets that entered here and ended on purpose: answered by the router or replaced by fragments.
    pub consumed: u64,
    /// Packets that the router made because of what entered here.
    pub originated: u64,
    /// Packets that came out of a tunnel here.
    pub decapsulated: u64,
    /// Packets that entered here and were dropped, by reason.
    pub drops: [u64; DropReason::COUNT],
    /// What the kernel lost on its side since the sockets were opened.
    pub kernel: KernelLosses,
    /// Whether the other side of a queue is gone for good.
    pub broken: bool,
    /// Frames that the kernel holds for the port.
    pub lent_frames: u64,
}

impl Default for PortTotals {
    fn default() -> Self {
        PortTotals {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            punts: 0,
            consumed: 0,
            originated: 0,
            decapsulated: 0,
            drops: [0; DropReason::COUNT],
            kernel: KernelLosses::default(),
            broken: false,
            lent_frames: 0,
        }
    }
}

impl PortTotals {
    /// The sum over workers, whichever ports had the number.
    pub fn sum<'a>(port: PortId, workers: impl Iterator<Item = &'a WorkerCounters>) -> Self {
        let mut sum = PortTotals::default();
        for worker in workers {
            let at = worker.port(port);
            sum.rx_packets += at.rx_packets.get();
            sum.rx_bytes += at.rx_bytes.get();
            sum.tx_packets += at.tx_packets.get();
            sum.tx_bytes += at.tx_bytes.get();
            sum.punts += at.punts.get();
            sum.consumed += at.consumed.get();
            sum.originated += at.originated.get();
            sum.decapsulated += at.decapsulated.get();
            for (total, reason) in sum.drops.iter_mut().zip(DropReason::ALL) {
                *total += worker.drops(port, *reason).get();
            }
            sum.kernel += KernelLosses {
                rx_ring_full: at.kernel_rx_ring_full.get(),
                rx_fill_empty: at.kernel_fill_empty.get(),
                rx_dropped: at.kernel_rx_dropped.get(),
                rx_invalid: at.kernel_rx_invalid.get(),
                tx_invalid: at.kernel_tx_invalid.get(),
                tx_empty: at.kernel_tx_empty.get(),
            };
            sum.broken |= at.broken.get() > 0;
            sum.lent_frames += at.lent_frames.get();
        }
        sum
    }

    /// What was counted after `start`. Gauges stay as they are.
    pub fn since(mut self, start: &PortTotals) -> Self {
        self.rx_packets -= start.rx_packets.min(self.rx_packets);
        self.rx_bytes -= start.rx_bytes.min(self.rx_bytes);
        self.tx_packets -= start.tx_packets.min(self.tx_packets);
        self.tx_bytes -= start.tx_bytes.min(self.tx_bytes);
        self.punts -= start.punts.min(self.punts);
        self.consumed -= start.consumed.min(self.consumed);
        self.originated -= start.originated.min(self.originated);
        self.decapsulated -= start.decapsulated.min(self.decapsulated);
        for (now, then) in self.drops.iter_mut().zip(start.drops) {
            *now -= then.min(*now);
        }
        self
    }

    /// Drops for all reasons.
    pub fn dropped(&self) -> u64 {
        self.drops.iter().sum()
    }
}

/// Sums over workers of what a tunnel counted. Packets and bytes are the inner ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TunnelTotals {
    /// Packets encapsulated.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Packets decapsulated.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
}

impl TunnelTotals {
    /// The sum over workers, whichever tunnels had the number.
    pub fn sum<'a>(tunnel: TunnelId, workers: impl Iterator<Item = &'a WorkerCounters>) -> Self {
        let mut sum = TunnelTotals::default();
        for worker in workers {
            let at = worker.tunnel(tunnel);
            sum.tx_packets += at.tx_packets.get();
            sum.tx_bytes += at.tx_bytes.get();
            sum.rx_packets += at.rx_packets.get();
            sum.rx_bytes += at.rx_bytes.get();
        }
        sum
    }

    /// What was counted after `start`.
    pub fn since(self, start: TunnelTotals) -> Self {
        TunnelTotals {
            tx_packets: self.tx_packets.saturating_sub(start.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(start.tx_bytes),
            rx_packets: self.rx_packets.saturating_sub(start.rx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(start.rx_bytes),
        }
    }
}

/// Sums over workers of what was sent by an adjacency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AdjacencyTotals {
    /// Packets given to the port.
    pub tx_packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub tx_bytes: u64,
}

impl AdjacencyTotals {
    /// The sum over workers, whichever next hops had the number.
    pub fn sum<'a>(adjacency: AdjacencyId, workers: impl Iterator<Item = &'a WorkerCounters>) -> Self {
        workers.map(|worker| worker.adjacency(adjacency)).fold(Self::default(), |sum, at| AdjacencyTotals {
            tx_packets: sum.tx_packets + at.tx_packets.get(),
            tx_bytes: sum.tx_bytes + at.tx_bytes.get(),
        })
    }

    /// What was counted after `start`.
    pub fn since(self, start: AdjacencyTotals) -> Self {
        AdjacencyTotals {
            tx_packets: self.tx_packets.saturating_sub(start.tx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(start.tx_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_starts_at_zero() {
        let workers = [WorkerCounters::default(), WorkerCounters::default()];
        let port = PortId(3);
        let count = |packets: u64| {
            for worker in &workers {
                worker.port(port).rx_packets.add(packets);
                worker.drops(port, DropReason::NoRoute).add(1);
                worker.port(port).lent_frames.set(64);
            }
        };
        count(10);
        let former = PortTotals::sum(port, workers.iter());
        assert_eq!((former.rx_packets, former.dropped()), (20, 2));
        count(5);
        let now = PortTotals::sum(port, workers.iter()).since(&former);
        assert_eq!((now.rx_packets, now.dropped(), now.lent_frames), (10, 2, 128));
        assert_eq!(now.drops[DropReason::NoRoute as usize], 2);
    }
}
