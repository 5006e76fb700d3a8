//! Who offers routes, and how far each is trusted.

use core::fmt;

/// Where a route comes from. The order of the variants breaks ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RouteSource {
    /// The subnet of one of the router's own addresses.
    Connected,
    /// The address of a local workload endpoint.
    Endpoint,
    /// The configuration file.
    Static,
    /// Resource files in a directory.
    Files,
    /// The router's own API.
    Api,
    /// Calico's agent, by the external dataplane protocol.
    Felix,
    /// Calico's datastore.
    Etcd,
    /// The router's own BGP speaker.
    Bgp,
    /// A routing suite, by the forwarding plane manager protocol.
    Fpm,
    /// The kernel's routing table.
    Kernel,
}

impl RouteSource {
    /// The administrative distance of routes that bring none of their own: lower wins.
    ///
    /// Connected 0, static 1 and BGP 20 follow the custom of routers. A BGP speaker that tells
    /// internal from external peers gives 200 to internal routes itself, and sources that relay
    /// routes of several protocols (FPM, the kernel) pass on what they were told.
    pub const fn default_distance(self) -> u8 {
        match self {
            Self::Connected | Self::Endpoint => 0,
            Self::Static => 1,
            Self::Files | Self::Api => 5,
            Self::Felix | Self::Etcd => 10,
            Self::Bgp => 20,
            Self::Fpm => 110,
            Self::Kernel => 115,
        }
    }

    /// All sources, in order.
    pub const ALL: [Self; 10] = [
        Self::Connected,
        Self::Endpoint,
        Self::Static,
        Self::Files,
        Self::Api,
        Self::Felix,
        Self::Etcd,
        Self::Bgp,
        Self::Fpm,
        Self::Kernel,
    ];

    /// The name in configuration and displays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Endpoint => "pod",
            Self::Static => "config",
            Self::Files => "files",
            Self::Api => "api",
            Self::Felix => "felix",
            Self::Etcd => "etcd",
            Self::Bgp => "bgp",
            Self::Fpm => "fpm",
            Self::Kernel => "kernel",
        }
    }
}

impl fmt::Display for RouteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
