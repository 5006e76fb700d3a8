//! The one writer of a forwarding table: insert, remove, and the life of trie nodes.
//!
//! ```text
//!  node:  allocated -> filled -> linked -> unlinked -> retired -> free -> allocated ...
//!                                 ^                       ^         ^
//!                        readers may enter         seal() |         | reclaim(): the caller says
//!                                                                     that all readers moved on
//! ```
//!
//! The writer keeps every prefix in an ordered map beside the trie; the map tells which shorter
//! prefix shows again when one is removed, and whether a node is still needed.
//!
//! Invariants: a node exists exactly when a prefix longer than its depth lies inside it; a leaf
//! holds the longest prefix that covers its slot; retired nodes are not written.

use crate::arena::Allocator;
use crate::entry::{Block, Entry, GroupId};
use crate::table::{Fib, Strides};
use crate::{Address, Prefix, prefix_map};
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use thiserror::Error;

#[cfg(test)]
mod tests;

/// The table's memory limit, or the largest table that child pointers can name, is reached.
/// The table is as it was before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the forwarding table is full: its nodes may take {limit_bytes} bytes")]
pub struct FibFull {
    /// The limit in force.
    pub limit_bytes: usize,
}

/// Why [`FibWriter::load`] stopped. What came before stays in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoadError<A: Address> {
    /// The input is not in strictly ascending order.
    #[error("prefix {0} is out of order: a load takes each prefix once, in ascending order")]
    Order(Prefix<A>),
    /// The table cannot take the rest.
    #[error(transparent)]
    Full(#[from] FibFull),
}

/// All nodes that were retired up to a moment; made by [`FibWriter::seal`].
#[derive(Debug)]
#[must_use = "sealed nodes are reused only after FibWriter::reclaim"]
pub struct Retired {
    /// How many nodes the writer had ever retired.
    up_to: u64,
    /// Address of the table, to tell tables apart.
    table: usize,
}

/// One node, as seen on the way down.
#[derive(Clone, Copy)]
struct Node {
    block: Block,
    /// Bits consumed above.
    depth: u8,
    level: usize,
    stride: u8,
}

impl Node {
    fn root<A: Address>() -> Self {
        Self { block: Block::ROOT, depth: 0, level: 0, stride: Strides::<A>::ROOT }
    }

    fn child<A: Address>(self, block: Block) -> Self {
        let level = self.level + 1;
        Self { block, depth: self.end(), level, stride: Strides::<A>::LEVELS[level] }
    }

    /// Bits consumed including this node.
    fn end(self) -> u8 {
        self.depth + self.stride
    }

    fn size(self) -> usize {
        1 << self.stride
    }

    /// The slots that `prefix` covers; its length must end in this node.
    fn slots<A: Address>(self, prefix: &Prefix<A>) -> Range<usize> {
        let first = prefix.addr().slice(self.depth, self.stride);
        first..first + (1 << (self.end() - prefix.len()))
    }
}

/// The writing side of a forwarding table. There is exactly one per table.
///
/// Changes are seen by readers at once, each address at the single store that concerns it.
pub struct FibWriter<A: Address> {
    fib: Arc<Fib<A>>,
    prefixes: BTreeMap<Prefix<A>, GroupId>,
    allocator: Allocator,
    /// Nodes that readers may still be in, oldest first, with their strides.
    retired: VecDeque<(Block, u8)>,
    /// How many nodes were ever retired, the waiting ones included.
    retired_ever: u64,
}

impl<A: Address> Default for FibWriter<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address> FibWriter<A> {
    /// An empty table, bounded only by what child pointers can name (8 GiB).
    pub fn new() -> Self {
        Self::with_memory_limit(usize::MAX)
    }

    /// An empty table whose nodes take at most `max_bytes`. The root is always there, even if
    /// the limit is lower.
    pub fn with_memory_limit(max_bytes: usize) -> Self {
        Self {
            fib: Arc::new(Fib::new()),
            prefixes: BTreeMap::new(),
            allocator: Allocator::new(Strides::<A>::LEVELS, max_bytes),
            retired: VecDeque::new(),
            retired_ever: 0,
        }
    }

    /// The table, for readers.
    pub fn reader(&self) -> Arc<Fib<A>> {
        Arc::clone(&self.fib)
    }

    /// Puts `prefix` into the table or gives it another group; returns the former group.
    ///
    /// # Errors
    /// [`FibFull`] if nodes are needed and the memory limit is reached. Nothing has changed then.
    pub fn insert(&mut self, prefix: Prefix<A>, group: GroupId) -> Result<Option<GroupId>, FibFull> {
        let node = self.grow_to(&prefix)?;
        self.overwrite(node, node.slots(&prefix), Entry::leaf(prefix.len(), group), &|old| {
            old.prefix_len().is_none_or(|len| len <= prefix.len())
        });
        Ok(self.prefixes.insert(prefix, group))
    }

    /// Takes `prefix` out of the table and returns its group, `None` if it was not there.
    /// Addresses inside fall back to the next shorter prefix in one step.
    pub fn remove(&mut self, prefix: &Prefix<A>) -> Option<GroupId> {
        let group = self.prefixes.remove(prefix)?;
        let cover = prefix_map::covering(&self.prefixes, *prefix)
            .next()
            .map_or(Entry::NONE, |(cover, &group)| Entry::leaf(cover.len(), group));
        let path = self.path(prefix);
        let node = path[path.len() - 1];
        self.overwrite(node, node.slots(prefix), cover, &|old| old.prefix_len() == Some(prefix.len()));
        self.prune(prefix, &path);
        Some(group)
    }

    /// The group that `prefix` itself has.
    pub fn get(&self, prefix: &Prefix<A>) -> Option<GroupId> {
        self.prefixes.get(prefix).copied()
    }

    /// The longest prefix that contains `addr`, with its group.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, GroupId)> {
        prefix_map::covering(&self.prefixes, Prefix::host(addr))
            .next()
            .map(|(&prefix, &group)| (prefix, group))
    }

    /// The number of prefixes.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there are no prefixes.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// All prefixes with their groups, in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Prefix<A>, GroupId)> + '_ {
        self.prefixes.iter().map(|(&prefix, &group)| (prefix, group))
    }

    /// Inserts many prefixes given in strictly ascending order, in one pass.
    ///
    /// The order puts covering prefixes first, so that no slot is searched for longer prefixes
    /// again and again. Prefixes already in the table stay, or get the group given here.
    /// Returns how many were taken.
    ///
    /// # Errors
    /// [`LoadError::Order`] at the first prefix that is not above the one before,
    /// [`LoadError::Full`] at the first that finds no room; all before it are in the table.
    pub fn load(
        &mut self,
        routes: impl IntoIterator<Item = (Prefix<A>, GroupId)>,
    ) -> Result<usize, LoadError<A>> {
        let mut count = 0;
        let mut previous = None;
        for (prefix, group) in routes {
            if previous >= Some(prefix) {
                return Err(LoadError::Order(prefix));
            }
            self.insert(prefix, group)?;
            previous = Some(prefix);
            count += 1;
        }
        Ok(count)
    }

    /// How many unlinked nodes wait for [`reclaim`](FibWriter::reclaim).
    pub fn retired(&self) -> usize {
        self.retired.len()
    }

    /// A token for the nodes that wait at this moment. Take it, wait until every reader has
    /// passed a quiescent point, then hand it to [`reclaim`](FibWriter::reclaim).
    pub fn seal(&mut self) -> Retired {
        Retired { up_to: self.retired_ever, table: self.table() }
    }

    /// Frees the sealed nodes for reuse and returns how many they were.
    ///
    /// By calling this, the caller promises that no lookup which began before the
    /// [`seal`](FibWriter::seal) is still in progress; a lookup that is may yield the group of
    /// another prefix. A token of another table frees nothing.
    pub fn reclaim(&mut self, sealed: Retired) -> usize {
        if sealed.table != self.table() {
            return 0;
        }
        let reclaimed_before = self.retired_ever - self.retired.len() as u64;
        let count = sealed.up_to.saturating_sub(reclaimed_before) as usize;
        for (block, stride) in self.retired.drain(..count) {
            self.allocator.release(block, stride);
        }
        count
    }

    /// Bytes held: nodes, free and retired ones included, and an estimate for the map of
    /// prefixes.
    pub fn memory_bytes(&self) -> usize {
        // A B-tree built in random order fills about 70 % of its nodes.
        let map = self.prefixes.len() * size_of::<(Prefix<A>, GroupId)>() * 10 / 7;
        let retired = self.retired.capacity() * size_of::<(Block, u8)>();
        self.fib.arena.directory_bytes() + self.allocator.bytes() + retired + map
    }

    fn table(&self) -> usize {
        Arc::as_ptr(&self.fib).addr()
    }

    /// The node in which `prefix` ends, made if it is not there, with all nodes above it.
    fn grow_to(&mut self, prefix: &Prefix<A>) -> Result<Node, FibFull> {
        let mut node = Node::root::<A>();
        while prefix.len() > node.end() {
            let arena = &self.fib.arena;
            let index = prefix.addr().slice(node.depth, node.stride);
            let slot = &arena.slots(node.block, node.size())[index];
            let entry = Entry(slot.load(Ordering::Relaxed));
            if entry.is_child() {
                node = node.child::<A>(entry.block());
                continue;
            }
            let stride = Strides::<A>::LEVELS[node.level + 1];
            let Some(block) = self.allocator.allocate(arena, stride) else {
                // Nodes made above in this call hold no prefix: unlink them again.
                self.prune(prefix, &self.path(prefix));
                return Err(FibFull { limit_bytes: self.allocator.max_bytes() });
            };
            for below in arena.slots(block, 1 << stride) {
                below.store(entry.0, Ordering::Relaxed);
            }
            // Release: whoever sees the child sees it filled.
            slot.store(Entry::child(block).0, Ordering::Release);
            node = node.child::<A>(block);
        }
        Ok(node)
    }

    /// The nodes from the root towards `prefix`, down to the one in which it ends, or to the
    /// deepest there is.
    fn path(&self, prefix: &Prefix<A>) -> Vec<Node> {
        let mut path = vec![Node::root::<A>()];
        let mut node = path[0];
        while prefix.len() > node.end() {
            let index = prefix.addr().slice(node.depth, node.stride);
            let entry = self.fib.arena.load(node.block, index);
            if !entry.is_child() {
                break;
            }
            node = node.child::<A>(entry.block());
            path.push(node);
        }
        path
    }

    /// Stores `new` in each leaf of the given slots of `node`, and of all nodes below them,
    /// whose content `replaced` accepts.
    fn overwrite(&self, node: Node, slots: Range<usize>, new: Entry, replaced: &impl Fn(Entry) -> bool) {
        for slot in &self.fib.arena.slots(node.block, node.size())[slots] {
            let old = Entry(slot.load(Ordering::Relaxed));
            if old.is_child() {
                let child = node.child::<A>(old.block());
                self.overwrite(child, 0..child.size(), new, replaced);
            } else if replaced(old) {
                slot.store(new.0, Ordering::Release);
            }
        }
    }

    /// Unlinks and retires those nodes on the `path` to `prefix` that hold no prefix of their own.
    fn prune(&mut self, prefix: &Prefix<A>, path: &[Node]) {
        for pair in path.windows(2).rev() {
            let [parent, node] = [pair[0], pair[1]];
            if prefix_map::has_longer(&self.prefixes, prefix.shortened(node.depth)) {
                break;
            }
            let arena = &self.fib.arena;
            let slots = arena.slots(node.block, node.size());
            let leaf = slots[0].load(Ordering::Relaxed);
            debug_assert!(
                slots.iter().all(|slot| slot.load(Ordering::Relaxed) == leaf),
                "without a longer prefix inside, every slot holds the same leaf"
            );
            let index = prefix.addr().slice(parent.depth, parent.stride);
            arena.slots(parent.block, parent.size())[index].store(leaf, Ordering::Release);
            self.retired.push_back((node.block, node.stride));
            self.retired_ever += 1;
        }
    }
}
