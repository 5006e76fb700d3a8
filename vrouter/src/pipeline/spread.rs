//! Which of a group's ways a flow takes: a hash of its addresses, protocol and ports.
//!
//! The hash is the same for both directions of a flow, for all workers of a router, and for routers with the
//! same seed. Where asked, packets of tunnels that pass through are told apart by the flows inside them.

use encap::flow_hash;
use encap::wire::ipv4::has_ports;

use crate::burst::Burst;
use crate::frame::FrameArea;

/// How flows are spread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spread {
    /// Chooses among hashes.
    pub seed: u32,
    /// Whether the flows inside tunnels count, not the tunnels.
    pub inner: bool,
}

impl Default for Spread {
    fn default() -> Self {
        Spread { seed: 0x5eed, inner: false }
    }
}

impl Spread {
    /// The hash of a packet's flow. Fragments have none of their ports, so that all go one way.
    pub fn hash(&self, burst: &Burst, lane: usize, area: &FrameArea) -> u32 {
        let meta = &burst.meta;
        if self.inner
            && let Some(hash) = flow_hash::tunnelled(burst.network(lane, area), self.seed)
        {
            return hash;
        }
        let whole = meta.l4[lane] != 0 && burst.fragments >> lane & 1 == 0;
        let ports = match area.bytes(burst.frame(lane), meta.l4[lane], 4) {
            &[a, b, c, d] if whole && has_ports(meta.protocol[lane]) => {
                (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            _ => (0, 0),
        };
        let (protocol, seed) = (meta.protocol[lane], self.seed);
        if burst.v4 >> lane & 1 == 1 {
            let (source, destination) = (meta.src4[lane].into(), meta.dst4[lane]);
            return flow_hash::symmetric_v4(source, destination, protocol, ports.0, ports.1, seed);
        }
        let mut source = [0; 16];
        if let Some(octets) = burst.network(lane, area).get(8..24) {
            source.copy_from_slice(octets);
        }
        flow_hash::symmetric_v6(source.into(), meta.dst6[lane], protocol, ports.0, ports.1, seed)
    }
}
