//! The writer's record of which prefixes there are, kept beside the lines that they end in.
//!
//! ```text
//!  One book for every four address bits on the way to a prefix. The bits of a prefix that
//!  reach into the four, behind a leading 1, are its position:
//!
//!                    1                       10.64.0.0/10 at depth 8: bits 01 -> 101 = 5
//!            10             11
//!        100    101     110    111           present: one bit for each position, 1 to 31
//!      1000 ... .... ... ... ... 1111        groups:  the group of each present position,
//!   10000 .................... 11111                  in ascending order of position
//! ```
//!
//! What covers a position within the four bits is the position shifted right, again and again;
//! hence the longest cover is the highest common bit of two words. (The internal bitmap of
//! Eatherton, Varghese and Dittia, "Tree Bitmap: Hardware/Software IP Lookups with Incremental
//! Updates", 2004.) Position 1 is used at depth 0 alone, by the default route: elsewhere a prefix
//! without bits in the four belongs to the book above.
//!
//! Groups lie in one pool, in blocks of 1, 2, 4, 8, 16 or 32, the least that holds them.
//! Invariants: a block's size follows from the number of bits in `present`; a free block holds
//! the number of the next free one.

use crate::GroupId;

/// Covers of each position, itself included, as bits.
const COVERS: [u32; 32] = {
    let mut covers = [0; 32];
    let mut position = 1;
    while position < 32 {
        covers[position] = 1 << position | covers[position / 2];
        position += 1;
    }
    covers
};

/// No block.
const NIL: u32 = u32::MAX;
const CLASSES: usize = 6;

/// The prefixes that end within the same four address bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Book {
    present: u32,
    /// First word of the block in the pool; [`NIL`] when nothing is present.
    groups: u32,
}

impl Book {
    pub(crate) const EMPTY: Self = Self { present: 0, groups: NIL };

    pub(crate) const fn is_empty(&self) -> bool {
        self.present == 0
    }

    pub(crate) const fn has(&self, position: u32) -> bool {
        self.present >> position & 1 == 1
    }

    /// The longest present position that covers `position`, itself included.
    pub(crate) const fn cover(&self, position: u32) -> Option<u32> {
        (self.present & COVERS[position as usize]).checked_ilog2()
    }

    /// Where the group of `position` lies in the block, or would.
    const fn rank(&self, position: u32) -> usize {
        (self.present & ((1 << position) - 1)).count_ones() as usize
    }

    const fn count(&self) -> usize {
        self.present.count_ones() as usize
    }
}

/// The size class of the block for so many groups.
fn class(count: usize) -> usize {
    count.next_power_of_two().trailing_zeros() as usize
}

/// Memory for the groups of all books.
pub(crate) struct Pool {
    words: Vec<u32>,
    /// First free block of each class.
    free: [u32; CLASSES],
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { words: Vec::new(), free: [NIL; CLASSES] }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }

    /// Bytes by which the next insertion into `book` may make the pool grow.
    pub(crate) fn growth(&self, book: &Book) -> usize {
        let class = class(book.count() + 1);
        let fits = self.free[class..].iter().any(|&block| block != NIL)
            || self.words.capacity() - self.words.len() >= 1 << class;
        if fits { 0 } else { self.bytes().max(1 << class) }
    }

    /// The group at `position`, which must be present.
    pub(crate) fn get(&self, book: &Book, position: u32) -> GroupId {
        debug_assert!(book.has(position));
        let raw = self.words[book.groups as usize + book.rank(position)];
        GroupId::new(raw).expect("only groups are stored")
    }

    /// Puts a group at `position` and returns the one that was there.
    pub(crate) fn insert(&mut self, book: &mut Book, position: u32, group: GroupId) -> Option<GroupId> {
        let (rank, count) = (book.rank(position), book.count());
        if book.has(position) {
            let word = &mut self.words[book.groups as usize + rank];
            return GroupId::new(core::mem::replace(word, group.raw()));
        }
        let start = self.resize(book, count, count + 1);
        self.words.copy_within(start + rank..start + count, start + rank + 1);
        self.words[start + rank] = group.raw();
        book.present |= 1 << position;
        None
    }

    /// Takes the group at `position` out.
    pub(crate) fn remove(&mut self, book: &mut Book, position: u32) -> Option<GroupId> {
        if !book.has(position) {
            return None;
        }
        let group = self.get(book, position);
        let (rank, count) = (book.rank(position), book.count());
        let start = book.groups as usize;
        self.words.copy_within(start + rank + 1..start + count, start + rank);
        book.present &= !(1 << position);
        self.resize(book, count, count - 1);
        Some(group)
    }

    /// Moves the groups of `book` if another number of them needs another class; returns where
    /// they begin.
    fn resize(&mut self, book: &mut Book, from: usize, to: usize) -> usize {
        if from != 0 && to != 0 && class(from) == class(to) {
            return book.groups as usize;
        }
        let old = book.groups;
        book.groups = if to == 0 { NIL } else { self.allocate(class(to)) };
        if from != 0 && to != 0 {
            let start = old as usize;
            self.words.copy_within(start..start + from.min(to), book.groups as usize);
        }
        if from != 0 {
            self.release(old, class(from));
        }
        book.groups as usize
    }

    fn allocate(&mut self, class: usize) -> u32 {
        if let Some(larger) = (class..CLASSES).find(|&larger| self.free[larger] != NIL) {
            let block = self.free[larger];
            self.free[larger] = self.words[block as usize];
            for half in (class..larger).rev() {
                self.release(block + (1 << half), half);
            }
            return block;
        }
        let block = u32::try_from(self.words.len()).expect("fewer groups than 2^32");
        self.words.resize(self.words.len() + (1 << class), 0);
        block
    }

    fn release(&mut self, block: u32, class: usize) {
        self.words[block as usize] = self.free[class];
        self.free[class] = block;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(raw: u32) -> GroupId {
        GroupId::new(raw).unwrap()
    }

    #[test]
    fn covers_are_the_position_without_its_last_bits() {
        assert_eq!(COVERS[1], 0b10);
        assert_eq!(COVERS[0b101], 1 << 0b101 | 1 << 0b10 | 1 << 1);
        let mut book = Book::EMPTY;
        let mut pool = Pool::new();
        assert_eq!(book.cover(31), None);
        pool.insert(&mut book, 0b11, group(1));
        pool.insert(&mut book, 0b1111, group(2));
        pool.insert(&mut book, 0b1110, group(3));
        assert_eq!(book.cover(0b11111), Some(0b1111));
        assert_eq!(book.cover(0b11100), Some(0b1110));
        assert_eq!(book.cover(0b11010), Some(0b11));
        assert_eq!(book.cover(0b10111), None);
    }

    #[test]
    fn groups_follow_their_positions_through_all_sizes() {
        let mut pool = Pool::new();
        let mut book = Book::EMPTY;
        let mut other = Book::EMPTY;
        // 7 is prime to 31: every position once, in an order without any.
        let positions = || (0..31).map(|i| i * 7 % 31 + 1);
        for (n, position) in positions().enumerate() {
            assert_eq!(pool.insert(&mut book, position, group(position)), None);
            assert_eq!(pool.insert(&mut other, position, group(100 + position)), None);
            assert_eq!(book.count(), n + 1);
        }
        assert_eq!(pool.insert(&mut book, 9, group(900)), Some(group(9)));
        assert_eq!(pool.insert(&mut book, 9, group(9)), Some(group(900)));
        for position in positions() {
            assert_eq!(pool.get(&book, position), group(position));
            assert_eq!(pool.remove(&mut book, position), Some(group(position)));
            assert_eq!(pool.remove(&mut book, position), None);
            assert_eq!(pool.get(&other, position), group(100 + position));
        }
        assert!(book.is_empty() && book.groups == NIL);
    }

    #[test]
    fn churn_of_the_same_books_takes_no_more_memory() {
        let mut pool = Pool::new();
        let mut books = [Book::EMPTY; 64];
        let mut taken = None;
        for _ in 0..if cfg!(miri) { 2 } else { 20 } {
            for position in 1..32 {
                for book in &mut books {
                    pool.insert(book, position, group(position));
                }
            }
            for position in 1..32 {
                for book in &mut books {
                    pool.remove(book, position);
                }
            }
            assert_eq!(*taken.get_or_insert(pool.words.len()), pool.words.len());
        }
    }
}
