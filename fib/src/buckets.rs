//! Weighted multipath that moves no more flows than it must (resilient hashing).
//!
//! ```text
//!  flow hash  0xb6...  -> its highest bits 101 -> bucket 5 -> member b
//!
//!  bucket     0  1  2  3  4  5  6  7
//!  before     a  a  a  b  b  b  c  c     three members of weight 1
//!  without a  b  c  b  b  b  b  c  c     the buckets of a go to those that lack most
//!  with d     d  c  d  b  b  b  c  c     d takes from those that have most above their share
//! ```
//!
//! A table of buckets, a power of two of them, stands between flows and members: a packet costs
//! one load from it, and a change of the members changes the buckets that it must and leaves
//! every other flow where it is. (Hashing modulo the number of members moves nearly all flows;
//! RFC 2992 discusses hash-threshold, RFC 7690 what moved flows break.)
//!
//! **Shares.** Of `B` buckets and `n` members, a member of weight `w` out of `W` should have
//! `1 + (B - n) w / W`: its weight's share, and always a bucket. It has less than one bucket
//! too few and less than two too many. Tables have at least 16 buckets for the smallest weight
//! (up to a limit), so that the error is small. Growing doubles every bucket in place, which moves no flow.
//!
//! **Laws** (each a property test): removing members moves their buckets alone; a new member
//! takes buckets and nothing else moves; equal input is a change of nothing.

use core::hash::Hash;
use std::collections::HashMap;

#[cfg(test)]
mod laws;

/// Buckets that the member of the smallest weight should have.
const SMALLEST_SHARE: u64 = 16;
/// Tables are not made larger than this for the sake of small weights.
const LARGEST_FOR_WEIGHTS: u64 = 4096;
/// Buckets for each member, whatever the weights.
const LEAST_PER_MEMBER: u64 = 4;

/// The buckets of one next-hop group. `M` is a member as packets need it.
#[derive(Clone, Debug)]
pub struct Buckets<M> {
    table: Vec<M>,
}

/// A member while buckets are dealt out.
struct Dealing<M> {
    member: M,
    weight: i128,
    has: i128,
}

impl<M> Dealing<M> {
    /// How many buckets the member has above its share, times the sum of weights.
    fn excess(&self, buckets: i128, members: i128, sum: i128) -> i128 {
        (self.has - 1) * sum - (buckets - members) * self.weight
    }
}

impl<M: Copy + Eq + Hash> Buckets<M> {
    /// All flows to one member.
    pub fn new(member: M) -> Self {
        Self { table: vec![member] }
    }

    /// Spreads flows over `members`, each with its weight: weights count only against each
    /// other, a member that occurs twice has both weights, one of weight 0 is none. Returns how
    /// many buckets changed, of [`len`](Buckets::len) in all; where there are no members at
    /// all, nothing changes.
    pub fn update(&mut self, members: &[(M, u64)]) -> usize {
        let mut dealt: Vec<Dealing<M>> = Vec::with_capacity(members.len());
        let mut known: HashMap<M, usize> = HashMap::with_capacity(members.len());
        for &(member, weight) in members.iter().filter(|(_, weight)| *weight > 0) {
            let at = *known.entry(member).or_insert(dealt.len());
            match dealt.get_mut(at) {
                Some(dealing) => dealing.weight += i128::from(weight),
                None => dealt.push(Dealing { member, weight: weight.into(), has: 0 }),
            }
        }
        if dealt.is_empty() {
            return 0;
        }
        self.grow(Self::size(&dealt));
        // Every bucket by the member that it is of; those whose member is gone are free.
        let mut of: Vec<Vec<usize>> = vec![Vec::new(); dealt.len()];
        let mut free = Vec::new();
        for (bucket, member) in self.table.iter().enumerate() {
            match known.get(member) {
                Some(&at) => of[at].push(bucket),
                None => free.push(bucket),
            }
        }
        for (dealing, of) in dealt.iter_mut().zip(&of) {
            dealing.has = of.len() as i128;
        }
        let moved = self.deal(&mut dealt, &mut of, free);
        if dealt.len() == 1 {
            self.table.truncate(1);
        }
        moved
    }

    /// Deals out the free buckets, then levels what is too far from its share.
    fn deal(&mut self, dealt: &mut [Dealing<M>], of: &mut [Vec<usize>], mut free: Vec<usize>) -> usize {
        let (buckets, members) = (self.table.len() as i128, dealt.len() as i128);
        let sum: i128 = dealt.iter().map(|dealing| dealing.weight).sum();
        let mut moved = 0;
        loop {
            let by_excess = |(_, dealing): &(usize, &Dealing<M>)| dealing.excess(buckets, members, sum);
            let Some((to, least)) = dealt.iter().enumerate().min_by_key(by_excess) else { break };
            let Some((from, most)) = dealt.iter().enumerate().max_by_key(by_excess) else { break };
            let [least, most] = [least, most].map(|dealing| dealing.excess(buckets, members, sum));
            let bucket = match free.pop() {
                Some(bucket) => bucket,
                None if least <= -sum || most >= 2 * sum => {
                    dealt[from].has -= 1;
                    match of[from].pop() {
                        Some(bucket) => bucket,
                        None => break,
                    }
                }
                None => break,
            };
            self.table[bucket] = dealt[to].member;
            dealt[to].has += 1;
            of[to].push(bucket);
            moved += 1;
        }
        moved
    }

    /// How many buckets these members need.
    fn size(dealt: &[Dealing<M>]) -> usize {
        if dealt.len() == 1 {
            return 1;
        }
        let sum: i128 = dealt.iter().map(|dealing| dealing.weight).sum();
        let smallest = dealt.iter().map(|dealing| dealing.weight).min().unwrap_or(1);
        let for_weights = u64::try_from(sum / smallest).unwrap_or(u64::MAX).saturating_mul(SMALLEST_SHARE);
        let at_least = LEAST_PER_MEMBER * dealt.len() as u64;
        for_weights.min(LARGEST_FOR_WEIGHTS).max(at_least).next_power_of_two() as usize
    }

    /// Doubles until there are `size` buckets. A flow's highest hash bits choose its bucket, so
    /// the two halves of a bucket lie side by side.
    fn grow(&mut self, size: usize) {
        while self.table.len() < size {
            self.table = self.table.iter().flat_map(|member| [*member; 2]).collect();
        }
    }

    /// The member of each bucket; a power of two of them. A flow whose 32-bit hash is `h` is in
    /// bucket `h * len >> 32`.
    pub fn table(&self) -> &[M] {
        &self.table
    }

    /// The number of buckets.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.table.len()
    }
}
