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

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn map(texts: &[&str]) -> BTreeMap<Prefix<Ipv4Addr>, ()> {
        texts.iter().map(|text| (text.parse().unwrap(), ())).collect()
    }

    fn covering_texts(map: &BTreeMap<Prefix<Ipv4Addr>, ()>, text: &str) -> Vec<String> {
        covering(map, text.parse().unwrap()).map(|(prefix, ())| prefix.to_string()).collect()
    }

    #[test]
    fn covering_prefixes_come_longest_first_and_without_gaps() {
        let map = map(&[
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/9",
            "10.0.0.0/30",
            "10.0.0.0/31",
            "10.0.0.1/32",
            "10.0.0.2/32",
            "10.64.0.0/10",
            "11.0.0.0/8",
        ]);
        assert_eq!(
            covering_texts(&map, "10.0.0.1/32"),
            ["10.0.0.1/32", "10.0.0.0/31", "10.0.0.0/30", "10.0.0.0/9", "10.0.0.0/8", "0.0.0.0/0"]
        );
        // Past neighbours that sort between a prefix and what covers it.
        assert_eq!(
            covering_texts(&map, "10.0.0.3/32"),
            ["10.0.0.0/30", "10.0.0.0/9", "10.0.0.0/8", "0.0.0.0/0"]
        );
        assert_eq!(covering_texts(&map, "10.128.0.0/9"), ["10.0.0.0/8", "0.0.0.0/0"]);
        assert_eq!(covering_texts(&map, "9.0.0.0/8"), ["0.0.0.0/0"]);
    }

    #[test]
    fn nothing_covers_where_only_neighbours_are() {
        let map = map(&["10.0.0.0/24", "10.0.2.0/24"]);
        assert!(covering_texts(&map, "10.0.1.0/24").is_empty());
        assert!(covering_texts(&map, "10.0.2.0/23").is_empty());
        assert!(covering_texts(&map, "0.0.0.0/0").is_empty());
    }
}
