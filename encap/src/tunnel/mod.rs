//! Packets in packets.
//!
//! ```text
//!   push    | outer header |  inner packet ..            written into the headroom before the inner packet
//!   pop                    |  inner packet ..            validated, its ECN field corrected, the outer header left behind
//! ```
//!
//! [`ipip`] writes and reads the outer header, [`ecn`] says what congestion marks become on the way in and out,
//! [`mtu`] how long an inner packet may be. Law, tested for any inner packet: `pop(push(x)) = x`.

pub mod ecn;
pub mod ipip;
pub mod mtu;
