//! The routing information base: every route that every source offers, and which one wins.
//!
//! ```text
//!  10.100.169.128/26   bgp     distance  20  metric 0  via 172.16.20.253   <- best
//!                      kernel  distance 110  metric 9  via 172.16.20.1
//!  10.100.36.103/32    static  distance   1  metric 0  dev cali12          <- best
//! ```
//!
//! One source has at most one candidate per prefix, with all its equal-cost next hops. The best
//! candidate has the lowest distance, then the lowest metric, then the first source in the order
//! of [`RouteSource`]; next hops of different sources are never mixed. What changed since the
//! last time is collected per prefix and handed out by [`Rib::drain_changes`], so that a route
//! which flaps in between costs one change or none.

use crate::{Address, Prefix, prefix_map};
use core::fmt;
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Where a route comes from. The order of the variants breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RouteSource {
    /// The subnet of one of the router's own addresses.
    Connected,
    /// The address of a local workload endpoint.
    Endpoint,
    /// The configuration file.
    Static,
    /// Resource files in a directory.
    Files,
    /// The router's own API.
    Api,
    /// Calico's agent, by the external dataplane protocol.
    Felix,
    /// Calico's datastore.
    Etcd,
    /// The router's own BGP speaker.
    Bgp,
    /// A routing suite, by the forwarding plane manager protocol.
    Fpm,
    /// The kernel's routing table.
    Kernel,
}

impl RouteSource {
    /// The administrative distance of routes that bring none of their own: lower wins.
    ///
    /// Connected 0, static 1 and BGP 20 follow the custom of routers. A BGP speaker that tells
    /// internal from external peers gives 200 to internal routes itself, and sources that relay
    /// routes of several protocols (FPM, the kernel) pass on what they were told.
    pub const fn default_distance(self) -> u8 {
        match self {
            Self::Connected | Self::Endpoint => 0,
            Self::Static => 1,
            Self::Files | Self::Api => 5,
            Self::Felix | Self::Etcd => 10,
            Self::Bgp => 20,
            Self::Fpm => 110,
            Self::Kernel => 115,
        }
    }

    /// The name in configuration and displays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Endpoint => "endpoint",
            Self::Static => "static",
            Self::Files => "files",
            Self::Api => "api",
            Self::Felix => "felix",
            Self::Etcd => "etcd",
            Self::Bgp => "bgp",
            Self::Fpm => "fpm",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What one source offers for one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<N> {
    /// Who offers it.
    pub source: RouteSource,
    /// Administrative distance: lower wins, [`Candidate::UNUSABLE`] never does.
    pub distance: u8,
    /// The source's own measure, compared only at equal distance: lower wins.
    pub metric: u32,
    /// The next hops, all of equal cost; never empty. Their order and repetitions are the
    /// source's, and a change of either is a change of the route.
    pub next_hops: Vec<N>,
}

/// The candidate that won.
pub type Route<N> = Candidate<N>;

impl<N> Candidate<N> {
    /// The distance of candidates that are kept and shown but never used.
    pub const UNUSABLE: u8 = u8::MAX;

    /// A candidate with its source's default distance and metric 0.
    pub fn new(source: RouteSource, next_hops: Vec<N>) -> Self {
        Self { source, distance: source.default_distance(), metric: 0, next_hops }
    }

    /// What decides between candidates of one prefix: the least wins.
    fn rank(&self) -> (u8, u32, RouteSource) {
        (self.distance, self.metric, self.source)
    }
}

/// A candidate was announced without next hops. To discard packets, announce the kind of next
/// hop that does so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a {source_name} route needs at least one next hop", source_name = .0.name())]
pub struct NoNextHops(pub RouteSource);

/// A prefix whose best route is not what it was at the last [`Rib::drain_changes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<A, N> {
    /// The prefix.
    pub prefix: Prefix<A>,
    /// What the FIB must hold from now on, or `None` if the prefix must go.
    pub best: Option<Route<N>>,
}

/// A candidate and the round of its source in which it was last announced.
struct Held<N> {
    candidate: Candidate<N>,
    round: u64,
}

/// A source's resynchronisations.
#[derive(Clone, Copy, Default)]
struct Resync {
    round: u64,
    open: bool,
}

/// All candidates of all prefixes of one family. `N` is a next hop as control understands it.
pub struct Rib<A, N> {
    /// Never empty per prefix; best first.
    prefixes: BTreeMap<Prefix<A>, Vec<Held<N>>>,
    resyncs: HashMap<RouteSource, Resync>,
    /// Prefixes touched since the last drain, with the best route of that time.
    touched: BTreeMap<Prefix<A>, Option<Route<N>>>,
}

impl<A: Address, N: Clone + Eq> Default for Rib<A, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: Address, N: Clone + Eq> Rib<A, N> {
    /// An empty base.
    pub fn new() -> Self {
        Self { prefixes: BTreeMap::new(), resyncs: HashMap::new(), touched: BTreeMap::new() }
    }

    /// Takes `candidate` as what its source now offers for `prefix`, in place of what it
    /// offered before; returns what that was.
    ///
    /// # Errors
    /// [`NoNextHops`] if there are none. Nothing has changed then.
    pub fn announce(
        &mut self,
        prefix: Prefix<A>,
        candidate: Candidate<N>,
    ) -> Result<Option<Candidate<N>>, NoNextHops> {
        if candidate.next_hops.is_empty() {
            return Err(NoNextHops(candidate.source));
        }
        self.touch(&prefix);
        let round = self.resync(candidate.source).round;
        let held = self.prefixes.entry(prefix).or_default();
        let former = take(held, candidate.source);
        let at = held.partition_point(|other| other.candidate.rank() < candidate.rank());
        held.insert(at, Held { candidate, round });
        Ok(former)
    }

    /// Takes back what `source` offers for `prefix`; returns what that was.
    pub fn withdraw(&mut self, prefix: &Prefix<A>, source: RouteSource) -> Option<Candidate<N>> {
        let held = self.prefixes.get(prefix)?;
        held.iter().find(|held| held.candidate.source == source)?;
        self.touch(prefix);
        let held = self.prefixes.get_mut(prefix)?;
        let former = take(held, source);
        if held.is_empty() {
            self.prefixes.remove(prefix);
        }
        former
    }

    /// The candidate in use for exactly this prefix.
    pub fn best(&self, prefix: &Prefix<A>) -> Option<&Route<N>> {
        usable(self.prefixes.get(prefix)?)
    }

    /// All candidates of exactly this prefix, the best first.
    pub fn candidates(&self, prefix: &Prefix<A>) -> impl Iterator<Item = &Candidate<N>> {
        let held = self.prefixes.get(prefix).map_or(&[][..], Vec::as_slice);
        held.iter().map(|held| &held.candidate)
    }

    /// All candidates of all prefixes: prefixes in ascending order, the best candidate first.
    pub fn iter(&self) -> impl Iterator<Item = (Prefix<A>, &Candidate<N>)> {
        self.prefixes
            .iter()
            .flat_map(|(&prefix, held)| held.iter().map(move |held| (prefix, &held.candidate)))
    }

    /// The route in use for `addr`: the best of the longest prefix that has a usable candidate.
    pub fn longest_match(&self, addr: A) -> Option<(Prefix<A>, &Route<N>)> {
        prefix_map::covering(&self.prefixes, Prefix::host(addr))
            .find_map(|(&prefix, held)| Some((prefix, usable(held)?)))
    }

    /// The number of prefixes with at least one candidate.
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there is no candidate at all.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// `source` is about to announce all it has. What it announced before stays in force until
    /// [`end_resync`](Rib::end_resync). Beginning again starts over: only what is announced
    /// after the latest beginning counts as named.
    pub fn begin_resync(&mut self, source: RouteSource) {
        let resync = self.resyncs.entry(source).or_default();
        resync.round += 1;
        resync.open = true;
    }

    /// `source` has announced all it has: what it did not name since
    /// [`begin_resync`](Rib::begin_resync) is withdrawn. Returns how many candidates that were;
    /// none if no resynchronisation is open, since sources may also mark the end of a first
    /// announcement that nothing preceded.
    pub fn end_resync(&mut self, source: RouteSource) -> usize {
        let Resync { round, open } = self.resync(source);
        if !open {
            return 0;
        }
        self.resyncs.insert(source, Resync { round, open: false });
        let is_stale = |held: &Held<N>| held.candidate.source == source && held.round != round;
        let stale: Vec<Prefix<A>> = self
            .prefixes
            .iter()
            .filter(|(_, held)| held.iter().any(is_stale))
            .map(|(&prefix, _)| prefix)
            .collect();
        for prefix in &stale {
            self.withdraw(prefix, source);
        }
        stale.len()
    }

    /// Whether `source` is between [`begin_resync`](Rib::begin_resync) and
    /// [`end_resync`](Rib::end_resync).
    pub fn is_resyncing(&self, source: RouteSource) -> bool {
        self.resync(source).open
    }

    /// What the FIB must be told since the last call: each prefix once, with its present best
    /// route, and only if that differs from what the FIB was told before.
    ///
    /// Routes to set come first and prefixes to remove last, each in ascending order. Applied in
    /// this order, no address loses its last route while another is about to take over.
    pub fn drain_changes(&mut self) -> Vec<Change<A, N>> {
        let mut changes = Vec::new();
        let mut removals = Vec::new();
        for (prefix, told) in core::mem::take(&mut self.touched) {
            let best = self.best(&prefix);
            if best == told.as_ref() {
                continue;
            }
            let best = best.cloned();
            let list = if best.is_some() { &mut changes } else { &mut removals };
            list.push(Change { prefix, best });
        }
        changes.append(&mut removals);
        changes
    }

    /// Notes the best route of `prefix` before its first change since the last drain.
    fn touch(&mut self, prefix: &Prefix<A>) {
        if !self.touched.contains_key(prefix) {
            self.touched.insert(*prefix, self.best(prefix).cloned());
        }
    }

    fn resync(&self, source: RouteSource) -> Resync {
        self.resyncs.get(&source).copied().unwrap_or_default()
    }
}

/// Removes the candidate of `source`.
fn take<N>(held: &mut Vec<Held<N>>, source: RouteSource) -> Option<Candidate<N>> {
    let at = held.iter().position(|held| held.candidate.source == source)?;
    Some(held.remove(at).candidate)
}

/// The best candidate, unless even that one is unusable.
fn usable<N>(held: &[Held<N>]) -> Option<&Candidate<N>> {
    held.first()
        .map(|held| &held.candidate)
        .filter(|candidate| candidate.distance != Candidate::<N>::UNUSABLE)
}
