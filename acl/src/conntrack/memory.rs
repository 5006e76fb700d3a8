//! Where everything lies: one slice of cache lines, reached by numbers and never by pointers.
//!
//! ```text
//!   line 0      header: magic, version, sizes, seed             (read-only after creation)
//!   line 1      free list head, live flows                      (creation and removal)
//!   line 2      sweep and eviction hands, contention            (rare)
//!   accounts    8 B an endpoint, and one for "no endpoint"
//!   buckets    64 B, 12 slots each, 10 for 81 flows             7.90 B a flow
//!   heads      32 B a flow: state, key, generations            32 B    all that an IPv4 lookup compares
//!   bodies     64 B a flow: TCP windows, counters, verdicts    64 B    what tracking adds
//!   extras     24 B a flow: the rest of IPv6 addresses         24 B
//!                                                             --------
//!                                                             127.90 B a flow
//! ```
//!
//! The memory may be a boxed slice, or a file that a successor process maps: nothing in it depends on where it is
//! mapped. All sizes follow from the capacity and the number of endpoints, which the header holds.

use super::atomic::{AtomicU64, Ordering};
use super::bucket::SLOTS;
use super::error::LayoutError;
use super::prefetch;

/// Words of a cache line.
pub(super) const WORDS: usize = 8;
/// Words of a flow outside its head and body.
pub(super) const EXTRA_WORDS: usize = 3;
/// Flows for so many buckets when the table is full: as few as 128 bytes a flow allow.
const FLOWS: usize = 81;
const BUCKETS: usize = 10;
const _: () = assert!(FLOWS < BUCKETS * SLOTS);

/// First word of every table: "vrct" and a byte that no text has.
const MAGIC: u64 = 0x7672_6374_00ff_0001;
/// Changes with every change of the layout or of a field's meaning.
pub const LAYOUT_VERSION: u64 = 3;

/// One cache line of table memory: 64 bytes, of which any are valid.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Line(pub(super) [AtomicU64; WORDS]);

impl Default for Line {
    fn default() -> Self {
        Line(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Line {
    /// A line of these words.
    #[cfg(not(feature = "loom"))]
    pub fn of(words: [u64; WORDS]) -> Self {
        Line(words.map(AtomicU64::new))
    }

    /// Its words, each as it is at the moment.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// Zeroed lines on the heap, each page touched.
    pub fn boxed(lines: usize) -> Box<[Line]> {
        (0..lines).map(|_| Line::default()).collect()
    }
}

/// The number of flows and endpoints that a table is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Flows; the hard bound.
    pub flows: u32,
    /// Endpoint numbers below this one may open flows.
    pub endpoints: u16,
}

impl Default for Capacity {
    /// A million flows, 2048 endpoints.
    fn default() -> Self {
        Capacity { flows: 1 << 20, endpoints: 2048 }
    }
}

impl Capacity {
    /// The largest number of flows: an index and "none" share 31 bits.
    pub const MAX_FLOWS: u32 = (1 << 31) - 1;

    /// Lines of memory that a table of this capacity needs.
    ///
    /// # Errors
    /// [`LayoutError::Capacity`] for no flows or more than [`Capacity::MAX_FLOWS`].
    pub fn lines(&self) -> Result<usize, LayoutError> {
        Ok(Layout::new(*self)?.lines)
    }
}

/// First lines and counts of the parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) capacity: Capacity,
    pub(super) buckets: usize,
    /// The bits of an entry's number in a slot.
    pub(super) numbers: u32,
    accounts_at: usize,
    buckets_at: usize,
    heads_at: usize,
    bodies_at: usize,
    extras_at: usize,
    pub(super) lines: usize,
}

impl Layout {
    pub(super) fn new(capacity: Capacity) -> Result<Self, LayoutError> {
        let flows = capacity.flows as usize;
        if capacity.flows == 0 || capacity.flows > Capacity::MAX_FLOWS || capacity.endpoints == u16::MAX {
            return Err(LayoutError::Capacity);
        }
        // At least as many as a key may probe, so that its buckets are different ones.
        let buckets = (flows * BUCKETS).div_ceil(FLOWS).max(super::bucket::PROBES);
        let accounts_at = 3;
        let buckets_at = accounts_at + (usize::from(capacity.endpoints) + 1).div_ceil(WORDS);
        let heads_at = buckets_at + buckets;
        let bodies_at = heads_at + flows.div_ceil(2);
        let extras_at = bodies_at + flows;
        let lines = extras_at + (flows * EXTRA_WORDS).div_ceil(WORDS);
        let numbers = capacity.flows.next_power_of_two() - 1;
        Ok(Layout {
            capacity,
            buckets,
            numbers,
            accounts_at,
            buckets_at,
            heads_at,
            bodies_at,
            extras_at,
            lines,
        })
    }

    /// Writes the header of a new table.
    pub(super) fn write(&self, memory: &[Line], seed: [u64; 2]) {
        let header = &memory[0].0;
        let sizes = u64::from(self.capacity.flows) | u64::from(self.capacity.endpoints) << 32;
        for (word, value) in header.iter().zip([MAGIC, LAYOUT_VERSION, sizes, seed[0], seed[1]]) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Reads and checks the header of a table that another process has left.
    pub(super) fn read(memory: &[Line]) -> Result<(Self, [u64; 2]), LayoutError> {
        let header = memory.first().ok_or(LayoutError::TooSmall)?;
        let word = |at: usize| header.0[at].load(Ordering::Relaxed);
        if word(0) != MAGIC {
            return Err(LayoutError::NoTable);
        }
        if word(1) != LAYOUT_VERSION {
            return Err(LayoutError::Version(word(1)));
        }
        let layout = Layout::new(Capacity { flows: word(2) as u32, endpoints: (word(2) >> 32) as u16 })?;
        if memory.len() < layout.lines {
            return Err(LayoutError::TooSmall);
        }
        Ok((layout, [word(3), word(4)]))
    }
}

/// The parts of a table's memory, found once a burst.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts<'a> {
    pub(super) shared: &'a Shared,
    pub(super) accounts: &'a [Line],
    pub(super) buckets: &'a [Line],
    heads: &'a [Line],
    bodies: &'a [Line],
    extras: &'a [Line],
}

/// The words that all workers change: two lines.
pub(super) type Shared = [Line];

impl<'a> Parts<'a> {
    /// Cuts memory of at least `layout.lines` lines.
    #[inline]
    pub(super) fn new(memory: &'a [Line], layout: &Layout) -> Self {
        let (front, rest) = memory.split_at(layout.buckets_at);
        let (buckets, rest) = rest.split_at(layout.heads_at - layout.buckets_at);
        let (heads, rest) = rest.split_at(layout.bodies_at - layout.heads_at);
        let (bodies, extras) = rest.split_at(layout.extras_at - layout.bodies_at);
        let (shared, accounts) = front.split_at(layout.accounts_at);
        Parts { shared: &shared[1..], accounts, buckets, heads, bodies, extras }
    }

    /// Head of the free list: `tag << 32 | entry + 1`.
    #[inline]
    pub(super) fn free_head(&self) -> &'a AtomicU64 {
        &self.shared[0].0[0]
    }

    /// Flows in the table.
    #[inline]
    pub(super) fn live(&self) -> &'a AtomicU64 {
        &self.shared[0].0[1]
    }

    /// Where the next sweep begins.
    #[inline]
    pub(super) fn sweep_hand(&self) -> &'a AtomicU64 {
        &self.shared[1].0[0]
    }

    /// Where the next search for a victim begins.
    #[inline]
    pub(super) fn eviction_hand(&self) -> &'a AtomicU64 {
        &self.shared[1].0[1]
    }

    /// Times that a lock was found taken.
    #[inline]
    pub(super) fn contention(&self) -> &'a AtomicU64 {
        &self.shared[1].0[2]
    }

    /// Half-open flows in the low half, all flows in the high half, of an account.
    #[inline]
    pub(super) fn account(&self, account: usize) -> &'a AtomicU64 {
        &self.accounts[account / WORDS].0[account % WORDS]
    }

    /// Number of entries.
    #[inline]
    pub(super) fn flows(&self) -> u32 {
        self.bodies.len() as u32
    }

    /// The first byte of the heads, 32 bytes for each entry.
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    #[inline]
    pub(super) fn heads_start(&self) -> *const u8 {
        self.heads.as_ptr().cast()
    }

    /// The first byte of the bodies, 64 bytes for each entry.
    #[cfg(all(target_arch = "x86_64", not(any(feature = "loom", miri))))]
    #[inline]
    pub(super) fn bodies_start(&self) -> *const u8 {
        self.bodies.as_ptr().cast()
    }

    /// The head of an entry; `None` for a number out of range, which damaged memory may lead to.
    #[inline(always)]
    pub(super) fn head(&self, entry: u32) -> Option<&'a [AtomicU64; 4]> {
        let (halves, _) = self.heads.get(entry as usize / 2)?.0.as_chunks();
        Some(&halves[entry as usize % 2])
    }

    /// Fetches the line of a bucket.
    #[inline(always)]
    pub(super) fn fetch_bucket(&self, bucket: usize) {
        if let Some(line) = self.buckets.get(bucket) {
            prefetch::line(line);
        }
    }

    /// Fetches the line of an entry's head.
    #[inline(always)]
    pub(super) fn fetch_head(&self, entry: u32) {
        if let Some(line) = self.heads.get(entry as usize / 2) {
            prefetch::line(line);
        }
    }

    /// Fetches the line, or the two lines, of an entry's extra words.
    #[inline(never)]
    pub(super) fn fetch_extras(&self, entry: u32) {
        let at = entry as usize * EXTRA_WORDS;
        for word in [at, at + EXTRA_WORDS - 1] {
            if let Some(line) = self.extras.get(word / WORDS) {
                prefetch::line(line);
            }
        }
    }

    /// Fetches the line of an entry's body.
    #[inline(always)]
    pub(super) fn fetch_body(&self, entry: u32) {
        if let Some(line) = self.bodies.get(entry as usize) {
            prefetch::line(line);
        }
    }

    /// The body of an entry in range.
    #[inline(always)]
    pub(super) fn body(&self, entry: u32) -> &'a [AtomicU64; WORDS] {
        &self.bodies[entry as usize].0
    }

    /// One of the extra words of an entry in range.
    #[inline(always)]
    pub(super) fn extra(&self, entry: u32, word: usize) -> &'a AtomicU64 {
        let at = entry as usize * EXTRA_WORDS + word;
        &self.extras[at / WORDS].0[at % WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_takes_at_most_128_bytes() {
        for flows in [1 << 20, 1_000_000, 4 << 20, 65_536] {
            let lines = Capacity { flows, endpoints: 2048 }.lines().unwrap();
            // A small table still carries the accounts of 2048 endpoints.
            let fixed = if flows < 1 << 20 { 2049 * 8 + 256 } else { 0 };
            assert!(lines * 64 - fixed <= flows as usize * 128, "{flows} flows: {lines} lines");
        }
    }

    #[test]
    fn a_header_of_another_kind_is_refused() {
        let capacity = Capacity { flows: 100, endpoints: 4 };
        let layout = Layout::new(capacity).unwrap();
        let memory = Line::boxed(layout.lines);
        assert_eq!(Layout::read(&memory), Err(LayoutError::NoTable));
        layout.write(&memory, [1, 2]);
        assert_eq!(Layout::read(&memory), Ok((layout, [1, 2])));
        assert_eq!(Layout::read(&memory[..layout.lines - 1]), Err(LayoutError::TooSmall));
        assert_eq!(Layout::read(&[]), Err(LayoutError::TooSmall));
        memory[0].0[1].store(9, Ordering::Relaxed);
        assert_eq!(Layout::read(&memory), Err(LayoutError::Version(9)));
        assert_eq!(Capacity { flows: 0, endpoints: 4 }.lines(), Err(LayoutError::Capacity));
        assert_eq!(Capacity { flows: 1, endpoints: u16::MAX }.lines(), Err(LayoutError::Capacity));
    }
}
