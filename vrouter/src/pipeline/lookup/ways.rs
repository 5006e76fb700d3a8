//! Ways that packets took lately, by the lowest bits of their groups.
//!
//! ```text
//!   group 35 --> place 35 mod 32 = 3    the way of group 35, or of another of that place, or none
//! ```
//!
//! To find a way again takes a comparison; to resolve it takes three reads in as many tables. What is kept
//! depends on the tables, on the neighbours' addresses and on nobody waiting for one, so it lasts while
//! those stay as they are.

use fib::NO_ROUTE;

use super::Way;
use crate::pipeline::hold::HoldQueue;
use crate::tables::Tables;

/// Places.
const KEPT: usize = 32;
/// A group that there cannot be.
const NOBODY: u32 = NO_ROUTE - 1;

/// Ways that were resolved and have not changed since.
#[derive(Debug)]
pub struct Ways {
    /// Whose way lies in each place.
    groups: [u32; KEPT],
    ways: [Way; KEPT],
    /// The neighbours' version by which they were resolved.
    version: u64,
}

impl Ways {
    /// Drops what the neighbours have outdated by now. Other tables are for the worker to tell of:
    /// [`forget`](Ways::forget).
    #[inline]
    pub(super) fn begin(&mut self, tables: &Tables, hold: &HoldQueue) {
        let version = tables.neighbors.version();
        if self.version != version || !hold.is_empty() {
            self.forget();
            self.version = version;
        }
    }

    /// Drops all of them: the tables have changed.
    pub fn forget(&mut self) {
        self.groups = [NOBODY; KEPT];
    }

    /// The way of a group.
    #[inline(always)]
    pub(super) fn get(&self, group: u32) -> Option<&Way> {
        let place = group as usize % KEPT;
        if self.groups[place] == group { Some(&self.ways[place]) } else { None }
    }

    /// Keeps the way of all packets of its group.
    #[inline(always)]
    pub(super) fn keep(&mut self, way: Way) {
        let place = way.group as usize % KEPT;
        self.groups[place] = way.group;
        self.ways[place] = way;
    }
}

impl Default for Ways {
    fn default() -> Self {
        Ways { groups: [NOBODY; KEPT], ways: [Way::NONE; KEPT], version: 0 }
    }
}
