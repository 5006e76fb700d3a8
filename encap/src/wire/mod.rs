//! Header views, header values and checksums.
//!
//! Two forms of every header:
//!
//! ```text
//!   view   Ipv4<T: AsRef<[u8]>>   bytes seen through accessors; setters exist when T is also AsMut<[u8]>
//!   value  Ipv4Repr               the few fields that matter, for building a header from nothing: `emit`
//! ```
//!
//! The contract of a view: its constructor (`new_checked`; `new_head` for the first frame of a chain; `new_quoted` for
//! a packet that an ICMP error quotes) looks at every length the accessors rely on, once. After it returned `Ok`, no
//! accessor panics, whatever the bytes are, also after setters have changed length fields (slices are cut to what is
//! there). `new_checked` does not verify checksums: that is `verify_checksum`, since the answer differs by path (a
//! router checks IPv4 headers, RFC 1812 §5.2.2, but not what they carry).
//!
//! Plain setters leave checksums alone; the methods that keep a checksum right say so in their first line.
//!
//! One file is one protocol; offsets are named in its private `field` module and appear nowhere else.

pub mod arp;
pub mod checksum;
pub mod ecn;
pub mod ethernet;
mod field;
pub mod icmpv4;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod ipv6_ext;
pub mod ndisc;
pub mod port;
pub mod protocol;
pub mod show;
pub mod tcp;
pub mod udp;
pub mod vlan;

pub use arp::{ArpOperation, ArpPacket, ArpRepr};
pub use ecn::Ecn;
pub use ethernet::{EtherType, Ethernet, MacAddr};
pub use icmpv4::Icmpv4;
pub use icmpv6::Icmpv6;
pub use ipv4::{Ipv4, Ipv4Repr};
pub use ipv6::{Ipv6, Ipv6Repr};
pub use tcp::Tcp;
pub use udp::Udp;
pub use vlan::VlanTag;
