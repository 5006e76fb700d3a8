//! The states of a neighbour and what moves it between them.
//!
//! One machine serves both families: ARP frames are translated into the inputs of
//! neighbour discovery (see `arp`).
//!
//! ```text
//!        asked for            answer
//!   (none) ------> INCOMPLETE ---------------> REACHABLE <---------------+
//!                   |  ^  |                     | 30 s ^                 |
//!      three        |  |  | heard in passing    v      |                 |
//!      questions    |  |  +-------------------> STALE  | confirmed       | answer
//!      unanswered   |  |                        |wanted|                 |
//!                   |  |                        v      |                 |
//!                   |  |                       DELAY --+                 |
//!                   |  |                        | 5 s                    |
//!                   v  |                        v                        |
//!             FAILED   +--------------------- PROBE ---------------------+
//!                |       three questions unanswered
//!                +--> after 3 s INCOMPLETE if a route needs it, else (none)
//!
//!   any state with a MAC: an announced new MAC leads to STALE; not wanted: (none) in the end
//! ```
//!
//! | state | the MAC is | timer | asks |
//! |---|---|---|---|
//! | INCOMPLETE | unknown, or in doubt after PROBE | 1 s between questions | all stations, 3 times |
//! | REACHABLE | known good | 15 to 45 s | |
//! | STALE | usable; nobody wants the neighbour | until forgotten | |
//! | DELAY | usable; upper layers may still vouch for it | 5 s | |
//! | PROBE | usable, being checked | 1 s between questions | the neighbour, 3 times |
//! | FAILED | absent, as the last questions showed | 3 s | |
//!
//! Sources: RFC 4861 §7.3.2 (states), §7.2.5 (advertisements), §7.2.3 and appendix C
//! (solicitations). Where the appendix and §7.2.5 disagree, §7.2.5 is followed. Two
//! deliberate differences:
//!
//! - After PROBE a wanted neighbour is asked for by multicast before it counts as
//!   lost, and its old MAC stays in use meanwhile (RFC 7048 §3): a neighbour that
//!   moved without announcing it is found again.
//! - RFC 4861 discards an entry nobody answers for. FAILED keeps the fact for a
//!   moment, so that traffic to an absent address does not ask without end.

use std::fmt;

/// The state of a neighbour (RFC 4861 §7.3.2, and `Failed`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum State {
    /// All stations are being asked.
    Incomplete,
    /// The MAC address is known to be right.
    Reachable,
    /// The MAC address was right once.
    Stale,
    /// As `Stale`; a probe follows unless the upper layers confirm.
    Delay,
    /// The neighbour itself is being asked.
    Probe,
    /// Nobody answered.
    Failed,
}

impl State {
    /// All states.
    pub const ALL: [State; 6] =
        [State::Incomplete, State::Reachable, State::Stale, State::Delay, State::Probe, State::Failed];

    /// The MAC address may be used in this state.
    pub const fn is_usable(self) -> bool {
        !matches!(self, State::Incomplete | State::Failed)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Incomplete => "INCOMPLETE",
            State::Reachable => "REACHABLE",
            State::Stale => "STALE",
            State::Delay => "DELAY",
            State::Probe => "PROBE",
            State::Failed => "FAILED",
        })
    }
}

/// Who wants a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    Nobody,
    /// Traffic asked for it lately.
    Traffic,
    /// It is the next hop of a route.
    Route,
}

/// The MAC address in a message, compared with the cached one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    /// The message has none.
    Absent,
    Same,
    /// Another one, or the first.
    Different,
}

/// What can happen to a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// Packets are about to be sent to it.
    Use,
    /// An upper layer knows that it receives our packets (RFC 4861 §7.3.1).
    Confirm,
    /// The state's timer ran out; `left`: questions remain to be asked.
    Timeout { left: bool, demand: Demand },
    /// It was advertised (NA; ARP reply to us).
    Advert { offer: Offer, solicited: bool, override_: bool },
    /// It named its MAC address in passing (NS, RS, RA; any other ARP).
    Claim(Offer),
}

/// What an input leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Nothing changes, the timer runs on.
    Stay,
    /// Enter the state, also when it is the same: starts its timer, asks if it is one
    /// that asks.
    Enter(State),
    /// Take the offered MAC address, then as `Enter`.
    Learn(State),
    /// The entry goes.
    Forget,
}

/// The transition function: all of the protocol's decisions.
pub(super) fn next(state: State, input: Input) -> Next {
    use Demand::{Nobody, Route, Traffic};
    use Input::{Advert, Claim, Confirm, Timeout, Use};
    use Next::{Enter, Forget, Learn, Stay};
    use Offer::{Absent, Different, Same};
    use State::{Delay, Failed, Incomplete, Probe, Reachable, Stale};

    match (state, input) {
        (Stale, Use) => Enter(Delay),
        (_, Use) => Stay,

        (Incomplete | Failed, Confirm) => Stay,
        (_, Confirm) => Enter(Reachable),

        (Reachable, Timeout { .. }) => Enter(Stale),
        (Stale, Timeout { demand, .. }) => match demand {
            Nobody => Forget,
            Traffic | Route => Enter(Delay),
        },
        (Delay, Timeout { demand, .. }) => match demand {
            Nobody => Enter(Stale),
            Traffic | Route => Enter(Probe),
        },
        (_, Timeout { demand: Nobody, .. }) => Forget,
        (Incomplete, Timeout { left: true, .. }) => Enter(Incomplete),
        (Incomplete, Timeout { left: false, .. }) => Enter(Failed),
        (Probe, Timeout { left: true, .. }) => Enter(Probe),
        (Probe, Timeout { left: false, .. }) => Enter(Incomplete),
        (Failed, Timeout { demand, .. }) => match demand {
            Route => Enter(Incomplete),
            Nobody | Traffic => Forget,
        },

        // No MAC known: whatever comes is better than nothing.
        (Incomplete | Failed, Advert { offer: Absent, .. } | Claim(Absent)) => Stay,
        (Incomplete | Failed, Advert { solicited: true, .. }) => Learn(Reachable),
        (Incomplete | Failed, Advert { .. } | Claim(_)) => Learn(Stale),

        // §7.2.5 case I: not allowed to replace, but enough for doubt.
        (Reachable, Advert { offer: Different, override_: false, .. }) => Enter(Stale),
        (_, Advert { offer: Different, override_: false, .. }) => Stay,
        // §7.2.5 case II.
        (_, Advert { offer: Different, solicited, .. }) => Learn(if solicited { Reachable } else { Stale }),
        (_, Advert { solicited: true, .. }) => Enter(Reachable),
        (_, Advert { solicited: false, .. }) => Stay,

        (_, Claim(Different)) => Learn(Stale),
        (_, Claim(Same | Absent)) => Stay,
    }
}

#[cfg(test)]
mod tests;
