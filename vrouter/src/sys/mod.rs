//! The operating system's side of the ports: rings, sockets, programs, ioctls.
//!
//! ```text
//!   umem      one memory area for all packet frames (memfd, huge pages when free)
//!   ring, sockopt  AF_XDP rings, socket options        ifreq     ioctls on a device by name
//!   xsk       AF_XDP socket of one device queue        ethtool   channels, driver, offloads
//!   bpf       bpf(2): maps, programs, links            tun       tap devices, virtio-net header
//!   bpf_asm   eBPF assembler                           netns     work inside another namespace
//!   xdp_program  the XDP programs                      wait      epoll, poll and eventfd
//!   steering     queues of taps and veths, by flow    uring     many writes by one call
//!   tc_program   the same for packet sockets           packet_socket  their frames, many a call
//!   device_xdp   maps + program + link of a device     affinity  worker on a core
//!   flow_memory  of flows, kept for a successor
//!   huge_pages   for tables of routes                  tsc       cycle counter
//!   cpu       what programs are compiled for and it lacks
//! ```
//!
//! Everything here is thin: it names each step in its errors, holds kernel objects
//! by owned file descriptors and decides nothing. This is the only part of the
//! ports that holds `unsafe` code. Devices are looked up in the network namespace
//! of the calling thread; file descriptors keep working after it has left.
#![allow(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "the ports that use it are not there yet")]

pub(crate) mod affinity;
pub(crate) mod bpf;
mod bpf_asm;
pub(crate) mod cpu;
pub(crate) mod device_xdp;
mod error;
pub(crate) mod ethtool;
pub(crate) mod flow_memory;
pub(crate) mod huge_pages;
pub(crate) mod ifreq;
pub(crate) mod netns;
pub(crate) mod packet_socket;
mod plain;
mod ring;
mod sockopt;
pub(crate) mod steering;
mod tc_program;
pub(crate) mod tsc;
pub(crate) mod tun;
pub(crate) mod umem;
pub(crate) mod uring;
pub(crate) mod wait;
mod xdp_program;
pub(crate) mod xsk;

pub(crate) use error::OsError;

#[cfg(test)]
pub(crate) mod test_net;
