//! Moving queues from worker to worker while packets flow: at a burst boundary, without
//! closing a socket, without a packet of a flow overtaking another.
//!
//! ```text
//!   control: Command::Rebalance(plan) to every worker, bells rung
//!   worker:  arrived   receives no more; still transmits what others hand over
//!            --- all have arrived: nobody makes packets any more -------------------------
//!            drained   its hand-off rings are empty, its transmit rings are with the device
//!            --- all have drained: no packet is anywhere inside --------------------------
//!            delivered queues that leave it are in the mailboxes of their new owners
//!            --- all have delivered ------------------------------------------------------
//!            takes its mail, receives again
//! ```
//!
//! Workers wait for each other at the dashed lines and for nobody else: control is not in
//! the way, so that a pause lasts about as long as the workers take to notice it, and what
//! arrives meanwhile waits in the receive rings, for which they go on providing frames. A worker that does not arrive makes control
//! [abandon](Rebalance::abandon) the attempt; nothing has moved then. Once all have
//! arrived, the rest is bounded.
//!
//! [`Gates`] are the part that threads share, and small enough for a model checker.

use crossbeam_queue::ArrayQueue;

use crate::ids::{PortId, WorkerId};
use crate::pipeline::hold::Held;
use crate::port::{KernelLosses, PortQueue};
pub use gates::{Gates, Passage};

/// The atomic words of [`gates`]; its model has those of a model checker here.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicUsize, Ordering};
}
mod gates;

/// What one worker sends to another.
pub enum Mail {
    /// A queue: port, its number within the port, the queue, losses of it that were counted.
    Queue(PortId, u16, Box<dyn PortQueue>, KernelLosses),
    /// Packets of a port that wait for a neighbour, in their order.
    Held(Vec<Held>),
}

/// One rearrangement of queues, shared by all workers.
pub struct Rebalance {
    gates: Gates,
    /// New owners by port and queue.
    plan: Vec<(PortId, Vec<WorkerId>)>,
    mail: Box<[ArrayQueue<Mail>]>,
}

impl Rebalance {
    /// Rearranges the queues of `workers` workers.
    pub fn new(workers: usize, plan: Vec<(PortId, Vec<WorkerId>)>) -> Self {
        // Each queue moves once at most, and held packets go with one.
        let room = 2 * plan.iter().map(|(_, owners)| owners.len()).sum::<usize>() + 1;
        Rebalance {
            gates: Gates::new(workers),
            plan,
            mail: (0..workers).map(|_| ArrayQueue::new(room)).collect(),
        }
    }

    /// Where the workers wait for each other.
    pub fn gates(&self) -> &Gates {
        &self.gates
    }

    /// The new owner of a queue; `None` where it stays as it is.
    pub fn owner_of(&self, port: PortId, queue: u16) -> Option<WorkerId> {
        let (_, owners) = self.plan.iter().find(|(planned, _)| *planned == port)?;
        owners.get(queue as usize).copied()
    }

    /// The worker that takes hand-offs for each port.
    pub fn owners(&self) -> impl Iterator<Item = (PortId, Option<WorkerId>)> {
        self.plan.iter().map(|(port, owners)| (*port, owners.first().copied()))
    }

    /// Sends something to a worker; gives it back where there is no such worker.
    pub fn send(&self, to: WorkerId, mail: Mail) -> Result<(), Mail> {
        match self.mail.get(to.index()) {
            Some(mailbox) => mailbox.push(mail),
            None => Err(mail),
        }
    }

    /// The next of a worker's mail.
    pub fn receive(&self, own: WorkerId) -> Option<Mail> {
        self.mail.get(own.index())?.pop()
    }

    /// Gives up, unless every worker has arrived. Returns whether it did.
    pub fn abandon(&self) -> bool {
        self.gates.abandon()
    }
}
