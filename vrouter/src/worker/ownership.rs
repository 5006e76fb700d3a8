//! Which queues a worker owns, and what it reports of them.

use std::sync::mpsc::Sender;

use super::{Command, Growing, Injected, NO_QUEUE, OwnedQueue, Worker, load};
use crate::burst::{Checksum, Gso, TxPacket};
use crate::ids::{PortId, Timestamp};
use crate::port::{KernelLosses, PortQueue};

impl Worker {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::PortAppears(port) => self.state.tx.reserve(port),
            Command::AddQueue(port, number, queue) => {
                self.add_queue(port, number, queue);
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

    pub(super) fn add_queue(&mut self, port: PortId, number: u16, queue: Box<dyn PortQueue>) {
        let index = self.queues.len();
        let on_readiness = queue.rx_needs_readiness();
        self.ready.add(index, queue.wait_fd(), on_readiness);
        self.queues.push(OwnedQueue { port, number, queue, on_readiness });
    }

    /// Takes a queue out; another one may get its place.
    pub(super) fn take_queue(&mut self, index: usize) -> OwnedQueue {
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

    /// Lets the next burst grow, where that tells something. To be called before a survey.
    #[cold]
    pub(super) fn begin_probe(&mut self, now: Timestamp) {
        let run = &self.state.counters.run;
        let packets = run.full.packets.get() + run.partial.packets.get();
        let bursts = run.full.bursts.get() + run.partial.bursts.get();
        let before = core::mem::replace(&mut self.surveyed_turns, (packets, bursts));
        let wait = load::probe_wait(packets - before.0, bursts - before.1, now.since(self.surveyed));
        if let Some(wait) = wait.filter(|_| self.in_thread) {
            self.growing = Some(Growing { until: now.after(wait), wait, left: load::SERIES });
        }
    }

    /// Whether the turn that began then, and is over now, ended a probe.
    #[inline]
    pub(super) fn probed(&mut self, began: Timestamp, now: Timestamp) -> bool {
        let Some(growing) = &mut self.growing else { return false };
        if growing.until > began {
            return false;
        }
        growing.left -= 1;
        growing.until = now.after(growing.wait);
        let ended = growing.left == 0;
        if ended {
            self.growing = None;
        }
        ended
    }

    /// Notes what the queues know of their other side: losses and frames lent.
    #[cold]
    pub(super) fn survey(&mut self, now: Timestamp) {
        self.surveyed = now;
        // Queues of one port are summed at the place of the port's first queue, so that
        // a reader never meets half a sum.
        let mut sums = core::mem::take(&mut self.survey);
        sums.clear();
        sums.resize(self.queues.len(), (KernelLosses::default(), 0));
        for owned in &self.queues {
            let first = self.tx_queue[owned.port.index()] as usize;
            let Some((losses, lent)) = sums.get_mut(first) else { continue };
            *losses += owned.queue.kernel_losses();
            *lent += owned.queue.outstanding() as u64;
        }
        for (index, (losses, lent)) in sums.iter().enumerate() {
            let port = self.queues[index].port;
            if self.tx_queue[port.index()] as usize != index {
                continue;
            }
            let counters = self.state.counters.port(port);
            counters.kernel_rx_ring_full.set(losses.rx_ring_full);
            counters.kernel_fill_empty.set(losses.rx_fill_empty);
            counters.kernel_rx_dropped.set(losses.rx_dropped);
            counters.kernel_rx_invalid.set(losses.rx_invalid);
            counters.kernel_tx_invalid.set(losses.tx_invalid);
            counters.kernel_tx_empty.set(losses.tx_empty);
            counters.lent_frames.set(*lent);
        }
        self.survey = sums;
    }
}
