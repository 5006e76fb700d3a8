//! Packets that another worker must transmit, because it owns the queue.
//!
//! One bounded single-producer ring for each ordered pair of workers, so that the
//! order of a flow is kept. A receiver that sleeps is woken once per batch.

use core::sync::atomic::{AtomicU16, Ordering};
use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::burst::TxPacket;
use crate::ids::{MAX_PORTS, PortId, WorkerId};
use crate::sys::wait::EventFd;
use sleep::SleepFlag;

/// The atomic words of [`sleep`]; its model has those of a model checker here.
mod atomic {
    pub(super) use core::sync::atomic::{AtomicBool, Ordering, fence};
}
mod sleep;

/// Packets that one ring holds.
const DEPTH: usize = 1024;

/// For each port, the worker that transmits on it. Written by control.
#[derive(Debug)]
pub struct Owners(Box<[AtomicU16]>);

impl Owners {
    const NOBODY: u16 = u16::MAX;

    /// Nobody owns anything.
    pub fn new() -> Self {
        Owners((0..MAX_PORTS).map(|_| AtomicU16::new(Self::NOBODY)).collect())
    }

    /// The worker that transmits on `port`.
    #[inline]
    pub fn of(&self, port: PortId) -> Option<WorkerId> {
        let owner = self.0.get(port.index())?.load(Ordering::Acquire);
        (owner != Self::NOBODY).then_some(WorkerId(owner))
    }

    /// Makes a worker, or nobody, the one that transmits on `port`.
    pub fn set(&self, port: PortId, owner: Option<WorkerId>) {
        self.0[port.index()].store(owner.map_or(Self::NOBODY, |worker| worker.0), Ordering::Release);
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::new()
    }
}

/// How others wake a worker.
#[derive(Debug)]
pub struct Doorbell {
    asleep: SleepFlag,
    event: EventFd,
}

impl Doorbell {
    /// A doorbell of its own eventfd.
    ///
    /// # Errors
    /// What eventfd(2) says.
    pub fn new() -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Doorbell { asleep: SleepFlag::new(), event: EventFd::new()? }))
    }

    /// Wakes the worker if it sleeps. To be called after the work was made visible.
    pub fn ring(&self) {
        if self.asleep.must_wake() {
            // A full eventfd counter means that it is about to wake anyway.
            let _ = self.event.signal();
        }
    }

    /// Says that the owner is about to block: it must look for work once more before.
    pub fn announce_sleep(&self) {
        self.asleep.announce_sleep();
    }

    /// Says that the owner is awake, and clears the doorbell.
    pub fn announce_awake(&self) {
        self.asleep.announce_awake();
        let _ = self.event.clear();
    }

    /// The eventfd to wait on.
    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Whether the worker sleeps now.
    pub fn is_asleep(&self) -> bool {
        self.asleep.is_asleep()
    }
}

struct Peer {
    to: Producer<(PortId, TxPacket)>,
    bell: Arc<Doorbell>,
    rung: bool,
}

/// What a worker needs to know of another: a ring to it and one from it.
pub struct Introduction {
    peer: WorkerId,
    to: Producer<(PortId, TxPacket)>,
    from: Consumer<(PortId, TxPacket)>,
    bell: Arc<Doorbell>,
}

/// Rings between two workers, given by number and bell: an introduction for each.
pub fn introduce(one: (WorkerId, &Arc<Doorbell>), other: (WorkerId, &Arc<Doorbell>)) -> [Introduction; 2] {
    let (to_other, from_one) = RingBuffer::new(DEPTH);
    let (to_one, from_other) = RingBuffer::new(DEPTH);
    [
        Introduction { peer: other.0, to: to_other, from: from_other, bell: other.1.clone() },
        Introduction { peer: one.0, to: to_one, from: from_one, bell: one.1.clone() },
    ]
}

/// One worker's ends of the rings.
pub struct Handoffs {
    peers: Vec<Option<Peer>>,
    from: Vec<Consumer<(PortId, TxPacket)>>,
    next: usize,
    bell: Arc<Doorbell>,
}

impl Handoffs {
    /// The ends of a worker that knows no other; `bell` wakes it.
    pub fn new(bell: Arc<Doorbell>) -> Self {
        Handoffs { peers: Vec::new(), from: Vec::new(), next: 0, bell }
    }

    /// Gets to know another worker.
    pub fn meet(&mut self, introduction: Introduction) {
        let Introduction { peer, to, from, bell } = introduction;
        if self.peers.len() <= peer.index() {
            self.peers.resize_with(peer.index() + 1, || None);
        }
        self.peers[peer.index()] = Some(Peer { to, bell, rung: true });
        self.from.push(from);
    }

    /// Gives a packet to another worker; gives it back when the ring is full.
    ///
    /// # Errors
    /// The packet itself.
    #[inline]
    pub fn send(&mut self, to: WorkerId, port: PortId, packet: TxPacket) -> Result<(), TxPacket> {
        let Some(Some(peer)) = self.peers.get_mut(to.index()) else { return Err(packet) };
        match peer.to.push((port, packet)) {
            Ok(()) => {
                peer.rung = false;
                Ok(())
            }
            Err(rtrb::PushError::Full((_, packet))) => Err(packet),
        }
    }

    /// Wakes those that got packets since the last call.
    pub fn wake_receivers(&mut self) {
        for peer in self.peers.iter_mut().flatten().filter(|peer| !peer.rung) {
            peer.rung = true;
            peer.bell.ring();
        }
    }

    /// The next packet that another worker gave us, taking turns among them.
    #[inline]
    pub fn receive(&mut self) -> Option<(PortId, TxPacket)> {
        for _ in 0..self.from.len() {
            let at = self.next;
            if let Ok(item) = self.from[at].pop() {
                return Some(item);
            }
            self.next = if at + 1 == self.from.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Whether a packet waits for us.
    pub fn has_work(&self) -> bool {
        self.from.iter().any(|ring| !ring.is_empty())
    }

    /// The doorbell of the worker that these ends belong to.
    pub fn bell(&self) -> &Doorbell {
        &self.bell
    }
}
