//! Which queues a worker owns, and what it reports of them.

use std::sync::mpsc::Sender;

use super::{Command, Injected, NO_QUEUE, OwnedQueue, Worker};
use crate::burst::{Checksum, Gso, TxPacket};
use crate::counters::WorkerCounters;
use crate::ids::{PortId, Timestamp};
use crate::port::{KernelLosses, PortQueue};

impl Worker {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::PortAppears(port) => self.state.tx.reserve(port),
            Command::AddQueue(port, number, queue) => {
                self.add_queue(port, number, queue, KernelLosses::default());
                self.choose_tx_queues();
            }
            Command::Meet(introduction) => self.handoffs.meet(introduction),
            Command::Rebalance(rebalance) => self.begin_rebalance(rebalance),
            Command::RemoveQueues(port, back) => self.remove_queues(port, &back),
            Command::Transmit(port, Injected { frame, offset, len }) => {
                self.state.counters.port(port).originated.add(1);
                let packet = TxPacket {
                    frame,
                    offset,
                    len,
                    in_port: port,
                    checksum: Checksum::Complete,
                    gso: Gso::default(),
                };
                self.state.tx.push(port, packet);
                self.flush();
            }
            Command::Stop => self.stop = true,
        }
    }

    /// Owns a queue, of whose losses those in `booked` have been counted.
    pub(super) fn add_queue(
        &mut self,
        port: PortId,
        number: u16,
        queue: Box<dyn PortQueue>,
        booked: KernelLosses,
    ) {
        let index = self.queues.len();
        let on_readiness = queue.rx_needs_readiness();
        self.ready.add(index, queue.wait_fd(), on_readiness);
        self.queues.push(OwnedQueue { port, number, queue, on_readiness, booked });
    }

    /// Takes a queue out; another one may get its place.
    pub(super) fn take_queue(&mut self, index: usize) -> OwnedQueue {
        book_losses(&mut self.queues[index], &self.state.counters);
        // What is left of the port says so with the next survey.
        self.state.counters.port(self.queues[index].port).lent_frames.set(0);
        let last = self.queues.len() - 1;
        self.forget(index);
        if last != index {
            self.forget(last);
        }
        let removed = self.queues.swap_remove(index);
        if let Some(moved) = self.queues.get(index) {
            self.ready.add(index, moved.queue.wait_fd(), moved.on_readiness);
        }
        removed
    }

    fn remove_queues(&mut self, port: PortId, back: &Sender<Box<dyn PortQueue>>) {
        while let Some(index) = self.queues.iter().position(|owned| owned.port == port) {
            // The receiver is gone only when control gave up; closing here is then
            // the last chance to get the frames back.
            if let Err(unsent) = back.send(self.take_queue(index).queue) {
                unsent.0.close(&mut self.state.pool);
            }
        }
        self.choose_tx_queues();
    }

    /// Transmits on each port by the first of its queues that is ours.
    pub(super) fn choose_tx_queues(&mut self) {
        self.tx_queue.fill(NO_QUEUE);
        for (index, owned) in self.queues.iter().enumerate() {
            let chosen = &mut self.tx_queue[owned.port.index()];
            let better = self.queues.get(*chosen as usize).is_none_or(|best| owned.number < best.number);
            if better {
                *chosen = index as u16;
            }
        }
    }

    /// Takes a queue out of the wait set; its number may then be given to another.
    fn forget(&mut self, index: usize) {
        let owned = &self.queues[index];
        self.ready.remove(index, owned.queue.wait_fd(), owned.on_readiness);
    }

    /// Whether the probe under way still grows.
    #[cold]
    pub(super) fn lets_grow(&mut self, now: Timestamp) -> bool {
        let half_full = self.queues.iter_mut().any(|owned| owned.queue.is_half_full());
        self.prober.lets_grow(now, half_full)
    }

    /// Notes what the queues know of their other side: losses and frames lent.
    #[cold]
    pub(super) fn survey(&mut self, now: Timestamp) {
        self.surveyed = now;
        // Frames of one port are summed at the place of the port's first queue, so that
        // a reader never meets half a sum.
        self.survey.clear();
        self.survey.resize(self.queues.len(), 0);
        for owned in &mut self.queues {
            book_losses(owned, &self.state.counters);
            let first = self.tx_queue[owned.port.index()] as usize;
            if let Some(lent) = self.survey.get_mut(first) {
                *lent += owned.queue.outstanding() as u64;
            }
        }
        for (index, owned) in self.queues.iter().enumerate() {
            if self.tx_queue[owned.port.index()] as usize == index {
                self.state.counters.port(owned.port).lent_frames.set(self.survey[index]);
            }
        }
    }
}

/// Counts what the kernel has lost since this was last done.
fn book_losses(owned: &mut OwnedQueue, counters: &WorkerCounters) {
    let losses = owned.queue.kernel_losses();
    let fresh = losses - core::mem::replace(&mut owned.booked, losses);
    let counters = counters.port(owned.port);
    counters.kernel_rx_ring_full.add(fresh.rx_ring_full);
    counters.kernel_fill_empty.add(fresh.rx_fill_empty);
    counters.kernel_rx_dropped.add(fresh.rx_dropped);
    counters.kernel_rx_invalid.add(fresh.rx_invalid);
    counters.kernel_tx_invalid.add(fresh.tx_invalid);
    counters.kernel_tx_empty.add(fresh.tx_empty);
}
