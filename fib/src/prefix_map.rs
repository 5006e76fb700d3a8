//! Questions about covering and covered prefixes, answered by an ordered map.
//!
//! The order of [`Prefix`] (address, then length) makes both questions cheap: what a prefix
//! covers follows it without a gap, and what covers it is found by stepping backwards, each step
//! shortening the prefix by at least one bit.

use crate::{Address, Prefix};
use std::collections::BTreeMap;

/// The entries whose prefix covers `prefix`, itself included, from the longest to the shortest.
pub(crate) fn covering<A: Address, V>(
    map: &BTreeMap<Prefix<A>, V>,
    prefix: Prefix<A>,
) -> impl Iterator<Item = (&Prefix<A>, &V)> {
    let mut bound = Some(prefix);
    core::iter::from_fn(move || {
        loop {
            let upper = bound?;
            let (found, value) = map.range(..=upper).next_back()?;
            if found.covers(&upper) {
                // Everything shorter that covers `upper` covers `found` too.
                bound = found.len().checked_sub(1).map(|len| found.shortened(len));
                return Some((found, value));
            }
            // `found` is the nearest below: what covers `upper` covers `found` as well, so it
            // is no longer than the bits that both share.
            bound = Some(upper.shortened(upper.addr().common_len(found.addr())));
        }
    })
}

/// Whether the map holds a prefix longer than `prefix` inside `prefix`.
pub(crate) fn has_longer<A: Address, V>(map: &BTreeMap<Prefix<A>, V>, prefix: Prefix<A>) -> bool {
    use core::ops::Bound::{Excluded, Included};
    map.range((Excluded(prefix), Included(Prefix::host(prefix.last()))))
        .next()
        .is_some()
}
