//! Side exit: follows chosen packets through the stages.
//!
//! One mechanism serves `trace` (what each stage decided) and `capture` (the bytes
//! with the verdict). While no filter is set it costs one test of a mask. Records
//! are preallocated boxes that travel to control through a bounded ring and come
//! back for reuse; when none is left the packet goes on untraced, counted.
//!
//! Several filters may be in force, each in a slot of its own: a record says by a bit
//! for each slot who wants it. Where a packet leaves, and whether it is dropped, is
//! known only at the end of its way; what nobody wants then is not sent.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::burst::{Burst, LANES, lanes};
use crate::drop_reason::DropReason;
use crate::ids::{PortId, TRACE_SLOTS, Timestamp, WorkerId};
use crate::pipeline::state::WorkerState;
use crate::tables::TraceFilter;

/// Bytes of a packet that a record keeps.
pub const SNAP_LEN: usize = 2048;
/// Notes that a record keeps.
const NOTES: usize = 12;
/// Records that one worker can have under way.
pub const RECORDS: usize = 256;

/// The stages that leave notes, with the meaning of their two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Ethertype; transport protocol, `u32::MAX` where there is no IP packet.
    Parse,
    /// Outer source address; length of the inner packet.
    Decap,
    /// Rule; 0 allowed, 1 denied.
    SourcePolicy,
    /// Next-hop group; adjacency.
    Lookup,
    /// Rule; 0 allowed, 1 denied.
    HostPolicy,
    /// Rule; 0 allowed, 1 denied.
    DestPolicy,
    /// Size; MTU that it exceeds, or `u32::MAX` where it fits.
    TtlMtu,
    /// Number of fragments; MTU.
    Fragment,
    /// Outer destination address; length of the inner packet.
    Encap,
    /// Destination MAC address: its first two octets; its last four.
    Rewrite,
}

/// What a stage decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// Which stage.
    pub stage: Stage,
    /// First number, see [`Stage`].
    pub first: u32,
    /// Second number, see [`Stage`].
    pub second: u32,
}

/// How a packet's way ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Sent to this port.
    Sent(PortId),
    /// Dropped.
    Dropped(DropReason),
    /// Handed to the slow path.
    Punted,
    /// Waits for a neighbour's MAC address.
    Held,
    /// Turned into a reply.
    Answered,
    /// Ended on purpose (its fragments were sent).
    Consumed,
}

/// What a filter asks of the end of a packet's way.
#[derive(Clone, Copy, Default, Debug)]
struct AtEnd {
    port: Option<PortId>,
    drops_only: bool,
}

impl AtEnd {
    fn holds(self, in_port: PortId, outcome: Outcome) -> bool {
        self.port.is_none_or(|port| in_port == port || outcome == Outcome::Sent(port))
            && (!self.drops_only || matches!(outcome, Outcome::Dropped(_)))
    }
}

/// One packet's way through the router.
#[derive(Debug)]
pub struct Record {
    /// When its burst ran.
    pub at: Timestamp,
    /// Which worker carried it.
    pub worker: WorkerId,
    /// Slots of the filters that want it, one bit each.
    pub wanted_by: u8,
    /// Where it entered.
    pub in_port: PortId,
    /// How it ended.
    pub outcome: Outcome,
    /// Route id: raw next-hop group, `u32::MAX` before lookup.
    pub group: u32,
    /// Policy rule that decided last, 0 where none did.
    pub rule: u32,
    /// Length of the frame when it entered.
    pub original_len: u32,
    notes: [Option<Note>; NOTES],
    note_count: u8,
    bytes: [u8; SNAP_LEN],
    len: u16,
}

impl Record {
    fn new() -> Self {
        Record {
            at: Timestamp::default(),
            worker: WorkerId(0),
            wanted_by: 0,
            in_port: PortId::NONE,
            outcome: Outcome::Consumed,
            group: u32::MAX,
            rule: 0,
            original_len: 0,
            notes: [None; NOTES],
            note_count: 0,
            bytes: [0; SNAP_LEN],
            len: 0,
        }
    }

    /// The frame as it entered, up to [`SNAP_LEN`] bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// What the stages noted, in order.
    pub fn notes(&self) -> impl Iterator<Item = Note> + '_ {
        self.notes.iter().flatten().copied()
    }
}

/// A worker's records and where finished ones go.
#[derive(Debug)]
pub struct Tracer {
    lanes: [Option<Box<Record>>; LANES],
    // The boxes travel: moving a record of 2 KiB by value would cost a copy each way.
    #[allow(clippy::vec_box)]
    spare: Vec<Box<Record>>,
    done: Arc<ArrayQueue<Box<Record>>>,
    returned: Arc<ArrayQueue<Box<Record>>>,
    worker: WorkerId,
    /// By slot, as of the latest `select`.
    at_end: [AtEnd; TRACE_SLOTS],
}

impl Tracer {
    /// A tracer that sends finished records into `done`. It owns no record until
    /// [`equip`](Self::equip).
    pub fn new(done: Arc<ArrayQueue<Box<Record>>>) -> Self {
        Tracer {
            lanes: [const { None }; LANES],
            spare: Vec::with_capacity(RECORDS),
            done,
            returned: Arc::new(ArrayQueue::new(RECORDS)),
            worker: WorkerId(0),
            at_end: [AtEnd::default(); TRACE_SLOTS],
        }
    }

    /// Says whose tracer it is.
    pub fn set_worker(&mut self, worker: WorkerId) {
        self.worker = worker;
    }

    /// Where control returns records, and where it puts new ones to equip the worker.
    pub fn returned(&self) -> Arc<ArrayQueue<Box<Record>>> {
        self.returned.clone()
    }

    /// Fills a worker's return queue with fresh records. Called by control when the
    /// first filter is set; a worker that never traces has no record.
    pub fn equip(returned: &ArrayQueue<Box<Record>>) {
        while !returned.is_full() {
            if returned.push(Box::new(Record::new())).is_err() {
                break;
            }
        }
    }

    /// Notes what a stage decided about a lane, if the lane is followed.
    #[inline]
    pub fn note(&mut self, burst: &Burst, lane: usize, stage: Stage, first: u32, second: u32) {
        if burst.traced >> lane & 1 == 1 {
            self.write(lane, Note { stage, first, second });
        }
    }

    #[cold]
    fn write(&mut self, lane: usize, note: Note) {
        if let Some(record) = &mut self.lanes[lane] {
            let at = record.note_count as usize;
            if at < NOTES {
                record.notes[at] = Some(note);
                record.note_count += 1;
            }
        }
    }

    /// Ends a lane's record.
    #[cold]
    pub fn finish(&mut self, burst: &mut Burst, lane: usize, outcome: Outcome, now: Timestamp) {
        burst.traced &= !(1 << lane);
        let Some(mut record) = self.lanes[lane].take() else { return };
        for (slot, at_end) in self.at_end.iter().enumerate() {
            if !at_end.holds(record.in_port, outcome) {
                record.wanted_by &= !(1 << slot);
            }
        }
        if record.wanted_by == 0 {
            self.spare.push(record);
            return;
        }
        record.at = now;
        record.worker = self.worker;
        record.outcome = outcome;
        record.group = burst.meta.group[lane];
        record.rule = burst.meta.rule[lane];
        if let Err(record) = self.done.push(record) {
            self.spare.push(record);
        }
    }
}

/// Chooses the packets of a burst to follow and keeps their bytes.
#[cold]
pub fn select(burst: &mut Burst, filters: &[TraceFilter], state: &mut WorkerState) {
    for filter in filters {
        let at_end = AtEnd { port: filter.port, drops_only: filter.drops_only };
        if let Some(slot) = state.tracer.at_end.get_mut(usize::from(filter.slot)) {
            *slot = at_end;
        }
    }
    for lane in lanes(burst.alive) {
        let bytes = burst.bytes(lane, state.pool.area());
        let matching = filters.iter().filter(|filter| matches(filter, bytes));
        let wanted_by =
            matching.fold(0, |mask, filter| mask | 1_u8.checked_shl(filter.slot.into()).unwrap_or(0));
        if wanted_by == 0 {
            continue;
        }
        let tracer = &mut state.tracer;
        let Some(mut record) = tracer.spare.pop().or_else(|| tracer.returned.pop()) else {
            for (slot, lost) in state.counters.run.trace_lost.iter().enumerate() {
                lost.add(u64::from(wanted_by >> slot & 1));
            }
            continue;
        };
        let len = bytes.len().min(SNAP_LEN);
        record.bytes[..len].copy_from_slice(&bytes[..len]);
        record.len = len as u16;
        record.original_len = bytes.len() as u32;
        record.wanted_by = wanted_by;
        record.in_port = burst.meta.in_port[lane];
        record.notes = [None; NOTES];
        record.note_count = 0;
        tracer.lanes[lane] = Some(record);
        burst.traced |= 1 << lane;
    }
}

/// Whether a frame is one that the filter wants, as far as its bytes tell. A tunnel
/// packet matches by its outer or by its inner addresses.
fn matches(filter: &TraceFilter, frame: &[u8]) -> bool {
    let unconditional = filter.source.is_none()
        && filter.destination.is_none()
        && filter.protocol.is_none()
        && filter.source_port.is_none()
        && filter.destination_port.is_none();
    unconditional || frame.get(14..).is_some_and(|ip| matches_ip(filter, ip, true))
}

fn matches_ip(filter: &TraceFilter, ip: &[u8], may_nest: bool) -> bool {
    let Some(found) = Summary::of(ip) else { return false };
    let hit = filter.source.is_none_or(|net| net.contains(&found.source))
        && filter.destination.is_none_or(|net| net.contains(&found.destination))
        && filter.protocol.is_none_or(|wanted| wanted == found.protocol)
        && filter.source_port.is_none_or(|wanted| found.ports.is_some_and(|(source, _)| source == wanted))
        && filter.destination_port.is_none_or(|wanted| found.ports.is_some_and(|(_, port)| port == wanted));
    hit || (may_nest
        && matches!(found.protocol, encap::wire::protocol::IPIP | encap::wire::protocol::IPV6)
        && matches_ip(filter, found.payload, false))
}

struct Summary<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: Option<(u16, u16)>,
    payload: &'a [u8],
}

impl<'a> Summary<'a> {
    fn of(ip: &'a [u8]) -> Option<Self> {
        let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) = match ip.first()? >> 4 {
            4 => {
                let header = ip.first_chunk::<20>()?;
                let word =
                    |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
                (word(12).into(), word(16).into(), header[9], ip.get(usize::from(header[0] & 0xf) * 4..)?)
            }
            6 => {
                let header = ip.first_chunk::<40>()?;
                let address = |at: usize| {
                    let mut octets = [0; 16];
                    octets.copy_from_slice(&header[at..at + 16]);
                    Ipv6Addr::from(octets)
                };
                let payload = &ip[40..];
                let upper = encap::wire::ipv6_ext::walk(header[6], payload).ok()?;
                (address(8).into(), address(24).into(), upper.protocol, payload.get(upper.offset..)?)
            }
            _ => return None,
        };
        let ports = match payload.first_chunk::<4>() {
            Some([a, b, c, d]) if encap::wire::ipv4::has_ports(protocol) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        Some(Summary { source, destination, protocol, ports, payload })
    }
}
