//! The API of a running router, verb by verb: the real programs, in network namespaces of their own.
//! To be run as root.
//!
//! ```text
//!   pods p1, p2 --tap, veth-- [node: vrouter] --eth1 172.16.20.0/24, fd00:20::/64-- [far: plain Linux]
//! ```

mod checks;
mod life;
mod node;
mod packets;
mod policy;
mod reads;
mod routes;
mod writes;
