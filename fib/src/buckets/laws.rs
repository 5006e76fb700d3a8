//! Shares follow the weights, and nothing moves that need not.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

type Members = BTreeMap<u8, u64>;

fn list(members: &Members) -> Vec<(u8, u64)> {
    members.iter().map(|(member, weight)| (*member, *weight)).collect()
}

fn counts(buckets: &Buckets<u8>) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    buckets.table().iter().for_each(|member| *counts.entry(*member).or_default() += 1);
    counts
}

/// Every member has its share, within a bucket too few and two too many.
fn shares_are_right(buckets: &Buckets<u8>, members: &Members) -> Result<(), TestCaseError> {
    let counts = counts(buckets);
    let (all, n) = (buckets.len() as f64, members.len() as f64);
    prop_assert!(buckets.len().is_power_of_two());
    prop_assert_eq!(counts.keys().collect::<Vec<_>>(), members.keys().collect::<Vec<_>>());
    let sum: u64 = members.values().sum();
    for (member, weight) in members {
        let share = 1.0 + (all - n) * *weight as f64 / sum as f64;
        let off = counts[member] as f64 - share;
        prop_assert!(off > -1.0001 && off < 2.0001, "{off} of {share}: {counts:?} for {members:?}");
    }
    Ok(())
}

/// The member of a flow, as packets find it.
fn pick(buckets: &Buckets<u8>, hash: u32) -> u8 {
    buckets.table()[((u64::from(hash) * buckets.len() as u64) >> 32) as usize]
}

/// The members of flows spread evenly over all hashes.
fn flows(buckets: &Buckets<u8>) -> Vec<u8> {
    (0..=u32::MAX).step_by(1 << 18).map(|hash| pick(buckets, hash)).collect()
}

fn made(members: &Members) -> Buckets<u8> {
    let mut buckets = Buckets::new(*members.keys().next().unwrap());
    buckets.update(&list(members));
    buckets
}

fn members(largest: u64) -> impl Strategy<Value = Members> {
    btree_map(0..24u8, 1..=largest, 1..16)
}

proptest! {
    #[test]
    fn shares_follow_the_weights(members in members(100_000)) {
        shares_are_right(&made(&members), &members)?;
    }

    #[test]
    fn the_same_members_again_change_nothing(members in members(50)) {
        let mut buckets = made(&members);
        let before = flows(&buckets);
        prop_assert_eq!(buckets.update(&list(&members)), 0);
        prop_assert_eq!(flows(&buckets), before);
    }

    #[test]
    fn removal_moves_only_flows_of_the_removed(members in members(50), removed in vec(any::<prop::sample::Index>(), 1..4)) {
        let mut buckets = made(&members);
        let before = flows(&buckets);
        let gone: BTreeSet<u8> =
            removed.iter().map(|index| *index.get(&list(&members))).map(|(member, _)| member).collect();
        let mut rest = members.clone();
        rest.retain(|member, _| !gone.contains(member));
        prop_assume!(!rest.is_empty());
        buckets.update(&list(&rest));
        for (was, is) in before.into_iter().zip(flows(&buckets)) {
            prop_assert!(was == is || gone.contains(&was));
        }
        shares_are_right(&buckets, &rest)?;
    }

    #[test]
    fn addition_moves_flows_only_to_the_added(members in btree_map(0..24u8, Just(1u64), 1..16), added in 24..30u8) {
        let mut buckets = made(&members);
        let before = flows(&buckets);
        let mut more = members.clone();
        more.insert(added, 1);
        buckets.update(&list(&more));
        for (was, is) in before.into_iter().zip(flows(&buckets)) {
            prop_assert!(was == is || is == added);
        }
        shares_are_right(&buckets, &more)?;
    }

    #[test]
    fn any_series_of_changes_leaves_right_shares(series in vec(members(1000), 1..12)) {
        let mut buckets = made(&series[0]);
        for members in &series {
            let before = flows(&buckets);
            buckets.update(&list(members));
            shares_are_right(&buckets, members)?;
            // No flow leaves a member for nothing: as many moved as some members now have less.
            let after = flows(&buckets);
            let moved = before.iter().zip(&after).filter(|(was, is)| was != is).count();
            let count = |flows: &[u8], member: u8| flows.iter().filter(|of| **of == member).count();
            let less: usize =
                (0..24).map(|member| count(&before, member).saturating_sub(count(&after, member))).sum();
            prop_assert_eq!(moved, less);
        }
    }
}

#[test]
fn one_member_needs_one_bucket() {
    let mut buckets = Buckets::new(7);
    assert_eq!(buckets.update(&[(7, 9)]), 0);
    assert_eq!(buckets.table(), [7]);
    assert_eq!(buckets.update(&[]), 0, "without members the last one stays");
    buckets.update(&[(7, 1), (8, 1)]);
    assert_eq!(buckets.len(), 32);
    buckets.update(&[(8, 1)]);
    assert_eq!(buckets.table(), [8]);
}

#[test]
fn weights_of_one_member_add_up_and_zero_is_none() {
    let mut buckets = Buckets::new(1);
    buckets.update(&[(1, 1), (2, 3), (1, 2), (3, 0)]);
    let counts = counts(&buckets);
    assert_eq!((counts[&1], counts[&2], counts.get(&3)), (16, 16, None));
}
