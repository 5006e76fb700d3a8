//! The router's own ARP and neighbour discovery, for ports that the kernel has no part
//! in (exclusive uplinks).
//!
//! ```text
//!   packet path: no MAC yet          routes: next hops         received ARP, ND
//!            | resolve                      | keep                    | handle_frame
//!            v                              v                         v
//!   +--------------------------- Cache (one a port) --------------------------------+
//!   |  address -> state, MAC         state::next: the transitions, for both families |
//!   |  own addresses                 arp | ndisc: frames <-> what they mean          |
//!   |  timers                                                                        |
//!   +-------------------------------------------------------------------------------+
//!            | poll_event                   | poll_timeout            | poll_transmit
//!            v                              v                         v
//!   Resolved, Failed, Removed,       when to call              whole frames to send
//!   Conflict                         handle_timeout
//! ```
//!
//! No I/O, no clock: whoever drives it passes `now`, sends the frames, and writes the
//! events into the tables. Reading order: [`State`] (the diagram is in its module),
//! [`Cache`], `arp` and `ndisc`.
//!
//! Invariants:
//! - Frames never make entries; the cache is bounded whatever arrives or is asked for.
//! - For one address at most one multicast question leaves in a retransmit interval.
//! - A neighbour that is wanted is checked every 15 to 45 s by unicast, without traffic.
//! - The last event about an address tells what holds for it.
//!
//! Not done here: duplicate address detection (the addresses are the node's own
//! already), MLD reports for the solicited-node groups (RFC 4861 §7.2.1; a switch with
//! MLD snooping needs them), router advertisements, VLAN tags.
//!
//! Sources: RFC 826, RFC 1122 §2.3.2, RFC 5227; RFC 4861, RFC 7048.

mod arp;
mod cache;
mod config;
mod entry;
mod event;
mod message;
mod ndisc;
mod outbox;
mod own;
mod random;
mod state;
mod timer;

#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use config::{Config, ConfigError};
pub use event::{Counters, Entry, Event};
pub use message::{Ignored, MAX_FRAME_LEN};
pub use own::Refused;
pub use state::State;
