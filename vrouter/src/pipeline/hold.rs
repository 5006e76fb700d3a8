//! Packets that wait until a neighbour's MAC address is known.
//!
//! Bounded three ways: in all, per next hop, and in time. When the neighbour table
//! or the tables change, or a packet's time is up, all re-enter the path at `lookup`
//! (nothing of them has been rewritten before): they go on, wait again, or end.
//!
//! Invariant: packets to one next hop leave in the order in which they came. While
//! some wait, `lookup` lets later ones wait behind them.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;

use crate::burst::{Burst, LANES, TxPacket};
use crate::drop_reason::DropReason;
use crate::frame::FramePool;
use crate::ids::{NeighborSlot, PortId, Timestamp};
use crate::pipeline::icmp_error::{self, Unreachable};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Outcome;
use crate::tables::{Action, Adjacency, Tables};

/// Packets that wait in one worker.
const CAPACITY: usize = 256;
/// Packets that wait for one next hop (RFC 1122 2.3.2.2 asks for at least one).
const PER_NEXT_HOP: usize = 16;
/// How long a packet waits (the kernel and our own machine give up after three
/// requests a second apart).
const PATIENCE: Duration = Duration::from_millis(3500);

/// A packet that waits.
#[derive(Debug)]
pub struct Held {
    packet: TxPacket,
    port: PortId,
    next_hop: IpAddr,
    /// The next hop's slot, if it has one yet.
    slot: Option<NeighborSlot>,
    deadline: Timestamp,
    facts: Facts,
}

/// The per-packet facts that `conntrack` and later stages read.
#[derive(Clone, Copy, Debug)]
struct Facts {
    l3: u16,
    l4: u16,
    protocol: u8,
    ip_len: u32,
    v6: bool,
    originated: bool,
    decapsulated: bool,
    fragment: bool,
    from_host: bool,
    from_pod: bool,
    known: bool,
    src4: u32,
    dst4: core::net::Ipv4Addr,
    dst6: core::net::Ipv6Addr,
    rule: u32,
}

/// The queue of waiting packets.
#[derive(Debug)]
pub struct HoldQueue {
    queue: VecDeque<Held>,
    /// Entries still to be looked at in this round of `release`.
    round: usize,
    seen_version: u64,
    next_deadline: Timestamp,
    /// Deadlines of the packets that `release` moved last, by lane.
    deadlines: [Timestamp; LANES],
}

impl HoldQueue {
    /// An empty queue.
    pub fn new() -> Self {
        HoldQueue {
            queue: VecDeque::with_capacity(CAPACITY),
            round: 0,
            seen_version: 0,
            next_deadline: Timestamp(u64::MAX),
            deadlines: [Timestamp::default(); LANES],
        }
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no packet waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether packets wait for this next hop.
    #[cold]
    pub fn holds(&self, port: PortId, next_hop: IpAddr) -> bool {
        self.queue.iter().any(|held| (held.port, held.next_hop) == (port, next_hop))
    }

    /// Gives all frames back.
    pub fn clear(&mut self, pool: &mut FramePool) {
        for held in self.queue.drain(..) {
            pool.free(held.packet.frame);
        }
    }

    /// Whether a round of `release` is due: neighbours or tables changed, or a packet's time is up.
    #[inline]
    pub fn is_due(&mut self, tables: &Tables, tables_changed: bool, now: Timestamp) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let version = tables.neighbors.version();
        let due = tables_changed || version != self.seen_version || now >= self.next_deadline;
        if due {
            self.seen_version = version;
            self.round = self.queue.len();
            self.next_deadline = Timestamp(u64::MAX);
        }
        due
    }
}

impl Default for HoldQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// Parks a packet and asks the slow path for the neighbour; one whose time is up is
/// dropped with an ICMP error instead.
#[cold]
pub fn wait(burst: &mut Burst, lane: usize, adjacency: &Adjacency, tables: &Tables, state: &mut WorkerState) {
    let waited = burst.held >> lane & 1 == 1;
    // A packet that waits again keeps its first deadline.
    let deadline = if waited { state.hold.deadlines[lane] } else { state.now.after(PATIENCE) };
    if state.now >= deadline {
        icmp_error::unreachable(burst, lane, Unreachable::Host, tables, state);
        state.drop_packet(burst, lane, DropReason::HoldExpired);
        return;
    }
    let v6 = burst.v6 >> lane & 1 == 1;
    let next_hop = adjacency.next_hop.unwrap_or(if v6 {
        IpAddr::V6(burst.meta.dst6[lane])
    } else {
        IpAddr::V4(burst.meta.dst4[lane])
    });
    state.punt.resolve(adjacency.port, next_hop, adjacency.action == Action::Glean);
    let same = |held: &&Held| (held.port, held.next_hop) == (adjacency.port, next_hop);
    let waiting = state.hold.queue.iter().filter(same).count();
    if state.hold.queue.len() >= CAPACITY || waiting >= PER_NEXT_HOP {
        state.drop_packet(burst, lane, DropReason::HoldFull);
        return;
    }
    if burst.traced >> lane & 1 == 1 {
        state.tracer.finish(burst, lane, Outcome::Held, state.now);
    }
    let bit = |mask: u64| mask >> lane & 1 == 1;
    let facts = Facts {
        l3: burst.meta.l3[lane],
        l4: burst.meta.l4[lane],
        protocol: burst.meta.protocol[lane],
        ip_len: burst.meta.ip_len[lane],
        v6,
        originated: bit(burst.originated),
        decapsulated: bit(burst.decapsulated),
        fragment: bit(burst.fragments),
        from_host: bit(burst.from_host),
        from_pod: bit(burst.from_pod),
        known: bit(burst.known),
        src4: burst.meta.src4[lane],
        dst4: burst.meta.dst4[lane],
        dst6: burst.meta.dst6[lane],
        rule: burst.meta.rule[lane],
    };
    let packet = burst.take_tx(lane);
    state.hold.next_deadline = state.hold.next_deadline.min(deadline);
    let slot = match adjacency.action {
        Action::Neighbor(slot) => Some(slot),
        _ => None,
    };
    if let Some(slot) = slot {
        state.counters.waiting(slot).add(1);
    }
    state.hold.queue.push_back(Held { packet, port: adjacency.port, next_hop, slot, deadline, facts });
    state.counters.run.held.set(state.hold.queue.len() as u64);
}

/// Takes out what entered by `port` and waits, in its order, for another worker.
#[cold]
pub fn give_away(port: PortId, state: &mut WorkerState) -> Vec<Held> {
    let waiting = core::mem::take(&mut state.hold.queue);
    let (mut leaving, mut staying) = (Vec::new(), VecDeque::with_capacity(CAPACITY));
    for held in waiting {
        if held.packet.in_port != port {
            staying.push_back(held);
            continue;
        }
        if let Some(slot) = held.slot {
            let count = state.counters.waiting(slot);
            count.set(count.get().saturating_sub(1));
        }
        leaving.push(held);
    }
    state.hold.queue = staying;
    state.counters.run.held.set(state.hold.queue.len() as u64);
    leaving
}

/// Lets packets wait here that another worker gave away; those beyond the bound are dropped.
#[cold]
pub fn take_in(packets: Vec<Held>, state: &mut WorkerState) {
    for held in packets {
        if state.hold.queue.len() >= CAPACITY {
            state.counters.drops(held.packet.in_port, DropReason::HoldFull).add(1);
            state.pool.free(held.packet.frame);
            continue;
        }
        if let Some(slot) = held.slot {
            state.counters.waiting(slot).add(1);
        }
        state.hold.queue.push_back(held);
    }
    // The neighbour may have become known on the way.
    state.hold.seen_version = u64::MAX;
    state.counters.run.held.set(state.hold.queue.len() as u64);
}

/// Moves the next waiting packets of this round into an empty burst. Returns how many.
pub fn release(burst: &mut Burst, state: &mut WorkerState) -> usize {
    let mut moved = 0;
    while state.hold.round > 0 && burst.room() > 0 {
        state.hold.round -= 1;
        let Some(held) = state.hold.queue.pop_front() else { break };
        let Held { packet, slot, deadline, facts, .. } = held;
        if let Some(slot) = slot {
            let waiting = state.counters.waiting(slot);
            waiting.set(waiting.get().saturating_sub(1));
        }
        let (checksum, gso) = (packet.checksum, packet.gso);
        let Ok(lane) = burst.push(packet.frame, packet.offset, packet.len, packet.in_port) else { break };
        burst.set_offload(lane, checksum, gso);
        let meta = &mut burst.meta;
        meta.l3[lane] = facts.l3;
        meta.l4[lane] = facts.l4;
        meta.protocol[lane] = facts.protocol;
        meta.ip_len[lane] = facts.ip_len;
        meta.src4[lane] = facts.src4;
        meta.dst4[lane] = facts.dst4;
        meta.dst6[lane] = facts.dst6;
        meta.rule[lane] = facts.rule;
        let bit = |set: bool| u64::from(set) << lane;
        burst.v4 |= bit(!facts.v6);
        burst.v6 |= bit(facts.v6);
        burst.originated |= bit(facts.originated);
        burst.decapsulated |= bit(facts.decapsulated);
        burst.fragments |= bit(facts.fragment);
        burst.from_host |= bit(facts.from_host);
        burst.from_pod |= bit(facts.from_pod);
        burst.known |= bit(facts.known);
        state.hold.deadlines[lane] = deadline;
        burst.held |= 1 << lane;
        moved += 1;
    }
    state.counters.run.held.set(state.hold.queue.len() as u64);
    moved
}
