//! Names for things that the packet path refers to by number.
//!
//! Every identifier is a dense index that control assigns and the packet path
//! only follows: no identifier is ever computed from packet bytes.

use core::fmt;

macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub $repr);

        impl $name {
            /// The identifier as an array index.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

index_type! {
    /// A port: uplink, workload endpoint, host port or memory wire.
    /// Below [`MAX_PORTS`]; numbers of removed ports are used again.
    PortId(u16)
}
index_type! {
    /// An entry of [`Tables::adjacencies`](crate::tables::Tables::adjacencies).
    AdjacencyId(u32)
}
index_type! {
    /// A slot of the [`NeighborTable`](crate::tables::NeighborTable): one
    /// (port, address) pair whose MAC address may change under running workers.
    NeighborSlot(u32)
}
index_type! {
    /// A tunnel, for its counters. Below [`TunnelId::COUNT`].
    TunnelId(u16)
}
index_type! {
    /// A routing table of its own (virtual routing and forwarding), with the ports that use it.
    /// Below [`VrfId::COUNT`].
    VrfId(u16)
}
index_type! {
    /// A worker: one thread that runs the pipeline to completion.
    WorkerId(u16)
}

/// Traces and captures that run at a time.
pub const TRACE_SLOTS: usize = 8;

/// Upper bound of ports in one router; counters are laid out for it.
pub const MAX_PORTS: usize = 2048;

impl NeighborSlot {
    /// Number of slots.
    pub const COUNT: usize = 8192;
}

impl VrfId {
    /// The one that ports are in unless told otherwise.
    pub const DEFAULT: VrfId = VrfId(0);
    /// Most that there can be, the default one included.
    pub const COUNT: usize = 1024;
}

impl AdjacencyId {
    /// Number of adjacencies that are counted apart; the last one's count is of all beyond.
    pub const COUNTED: usize = 16_384;
}

impl TunnelId {
    /// Number of tunnels that are counted apart, one of them [`Self::NONE`].
    pub const COUNT: usize = 4096;
    /// Stands for "no tunnel", and for tunnels beyond the last number.
    pub const NONE: TunnelId = TunnelId(Self::COUNT as u16 - 1);
}

impl PortId {
    /// Stands for "no port": never an index of a real one.
    pub const NONE: PortId = PortId(u16::MAX);
}

/// Nanoseconds of a monotonic clock whose origin the caller chooses
/// (boot for the daemon, zero for simulations).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment `ms` milliseconds after the origin.
    pub const fn from_millis(ms: u64) -> Self {
        Timestamp(ms * 1_000_000)
    }

    /// This moment plus `d`.
    pub const fn after(self, d: core::time::Duration) -> Self {
        Timestamp(self.0.saturating_add(d.as_nanos() as u64))
    }

    /// Time since `earlier`, zero if `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> core::time::Duration {
        core::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
