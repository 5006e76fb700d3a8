//! The first 48 bits of IPv6 at four reads, for large tables.
//!
//! ```text
//!  2a0b:4fc1:a5eb:...  bits 0..20 | 20..32 | 32..40 | 40..48
//!                           |         |        |        |
//!  root, 2^20 words         v         |        |        |      a word is a leaf, or names
//!  [ leaf | dense | leaf | ... ]      v        |        |        dense: a word for each slot
//!            `--> [ leaf | range | dense | ... ]        |        range: one line, see below
//!                            |       |         v        |        down:  a line of the trie
//!                            |       `--> [ range | dense | ... ]
//!                            v                        v
//!            last of range 0, 1, .. 9 | answer 0, 1, .. 10       one cache line
//!             ten numbers of 16 bits      eleven words
//! ```
//!
//! The trie is the table; the ranges repeat what it says about the first 48 bits, as the
//! [front](crate::front) does for IPv4. Most blocks of 32 bits hold few routes: the sixteen bits
//! below them fall into at most eleven ranges with one answer each, for which one cache line has
//! room. All ten numbers are compared with the address at once, and the count of those below it is
//! the place of the answer (ranges in place of prefixes: Lampson, Srinivasan and Varghese, "IP
//! Lookups Using Multiway and Multicolumn Search", 1999). What has more ranges is dense for
//! eight bits. So the answer for a route of 48 bits is three to five reads away, not eight.
//!
//! Invariants: the numbers of a range line ascend and never change while readers may be in it,
//! unused ones are 0xffff; its answers may change, one store each. Memory once used for a line, a
//! node of 2^8 words or one of 2^12 is used for nothing else: whatever a late reader meets, what it
//! takes for an entry is one. Nodes at depth 40 name no further nodes.

use crate::Address;
use crate::arena::{Generation, Line, NIBBLE, SLOTS};
use crate::atomic::{AtomicU32, AtomicUsize, Ordering};
use crate::block::{self, AdviseMemory};
use crate::entry::Entry;
use crate::kernel::{self, lanes};
use std::sync::OnceLock;

/// Address bits that the root resolves.
pub(crate) const ROOT: u8 = 20;
/// Where the nodes below the root end.
pub(crate) const MIDDLE: u8 = 32;
/// Where the ranges end.
pub(crate) const END: u8 = 48;
/// Address bits of a dense node below [`MIDDLE`].
pub(crate) const OCTET: u8 = 8;
/// Ranges of a line.
pub(crate) const RANGES: usize = 11;
/// The word of a line that holds the first answer.
pub(crate) const ANSWERS: usize = 5;

/// Marks the name of a range line.
pub(crate) const RANGE: u32 = 1 << 30;
/// Marks the name of a line of the trie.
pub(crate) const DOWN: u32 = 1 << 29;
/// The word that a name names, a multiple of 16.
pub(crate) const INDEX: u32 = DOWN - 1;
/// Where the number of the trie's generation lies, modulo four, behind the line's number.
const GENERATION_SHIFT: u32 = 27;

/// Whether an entry names a dense node.
pub(crate) const fn is_dense(entry: Entry) -> bool {
    entry.0 & (Entry::LEAF | RANGE | DOWN) == 0
}

/// Whether an entry names a range line.
pub(crate) const fn is_range(entry: Entry) -> bool {
    entry.0 & (Entry::LEAF | RANGE) == RANGE
}

/// The name of the trie's line that lies below `entry`, a child at [`END`].
pub(crate) fn down(trie: &Generation, entry: Entry) -> Entry {
    debug_assert!(entry.is_child());
    Entry(DOWN | (trie.number() as u32 & 3) << GENERATION_SHIFT | entry.line())
}

/// Whether an entry names a line of the trie.
pub(crate) const fn is_down(entry: Entry) -> bool {
    entry.0 & (Entry::LEAF | RANGE | DOWN) == DOWN
}

/// The leaf that decides about `addr`, for which the ranges say `entry`.
///
/// A line of another generation than the one in use is not looked for: the way down the trie
/// begins at the root then.
#[inline(always)]
pub(crate) fn decide<A: Address>(entry: Entry, trie: &Generation, addr: A) -> Entry {
    if !entry.is_child() {
        return entry;
    }
    let line = entry.0 & ((1 << GENERATION_SHIFT) - 1);
    let known = entry.0 >> GENERATION_SHIFT == DOWN >> GENERATION_SHIFT | trie.number() as u32 & 3;
    if known && (line as usize) < trie.lines().len() {
        let entry = trie.load(line as usize * SLOTS + addr.nibble(END));
        kernel::leaf_below(trie, entry, END + NIBBLE, addr)
    } else {
        kernel::leaf(trie, addr)
    }
}

/// The memory of root, nodes and lines, as readers see it.
pub(crate) struct Ranges {
    lines: Box<[Line]>,
}

impl Ranges {
    /// Lines of the root.
    pub(crate) const ROOT_LINES: usize = 1 << (ROOT - NIBBLE);

    /// Memory of so many lines, the root's included, that knows no route.
    pub(crate) fn new(lines: usize, advise: Option<AdviseMemory>) -> Self {
        assert!(lines >= Self::ROOT_LINES && lines * SLOTS <= DOWN as usize);
        Self { lines: block::allocate(lines, advise, Line::empty) }
    }

    /// Lines of the memory.
    pub(crate) fn lines(&self) -> usize {
        self.lines.len()
    }

    #[inline(always)]
    pub(crate) fn word(&self, word: usize) -> &AtomicU32 {
        &self.lines[word / SLOTS].slots()[word % SLOTS]
    }

    /// Reads an entry.
    #[inline(always)]
    pub(crate) fn load(&self, word: usize) -> Entry {
        // Acquire: what an entry names is filled before it is stored with Release.
        Entry(self.word(word).load(Ordering::Acquire))
    }

    /// The first word.
    #[cfg(all(target_arch = "x86_64", not(any(miri, feature = "loom"))))]
    #[inline(always)]
    pub(crate) fn base(&self) -> *const u32 {
        self.lines.as_ptr().cast()
    }

    /// How many ranges of the line at `word` end before `key`.
    #[inline(always)]
    fn rank(&self, word: usize, key: usize) -> usize {
        (0..ANSWERS)
            .map(|i| {
                let pair = self.word(word + i).load(Ordering::Relaxed) as usize;
                usize::from(pair & 0xffff < key) + usize::from(pair >> 16 < key)
            })
            .sum()
    }

    /// The leaf for `addr`, or the name of the trie's line below; or another name, where memory was
    /// reused under the reader. [`decide`] takes them all.
    #[inline(always)]
    pub(crate) fn get<A: Address>(&self, addr: A) -> Entry {
        let mut entry = self.load(addr.slice(0, ROOT));
        if is_dense(entry) {
            entry = self.load(entry.0 as usize + addr.slice(ROOT, MIDDLE - ROOT));
        }
        for depth in [MIDDLE, MIDDLE + OCTET] {
            if is_dense(entry) {
                entry = self.load(entry.0 as usize + addr.slice(depth, OCTET));
            }
        }
        if is_range(entry) {
            let line = (entry.0 & INDEX) as usize;
            entry = self.load(line + ANSWERS + self.rank(line, addr.slice(MIDDLE, END - MIDDLE)));
        }
        entry
    }

    /// Answers the lanes in `mask` as [`Fib::lookup_burst`](crate::Fib::lookup_burst) does, but
    /// for those it returns: for them `out` has what [`decide`] needs.
    pub(crate) fn burst<A: Address>(&self, addrs: &[A; 64], mask: u64, out: &mut [u32; 64]) -> u64 {
        let mut down = 0;
        for lane in lanes(mask) {
            let entry = self.get(addrs[lane]);
            down |= u64::from(entry.is_child()) << lane;
            out[lane] = if entry.is_child() { entry.0 } else { entry.raw_group() };
        }
        down
    }
}

/// Ranges that a table can have: each is at least twice as large as the one before.
const MEMORIES: usize = 6;

/// All ranges that one table has had: a reader may be in an earlier one.
pub(crate) struct Memories {
    all: [OnceLock<Ranges>; MEMORIES],
    /// The number of the ranges in use, counted from 1; 0 for none.
    shown: AtomicUsize,
}

impl Memories {
    pub(crate) fn new() -> Self {
        Self { all: [const { OnceLock::new() }; MEMORIES], shown: AtomicUsize::new(0) }
    }

    /// The ranges that readers ask first.
    #[inline(always)]
    pub(crate) fn shown(&self) -> Option<&Ranges> {
        self.all.get(self.shown.load(Ordering::Acquire).wrapping_sub(1))?.get()
    }

    fn count(&self) -> usize {
        self.all.iter().take_while(|ranges| ranges.get().is_some()).count()
    }

    /// The latest, whether readers ask them or not.
    pub(crate) fn newest(&self) -> Option<&Ranges> {
        self.all[self.count().checked_sub(1)?].get()
    }

    pub(crate) fn can_grow(&self) -> bool {
        self.count() < MEMORIES
    }

    pub(crate) fn add(&self, ranges: Ranges) {
        self.all[self.count()].get_or_init(|| ranges);
    }

    /// Sends readers down the trie.
    pub(crate) fn hide(&self) {
        self.shown.store(0, Ordering::Release);
    }

    /// Has readers ask the newest.
    pub(crate) fn show(&self) {
        // Release: whoever turns to them sees them as they are.
        self.shown.store(self.count(), Ordering::Release);
    }

    pub(crate) fn bytes(&self) -> usize {
        let lines: usize = self.all.iter().filter_map(OnceLock::get).map(Ranges::lines).sum();
        lines * size_of::<Line>()
    }
}
