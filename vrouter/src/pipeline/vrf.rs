//! Longest-prefix matches of what entered by ports with routes of their own.
//!
//! ```text
//!   lanes by port --> the port's VRF --> its FIBs        default VRF: left to the caller
//! ```
//!
//! A packet belongs to the VRF of the port that it entered by, also while it waits for a
//! neighbour; what the router makes in answer belongs to that of the packet it is about.

use crate::burst::{Burst, lanes};
use crate::tables::Tables;

/// Looks up the lanes of `mask` that are not the default VRF's, and returns them. Those whose
/// port is gone are among them, and keep the group that they have: none.
#[cold]
pub fn lookup(burst: &mut Burst, mask: u64, tables: &Tables) -> u64 {
    let (mut left, mut elsewhere) = (mask, 0);
    while let Some(first) = lanes(left).next() {
        let port = burst.meta.in_port[first];
        let same = burst.came_from(port, left);
        left &= !same;
        if let Some(port) = tables.port(port) {
            let Some(vrf) = tables.vrf(port.vrf) else { continue };
            let (v4, v6, meta) = (same & burst.v4, same & burst.v6, &mut burst.meta);
            vrf.fib4.lookup_burst(&meta.dst4, v4, &mut meta.group);
            vrf.fib6.lookup_burst(&meta.dst6, v6, &mut meta.group);
        }
        elsewhere |= same;
    }
    elsewhere
}
