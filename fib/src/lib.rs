//! What to match: the routing table as control sees it and as packets see it.
//!
//! ```text
//!  sources (static, bgp, kernel, ...)
//!      | announce / withdraw / resync
//!      v
//!  Rib<A, N>      every candidate of every prefix; picks the best by distance, metric, source
//!      | drain_changes: prefix -> next hops of the best candidate, or none
//!      v
//!  (control resolves next hops, makes next-hop groups)
//!      | insert / remove: prefix -> GroupId
//!      v
//!  FibWriter<A>   the one writer ----- shares -----> Fib<A>   readers: lookup(address) -> GroupId
//! ```
//!
//! The **RIB** holds desired state: who offers which route, and which offer wins. The **FIB**
//! holds compiled state: a longest-prefix match from an address to the id of a next-hop group,
//! read by the packet path while it is being changed. What a group means (neighbours, tunnels,
//! endpoints, blackholes) is the caller's; this crate never looks inside.
//!
//! Everything is generic over [`Address`], so IPv4 and IPv6 run the same code.
//!
//! ```
//! use fib::{FibWriter, GroupId, Prefix};
//! use std::net::Ipv4Addr;
//!
//! let mut writer = FibWriter::<Ipv4Addr>::new();
//! let fib = writer.reader(); // one clone for each packet worker
//! let pods: Prefix<Ipv4Addr> = "10.100.36.64/26".parse()?;
//! let group = GroupId::new(7).ok_or("id out of range")?;
//! writer.insert(pods, group)?;
//! assert_eq!(fib.lookup("10.100.36.103".parse()?), Some(group));
//! assert_eq!(fib.lookup("10.100.36.1".parse()?), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What Miri says of the unit tests and of readers among changes; the laws and the churn of books
//! take it many minutes, which is why `tests/run` leaves it out:
//!
//! ```text
//! PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation \
//!     cargo +nightly miri test -p vrouter-fib --lib --test flap
//! ```

#![deny(unsafe_code)]

mod address;
mod arena;
mod atomic;
mod block;
mod books;
mod buckets;
mod entry;
mod front;
mod kernel;
#[cfg(feature = "oracle")]
pub mod oracle;
mod prefix;
mod ranges;
mod rib;
mod table;
mod writer;

pub use address::Address;
pub use block::AdviseMemory;
pub use buckets::Buckets;
pub use entry::{GroupId, NO_ROUTE};
pub use kernel::Kernel;
pub use prefix::{AnyPrefix, Prefix, PrefixError};
pub use rib::{Candidate, Change, Lost, NextHopSets, NoNextHops, Rib, RouteSource, SetId};
pub use table::Fib;
pub use writer::{FibFull, FibWriter, LoadError, Retired};
