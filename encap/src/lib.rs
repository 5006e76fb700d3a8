//! Wire formats, checksums and tunnels.
//!
//! The crate reads and writes packet bytes in place and knows nothing else: no ports, no tables, no clock.
//!
//! ```text
//!   wire::ethernet | wire::vlan ..       link layer           wire::arp
//!   wire::ipv4     | wire::ipv6 + ipv6_ext                    the packet's own header
//!      tunnel::ipip  (push in front of it, pop it off; ECN by tunnel::ecn, size by tunnel::mtu)
//!      wire::ipv4  | wire::ipv6                               the inner packet
//!         wire::{udp, tcp, icmpv4, icmpv6, ndisc}             what it carries
//!   wire::checksum                       under all of them
//!   fragment                             IPv4 packets that are too long
//!   flow_hash                            one number per flow, the same in both directions
//! ```
//!
//! Reading order: [`wire`] (the contract of the views), [`wire::checksum`], [`wire::ipv4`], [`tunnel`].
//!
//! Invariants of the whole crate: no function panics on any input bytes, none allocates (except [`wire::show`], which is
//! for people), and byte order never leaves [`wire`]: every number a caller sees is in host order.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod error;
pub mod flow_hash;
pub mod fragment;
pub mod tunnel;
pub mod wire;

pub use error::ParseError;
pub use wire::ethernet::{EtherType, MacAddr};
