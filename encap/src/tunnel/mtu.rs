//! How long a packet may be to pass a tunnel.

use crate::wire::{ipv4, ipv6};

/// The longest inner packet, in bytes, for a link of `link_mtu` bytes and outer headers of `overhead` bytes.
///
/// An outer packet cannot pass 65535 bytes, so a larger link (the loopback device has 65536) counts as that.
#[inline]
pub const fn inner_mtu(link_mtu: u32, overhead: u16) -> u16 {
    let link = if link_mtu > u16::MAX as u32 { u16::MAX } else { link_mtu as u16 };
    link.saturating_sub(overhead)
}

/// An inner MTU that IPv4 can work with (RFC 791 §3.2: 68).
#[inline]
pub const fn carries_ipv4(inner_mtu: u16) -> bool {
    inner_mtu >= ipv4::MIN_MTU
}

/// An inner MTU that IPv6 can work with (RFC 8200 §5: 1280).
#[inline]
pub const fn carries_ipv6(inner_mtu: u16) -> bool {
    inner_mtu >= ipv6::MIN_MTU
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::ipip;

    #[test]
    fn the_overhead_comes_off_and_nothing_wraps() {
        assert_eq!(inner_mtu(1500, ipip::OVERHEAD as u16), 1480);
        assert_eq!(inner_mtu(65536, 20), 65515);
        assert_eq!(inner_mtu(u32::MAX, 0), 65535);
        assert_eq!(inner_mtu(10, 20), 0);
    }

    #[test]
    fn each_family_has_its_least_mtu() {
        assert!(carries_ipv4(68) && !carries_ipv4(67));
        assert!(carries_ipv6(1280) && !carries_ipv6(1279));
    }
}
