//! The table: its memory, its settings, and what every operation needs of both.

use core::fmt;
use core::ops::Deref;

use super::atomic::Ordering;
use super::bucket::{self, Bucket};
use super::entry::{Entry, State};
use super::error::LayoutError;
use super::hash::{Hash, Key, Seed};
use super::memory::{Capacity, Layout, Line, Parts};
use super::phase::{Phase, Timeouts, Timers};
use super::tcp::TcpSettings;

/// How much of the table one endpoint may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Half-open and ended flows of one endpoint. A further one takes the place of one of the endpoint's own.
    pub evictable: u32,
    /// The same while fewer than `reserve` entries are free.
    pub evictable_under_pressure: u32,
    /// Free entries below which an endpoint with many half-open flows must make room itself.
    pub reserve: u32,
    /// All flows of one endpoint.
    pub flows: u32,
}

impl Limits {
    /// An eighth of the table for half-open flows of one endpoint, a 256th under pressure, a 64th in reserve, no bound
    /// for established flows.
    pub fn of(capacity: Capacity) -> Self {
        Limits {
            evictable: (capacity.flows / 8).max(1),
            evictable_under_pressure: (capacity.flows / 256).max(1),
            reserve: capacity.flows / 64,
            flows: capacity.flows,
        }
    }
}

/// What a table is told at creation. It is not kept in the table's memory: a successor may bring other settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long flows may be silent.
    pub timers: Timers,
    /// How TCP is looked at.
    pub tcp: TcpSettings,
    /// What one endpoint may take.
    pub limits: Limits,
}

impl Settings {
    /// The defaults for a table of this capacity.
    pub fn of(capacity: Capacity) -> Self {
        Settings { timers: Timers::default(), tcp: TcpSettings::default(), limits: Limits::of(capacity) }
    }
}

/// What does not change after creation.
#[derive(Clone, Debug)]
pub(super) struct Fixed {
    pub(super) layout: Layout,
    pub(super) seed: Seed,
    pub(super) timeouts: Timeouts,
    pub(super) tcp: TcpSettings,
    pub(super) limits: Limits,
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    pub(super) wide: Option<super::avx512::Available>,
}

impl Fixed {
    fn new(layout: Layout, seed: [u64; 2], settings: &Settings) -> Result<Self, LayoutError> {
        let limits = settings.limits;
        if limits.evictable == 0 || limits.evictable_under_pressure == 0 || limits.flows == 0 {
            return Err(LayoutError::Settings);
        }
        let (timeouts, tcp) = (settings.timers.timeouts()?, settings.tcp);
        Ok(Fixed {
            layout,
            seed: Seed::new(seed),
            timeouts,
            tcp,
            limits,
            #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
            wide: super::avx512::Available::detect(),
        })
    }
}

/// The flows of a router, shared by all of its workers: see the [module's](super) documentation.
///
/// `M` is the memory: a boxed slice, or whatever gives a mapping.
pub struct Conntrack<M = Box<[Line]>> {
    memory: M,
    fixed: Fixed,
}

impl Conntrack {
    /// A table on the heap. `seed` must be random and kept from outsiders: with it, they could choose flows that
    /// collide.
    ///
    /// # Errors
    /// [`LayoutError::Capacity`] and [`LayoutError::Settings`].
    pub fn new(capacity: Capacity, seed: [u64; 2], settings: &Settings) -> Result<Self, LayoutError> {
        let memory = Line::boxed(capacity.lines()?);
        Conntrack::create(memory, capacity, seed, settings)
    }
}

impl<M: Deref<Target = [Line]>> Conntrack<M> {
    /// A new table in memory of at least [`Capacity::lines`] lines, whatever they hold. Nobody else may use them yet.
    ///
    /// # Errors
    /// [`LayoutError::TooSmall`], [`LayoutError::Capacity`] and [`LayoutError::Settings`].
    pub fn create(
        memory: M,
        capacity: Capacity,
        seed: [u64; 2],
        settings: &Settings,
    ) -> Result<Self, LayoutError> {
        let layout = Layout::new(capacity)?;
        if memory.len() < layout.lines {
            return Err(LayoutError::TooSmall);
        }
        let table = Conntrack { fixed: Fixed::new(layout, seed, settings)?, memory };
        table.memory.iter().flat_map(|line| &line.0).for_each(|word| word.store(0, Ordering::Relaxed));
        layout.write(&table.memory, seed);
        table.view().free_all();
        Ok(table)
    }

    /// Opens the flows here that another table has left in memory, in whatever state its process ended. Workers may use
    /// this table meanwhile, and nobody the other one.
    ///
    /// `sides` is asked about each flow, whose [`Flow::id`](super::Flow::id) means nothing here: what to note as its
    /// egress and its ingress side, or `None` where it is not wanted.
    ///
    /// # Errors
    /// [`LayoutError`], where the memory holds no table of this layout.
    pub fn take_over(
        &self,
        left: &[Line],
        now: super::Tick,
        sides: impl FnMut(&super::Flow) -> Option<[super::SideVerdict; 2]>,
    ) -> Result<super::TakenOver, LayoutError> {
        self.view().take_over(left, now, sides)
    }

    /// The memory, with the flows in it.
    pub fn into_memory(self) -> M {
        self.memory
    }

    /// The memory; not for changing what the flows say.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// What the table is made for.
    pub fn capacity(&self) -> Capacity {
        self.fixed.layout.capacity
    }

    /// Flows in the table, those included that have expired and were not swept yet.
    pub fn len(&self) -> usize {
        self.view().parts.live().load(Ordering::Relaxed) as usize
    }

    /// Whether the table holds no flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Times that a worker found a lock taken by another.
    pub fn contention(&self) -> u64 {
        self.view().parts.contention().load(Ordering::Relaxed)
    }

    /// The half-open and ended flows of an endpoint, and all of its flows; of the flows without a local endpoint for
    /// [`SideVerdict::NO_ENDPOINT`](super::SideVerdict::NO_ENDPOINT); `None` for a number out of range.
    pub fn flows_of(&self, endpoint: u16) -> Option<(u32, u32)> {
        let view = self.view();
        let account = view.account_of(endpoint)?;
        let word = view.parts.account(account).load(Ordering::Relaxed);
        Some((word as u32, (word >> 32) as u32))
    }

    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View { parts: Parts::new(&self.memory, &self.fixed.layout), fixed: &self.fixed }
    }
}

impl<M> fmt::Debug for Conntrack<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conntrack").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

/// The parts of a table and its settings, for one call.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) parts: Parts<'a>,
    pub(super) fixed: &'a Fixed,
}

impl<'a> View<'a> {
    /// The entry with this number; `None` in damaged memory.
    #[inline(always)]
    pub(super) fn entry(&self, number: u32) -> Option<Entry<'_>> {
        Entry::new(&self.parts, number)
    }

    #[inline(always)]
    pub(super) fn bucket(&self, at: usize) -> Bucket<'a> {
        Bucket(&self.parts.buckets[at])
    }

    /// The entry that a slot leads to; arbitrary where the slot is empty.
    pub(super) fn entry_in(&self, bucket: Bucket<'_>, slot: usize) -> u32 {
        bucket.marked_entry(slot) & self.fixed.layout.numbers
    }

    /// What a slot holds that leads a key with this hash to an entry.
    #[inline]
    pub(super) fn marked(&self, number: u32, hash: Hash) -> u32 {
        number | hash.mark(self.fixed.layout.numbers)
    }

    /// The entry that a key with this hash probably has, if it is in this bucket.
    #[inline(always)]
    pub(super) fn candidate_in(&self, bucket: Bucket<'_>, tags: [u64; 2], hash: Hash) -> Option<u32> {
        let numbers = self.fixed.layout.numbers;
        let mut slots = bucket::candidates(tags, hash.tag());
        while !slots.is_empty() {
            let marked = bucket.marked_entry(slots.first());
            if marked & !numbers == hash.mark(numbers) {
                return Some(marked & numbers);
            }
            slots = slots.without_first();
        }
        None
    }

    pub(super) fn buckets_of(&self, hash: Hash) -> impl Iterator<Item = usize> + use<> {
        let buckets = self.fixed.layout.buckets;
        (0..bucket::PROBES).map(move |n| hash.probe(n, buckets))
    }

    /// The flow of a key, if it is in the table; expired or not.
    pub(super) fn find(&self, key: &Key, hash: Hash) -> Option<Hit> {
        let first = self.bucket(hash.bucket(self.fixed.layout.buckets));
        let probes = 1 + bucket::farthest(first.tags());
        self.buckets_of(hash).take(probes).find_map(|at| self.find_in(self.bucket(at), key, hash))
    }

    /// The flow of a key, if it is in this bucket.
    pub(super) fn find_in(&self, bucket: Bucket<'_>, key: &Key, hash: Hash) -> Option<Hit> {
        let numbers = self.fixed.layout.numbers;
        let mut slots = bucket::candidates(bucket.tags(), hash.tag());
        while !slots.is_empty() {
            let marked = bucket.marked_entry(slots.first());
            slots = slots.without_first();
            if marked & !numbers != hash.mark(numbers) {
                continue;
            }
            let number = marked & numbers;
            let Some(entry) = self.entry(number) else { continue };
            let state = entry.state();
            if let Some(reply) = entry.matches(key)
                && entry.still(state).is_some()
                && state.phase() != Phase::Free
            {
                return Some(Hit { entry: number, state, reply });
            }
        }
        None
    }

    /// The account of an endpoint; the last one is for flows without.
    #[inline]
    pub(super) fn account_of(&self, endpoint: u16) -> Option<usize> {
        let endpoints = self.fixed.layout.capacity.endpoints;
        match endpoint {
            super::SideVerdict::NO_ENDPOINT => Some(usize::from(endpoints)),
            _ => (endpoint < endpoints).then_some(usize::from(endpoint)),
        }
    }
}

/// A flow that was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) entry: u32,
    pub(super) state: State,
    /// Whether the key was that of a reply.
    pub(super) reply: bool,
}
