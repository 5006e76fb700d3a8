//! The router on memory ports under a virtual clock.
//!
//! | module | what |
//! |---|---|
//! | `two_nodes` | two routers on a wire: pods reach each other, in the tunnel and without |
//! | `against_model` | many thousand frames through the router and a naive model of it |
//! | `drops` | a way to reach every drop reason, and the counters that move |
//! | `neighbors` | address resolution on uplinks, packets that wait |
//! | `next_hop_counts` | packets and bytes by next hop |
//! | `path_mtu` | a narrow link on the path of a tunnel |
//! | `checksums` | transport checksums that a port left to be finished |
//! | `control` | routes, pods and ports change while traffic flows |
//! | `policy` | Calico's and Kubernetes' policy on pods, and what changes do to live flows |
//! | `vrfs` | uplinks with routes of their own |
//! | `ways` | which next hop packets take, and for how long |
//! | `workers` | workers in threads: hand-off, order, idle modes, a clean stop |
//! | `joined_in_tunnels` | super-packets that come out of a tunnel, and packets that are joined behind it |
//! | `replay` | odd frames from real captures through every kind of port |
//! | `world`, `frames` | the model's configuration, and the frames |

// Every function here is a test's.
#![allow(clippy::unwrap_used)]

mod against_model;
mod checksums;
mod control;
mod drops;
mod frames;
mod joined_in_tunnels;
mod jumbo;
mod neighbors;
mod next_hop_counts;
mod path_mtu;
mod policy;
#[path = "../../../fib/tests/real_table/mod.rs"]
mod real_table;
mod replay;
mod super_packets;
mod two_nodes;
mod vrfs;
mod ways;
mod workers;
mod world;
