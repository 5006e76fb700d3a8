//! Well-known transport ports a router meets by name (IANA "service-names-port-numbers").

/// DNS.
pub const DNS: u16 = 53;
/// DHCP, server side.
pub const DHCP_SERVER: u16 = 67;
/// DHCP, client side.
pub const DHCP_CLIENT: u16 = 68;
/// BGP (RFC 4271).
pub const BGP: u16 = 179;
/// DHCPv6, client side (RFC 8415).
pub const DHCPV6_CLIENT: u16 = 546;
/// DHCPv6, server side (RFC 8415).
pub const DHCPV6_SERVER: u16 = 547;
/// VXLAN (RFC 7348).
pub const VXLAN: u16 = 4789;
