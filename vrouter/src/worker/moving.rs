//! A worker's part in a [`Rebalance`].

use core::time::Duration;
use std::sync::Arc;

use super::Worker;
use super::rebalance::{Mail, Passage, Rebalance};
use crate::ids::{PortId, Timestamp};
use crate::pipeline::hold;
use crate::port::QueueIo;

/// How long a worker waits for its devices to take what is in the transmit rings: what is still there when a
/// queue has moved may be overtaken. On a core that others want too, a device's turn may take some time slices
/// of the kernel's scheduler to come.
const PATIENCE: Duration = Duration::from_millis(200);
/// Looks at a gate before the core is left to another.
const LOOKS: u32 = 64;

/// Where a worker is in a rebalance.
pub(super) struct Moving {
    rebalance: Arc<Rebalance>,
    phase: Phase,
    looks: u32,
}

#[derive(Clone, Copy)]
enum Phase {
    Arrived,
    Draining { since: Timestamp },
    Drained,
    Delivered,
}

impl Worker {
    /// Receives no more until the queues are where they are to be.
    #[cold]
    pub(super) fn begin_rebalance(&mut self, rebalance: Arc<Rebalance>) {
        rebalance.gates().arrive();
        self.prober.abandon();
        self.moving = Some(Moving { rebalance, phase: Phase::Arrived, looks: 0 });
    }

    /// Goes on as far as the others let it. Returns the number of packets moved.
    #[cold]
    pub(super) fn rebalance(&mut self) -> usize {
        let Some(mut moving) = self.moving.take() else { return 0 };
        moving.looks += 1;
        if self.in_thread && moving.looks.is_multiple_of(LOOKS) {
            // The one that is waited for may need this core.
            std::thread::yield_now();
        }
        // What arrives meanwhile needs frames, however long the others take.
        let drained = self.drain_queues();
        let gates = moving.rebalance.gates();
        let mut moved = 0;
        match moving.phase {
            Phase::Arrived => {
                moved = self.take_over();
                match gates.arrival() {
                    Passage::Closed => {}
                    Passage::Open => moving.phase = Phase::Draining { since: self.state.now },
                    Passage::Abandoned => return moved,
                }
            }
            Phase::Draining { since } => {
                moved = self.take_over();
                let waited = self.state.now.since(since) >= PATIENCE;
                if moved == 0 && !self.handoffs.has_work() && (drained || waited) {
                    gates.drain();
                    moving.phase = Phase::Drained;
                }
            }
            Phase::Drained => {
                if gates.is_drained() {
                    self.deliver(&moving.rebalance);
                    gates.deliver();
                    moving.phase = Phase::Delivered;
                }
            }
            Phase::Delivered => {
                if gates.is_delivered() {
                    self.take_mail(&moving.rebalance);
                    gates.finish();
                    return moved;
                }
            }
        }
        self.moving = Some(moving);
        moved
    }

    /// Whether every device has what it is to send. One that is down never takes anything, and is not
    /// waited for.
    fn drain_queues(&mut self) -> bool {
        let tables = self.subscriber.tables();
        let mut io = QueueIo { pool: &mut self.state.pool, counters: &self.state.counters };
        let mut drained = true;
        for owned in &mut self.queues {
            let is_up = tables.port(owned.port).is_some_and(|port| port.up);
            drained &= owned.queue.drain(&mut io) | !is_up;
        }
        drained
    }

    /// Sends away the queues that others are to own.
    fn deliver(&mut self, rebalance: &Rebalance) {
        let mut left: Vec<(PortId, crate::ids::WorkerId)> = Vec::new();
        let mut index = 0;
        while index < self.queues.len() {
            let owned = &self.queues[index];
            let owner = rebalance.owner_of(owned.port, owned.number).unwrap_or(self.id);
            if owner == self.id {
                index += 1;
                continue;
            }
            let owned = self.take_queue(index);
            left.push((owned.port, owner));
            let mail = Mail::Queue(owned.port, owned.number, owned.queue, owned.booked);
            if let Err(Mail::Queue(port, number, queue, booked)) = rebalance.send(owner, mail) {
                // A plan names workers that are there, and mailboxes hold all queues.
                debug_assert!(false, "a queue has nowhere to go");
                self.add_queue(port, number, queue, booked);
                break;
            }
        }
        // What waits for a neighbour goes with its port, or it could be overtaken.
        for (port, owner) in left {
            let stays = self.queues.iter().any(|owned| owned.port == port);
            let held = if stays { Vec::new() } else { hold::give_away(port, &mut self.state) };
            if !held.is_empty()
                && let Err(Mail::Held(held)) = rebalance.send(owner, Mail::Held(held))
            {
                hold::take_in(held, &mut self.state);
            }
        }
        // Whoever leaves the last gate first may hand packets over to the new owners.
        rebalance.owners().for_each(|(port, owner)| self.owners.set(port, owner));
    }

    /// Takes what is in the mailbox of a rebalance that will not come to its end.
    pub(super) fn end_rebalance(&mut self) {
        if let Some(moving) = self.moving.take() {
            self.take_mail(&moving.rebalance);
        }
    }

    fn take_mail(&mut self, rebalance: &Rebalance) {
        while let Some(mail) = rebalance.receive(self.id) {
            match mail {
                Mail::Queue(port, number, queue, booked) => self.add_queue(port, number, queue, booked),
                Mail::Held(held) => hold::take_in(held, &mut self.state),
            }
        }
        self.choose_tx_queues();
        self.survey(self.state.now);
        if self.queues.is_empty() {
            // It may sleep for long: others need its frames.
            self.state.pool.spill(0);
        }
    }
}
