//! The real programs on real kernels, in network namespaces: a scenario a file.
#![allow(clippy::unwrap_used)]

mod allocations;
mod attach_detach;
mod checksums;
mod exclusive_uplink;
mod fabric_neighbors;
mod gateway;
mod icmp_errors;
mod idle;
mod jumbo;
mod long_transfers;
mod memory;
mod node_and_pods;
mod odd_frames;
mod operator;
mod packet_sockets;
mod path_mtu;
mod pods_across_nodes;
mod policy;
mod pool_mode;
mod refused_configuration;
mod restart;
mod short_connections;
mod spoofing;
mod super_packets;
mod testbed;
mod truth_table;
mod uplink_is_the_hosts;
mod uplink_life;
mod workers;
