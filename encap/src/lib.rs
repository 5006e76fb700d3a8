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
//!   segment, coalesce                    super-packets: cut into what a wire takes, and put together
//!   flow_hash                            one number per flow, the same in both directions
//! ```
//!
//! ```
//! use encap::tunnel::ipip::{self, OuterIpv4, OVERHEAD};
//! use encap::wire::{Ipv4, Ipv4Repr, protocol};
//!
//! // A packet with room in front of it, as in a frame.
//! let (pod1, pod2) = ([10, 100, 36, 103].into(), [10, 100, 169, 176].into());
//! let header = Ipv4Repr {
//!     tos: 0, id: 1, dont_fragment: true, ttl: 64, protocol: protocol::UDP, src: pod1, dst: pod2, payload_len: 8,
//! };
//! let mut frame = [0; OVERHEAD + 28];
//! let (room, packet) = frame.split_at_mut(OVERHEAD);
//! header.emit(packet)?;
//! assert!(Ipv4::new_checked(&mut *packet)?.decrement_ttl());
//!
//! let outer = OuterIpv4::new([172, 16, 20, 252].into(), [172, 16, 20, 253].into());
//! outer.push(room, packet, 28, 0)?;
//! assert!(Ipv4::new_checked(&frame)?.verify_checksum());
//!
//! let popped = ipip::pop(&mut frame)?;
//! assert_eq!(Ipv4::new_checked(&frame[popped.offset..])?.dst(), pod2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reading order: [`wire`] (the contract of the views), [`wire::checksum`], [`wire::ipv4`], [`tunnel`].
//!
//! Invariants of the whole crate: no function panics on any input bytes, none allocates (except [`wire::show`], which is
//! for people), and byte order never leaves [`wire`]: every number a caller sees is in host order.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod coalesce;
mod error;
pub mod flow_hash;
pub mod fragment;
mod layers;
pub mod segment;
pub mod tunnel;
pub mod wire;

pub use error::ParseError;
pub use wire::ethernet::{EtherType, MacAddr};
