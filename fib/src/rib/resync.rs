//! A source announces all it has anew: what it no longer names goes, but not before its time.
//!
//! ```text
//!  begin ---- announce, announce, ... ---- end          what was not named is swept here
//!  begin ---- announce ... (silence) ----- deadline     or here, where the source never ends
//! ```
//!
//! This is how a restart of a routing daemon or of a BGP peer passes without a gap (graceful
//! restart, RFC 4724 section 4.2): its routes stay in force as *stale* ones until they are
//! announced again, the source says that it is done (End-of-RIB), or its time is over.
//!
//! Every candidate carries the round of its source in which it was last announced; a beginning
//! starts the next round, and candidates of former rounds are stale.

use super::{Rib, RouteSource};
use crate::Address;
use core::hash::Hash;
use core::time::Duration;

/// The round of a source in which a candidate was last announced.
pub(super) type Round = u16;

/// A source's resynchronisations.
#[derive(Clone, Copy, Default)]
pub(super) struct Resync {
    pub(super) round: Round,
    open: bool,
    /// When the source's time is over, since the caller's origin of time.
    deadline: Option<Duration>,
}

impl<A: Address, N: Clone + Eq + Hash> Rib<A, N> {
    /// `source` is about to announce all it has. What it announced before stays in force until
    /// [`end_resync`](Rib::end_resync). Beginning again starts over: only what is announced
    /// after the latest beginning counts as named, and a deadline of before is void.
    pub fn begin_resync(&mut self, source: RouteSource) {
        self.begin(source, None);
    }

    /// As [`begin_resync`](Rib::begin_resync), with an end of patience: if the source has not
    /// ended its announcement by `deadline`, [`expire`](Rib::expire) sweeps what is stale then.
    /// To be called when a peer that keeps its forwarding state is lost; `deadline` is now plus
    /// the restart time that it promised. Times count from an origin of the caller's choice.
    pub fn begin_resync_until(&mut self, source: RouteSource, deadline: Duration) {
        self.begin(source, Some(deadline));
    }

    fn begin(&mut self, source: RouteSource, deadline: Option<Duration>) {
        if self.resyncs[source as usize].round == Round::MAX {
            self.restart_rounds(source);
        }
        let resync = &mut self.resyncs[source as usize];
        resync.round += 1;
        resync.open = true;
        resync.deadline = deadline;
    }

    /// Makes room for further rounds: all that the source announced is as old as can be.
    fn restart_rounds(&mut self, source: RouteSource) {
        self.resyncs[source as usize].round = 0;
        self.for_each_held(|held| {
            if held.source == source {
                held.round = 0;
            }
        });
    }

    /// `source` has announced all it has: what it did not name since
    /// [`begin_resync`](Rib::begin_resync) is withdrawn. Returns how many candidates that were;
    /// none if no resynchronisation is open, since sources may also mark the end of a first
    /// announcement that nothing preceded.
    pub fn end_resync(&mut self, source: RouteSource) -> usize {
        let resync = &mut self.resyncs[source as usize];
        if !resync.open {
            return 0;
        }
        resync.open = false;
        resync.deadline = None;
        let round = resync.round;
        self.sweep(source, round)
    }

    /// Ends the resynchronisations whose deadline is not after `now`. Returns how many
    /// candidates were withdrawn.
    pub fn expire(&mut self, now: Duration) -> usize {
        let due = |resync: &Resync| resync.deadline.is_some_and(|deadline| deadline <= now);
        let mut swept = 0;
        for source in RouteSource::ALL {
            if due(&self.resyncs[source as usize]) {
                swept += self.end_resync(source);
            }
        }
        swept
    }

    /// When [`expire`](Rib::expire) has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.resyncs.iter().filter_map(|resync| resync.deadline).min()
    }

    /// Whether `source` is between [`begin_resync`](Rib::begin_resync) and
    /// [`end_resync`](Rib::end_resync).
    pub fn is_resyncing(&self, source: RouteSource) -> bool {
        self.resyncs[source as usize].open
    }
}
