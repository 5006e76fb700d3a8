//! A table whose snapshots share what has not changed.
//!
//! ```text
//!   writer     [c0][c1][c2']      set(600, x): chunk 2 is copied, once, and changed
//!   snapshot   [c0][c1][c2 ]      goes on to see the old one
//! ```
//!
//! With 10^5 groups a snapshot costs some hundred reference counts and a change one chunk,
//! not megabytes. A read goes through the directory of chunks, which stays in the cache.

use std::ops::Index;
use std::sync::Arc;

/// Entries of a chunk.
const CHUNK: usize = 256;

/// An array in chunks that clones share until one of them writes.
#[derive(Clone, Debug)]
pub struct Chunked<T> {
    chunks: Vec<Arc<[T; CHUNK]>>,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked { chunks: Vec::new() }
    }
}

impl<T> Chunked<T> {
    /// The entry at a position, `None` beyond the last chunk.
    #[inline]
    pub fn get(&self, position: usize) -> Option<&T> {
        Some(&self.chunks.get(position / CHUNK)?[position % CHUNK])
    }

    /// Every entry, by position; the last chunk's unused ones as well.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T: Clone> Chunked<T> {
    /// Sets an entry. Positions that come to be and were never set hold `unset`.
    pub fn set(&mut self, position: usize, value: T, unset: &T) {
        while self.chunks.len() <= position / CHUNK {
            self.chunks.push(Arc::new(core::array::from_fn(|_| unset.clone())));
        }
        Arc::make_mut(&mut self.chunks[position / CHUNK])[position % CHUNK] = value;
    }
}

impl<T> Index<usize> for Chunked<T> {
    type Output = T;

    #[inline]
    fn index(&self, position: usize) -> &T {
        &self.chunks[position / CHUNK][position % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_keep_what_they_saw_and_share_the_rest() {
        let mut table = Chunked::default();
        (0..600).for_each(|n| table.set(n, n, &usize::MAX));
        let snapshot = table.clone();
        table.set(599, 7, &usize::MAX);
        table.set(5000, 1, &usize::MAX);
        assert_eq!((table[599], snapshot[599]), (7, 599));
        assert_eq!(
            (table.get(4999), table.get(5000), snapshot.get(5000)),
            (Some(&usize::MAX), Some(&1), None)
        );
        assert!(Arc::ptr_eq(&table.chunks[0], &snapshot.chunks[0]));
        assert!(!Arc::ptr_eq(&table.chunks[2], &snapshot.chunks[2]));
        assert_eq!(snapshot.iter().take(600).copied().collect::<Vec<_>>(), (0..600).collect::<Vec<_>>());
    }
}
