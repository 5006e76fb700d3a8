//! Why a packet was dropped: one closed list.
//!
//! Each reason has one name (shown by `vrctl show drops` and as the label of the
//! `vrouter_drops_total` metric), one line of meaning, one counter per ingress
//! port, and one test that reaches it.

macro_rules! drop_reasons {
    ($($(#[$unused:meta])* $variant:ident, $name:literal, $meaning:literal;)*) => {
        /// The reason of a drop. The unit of its counters is packets.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $meaning] $variant,)*
        }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)*];
            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The stable name, in kebab case.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)* }
            }

            /// One line for operators.
            pub const fn meaning(self) -> &'static str {
                match self { $(DropReason::$variant => $meaning,)* }
            }
        }
    };
}

drop_reasons! {
    // Ethernet
    FrameTooShort, "frame-too-short", "frame is shorter than an Ethernet header";
    VlanTagged, "vlan-tagged", "802.1Q tag on a port that carries none";
    EthertypeUnknown, "ethertype-unknown", "neither IPv4, IPv6 nor ARP";
    NotOurMac, "not-our-mac", "unicast frame for another station";
    SpoofedMac, "spoofed-mac", "a pod's frame does not carry the pod's own source MAC";
    // ARP and neighbour discovery
    ArpMalformed, "arp-malformed", "ARP packet is truncated or not Ethernet/IPv4";
    ArpOwnAddress, "arp-own-address", "a pod asks for its own address (probe or announcement): nobody else has it";
    ArpReplyIgnored, "arp-reply-ignored", "ARP reply from a pod, whose address is known already";
    ArpSpoofed, "arp-spoofed", "a pod's ARP names a sender that is not the pod";
    ArpNotForUs, "arp-not-for-us", "ARP on a port where another party answers";
    NdMalformed, "nd-malformed", "neighbour discovery message fails the checks of RFC 4861";
    NdDuplicateProbe, "nd-duplicate-probe", "duplicate address detection of a pod's own address: nobody else has it";
    NdAdvertIgnored, "nd-advert-ignored", "neighbour advertisement from a pod, whose address is known already";
    NdSpoofed, "nd-spoofed", "a pod's neighbour discovery names a sender that is not the pod";
    NdNotForUs, "nd-not-for-us", "neighbour discovery on a port where another party answers";
    NdRouterMessage, "nd-router-message", "router solicitation, advertisement or redirect: pods are configured, not advertised to";
    // IP header checks
    Ipv4Truncated, "ipv4-truncated", "fewer bytes than the IPv4 header says (RFC 1812 5.2.2)";
    Ipv4BadVersion, "ipv4-bad-version", "IPv4 ethertype but another version (RFC 1812 5.2.2)";
    Ipv4BadHeaderLength, "ipv4-bad-header-length", "IPv4 header length below 20 or beyond the packet (RFC 1812 5.2.2)";
    Ipv4BadChecksum, "ipv4-bad-checksum", "IPv4 header checksum is wrong (RFC 1812 5.2.2)";
    Ipv4SourceRoute, "ipv4-source-route", "IPv4 source route option is refused";
    Ipv4BadSource, "ipv4-bad-source", "IPv4 source is not a host address (RFC 1812 5.3.7)";
    Ipv4BadDestination, "ipv4-bad-destination", "IPv4 destination is never forwarded (RFC 1812 5.3.7)";
    Ipv6Truncated, "ipv6-truncated", "fewer bytes than the IPv6 header says";
    Ipv6BadVersion, "ipv6-bad-version", "IPv6 ethertype but another version";
    Ipv6BadExtension, "ipv6-bad-extension", "IPv6 extension headers are malformed or too many";
    Ipv6BadSource, "ipv6-bad-source", "IPv6 source is not a host address";
    Ipv6BadDestination, "ipv6-bad-destination", "IPv6 destination is never forwarded";
    BadChecksumOffload, "bad-checksum-offload", "the sender leaves a checksum to be written outside the packet's transport part";
    BadSegmentationOffload, "bad-segmentation-offload", "the sender leaves segmentation to be done that the packet's headers do not allow";
    LengthMismatch, "length-mismatch", "a frame of more than one buffer is longer than its IP header says";
    LinkLocal, "link-local", "link-local addresses do not leave their link";
    Multicast, "multicast", "multicast and broadcast are not forwarded";
    // tunnels
    TunnelUnknownPeer, "tunnel-unknown-peer", "tunnel packet from an address that is no known peer";
    TunnelFragment, "tunnel-fragment", "fragmented tunnel packet: the outer header is not reassembled";
    TunnelBadInner, "tunnel-bad-inner", "the tunnel carries neighbour discovery, which never leaves its link";
    TunnelEcn, "tunnel-ecn", "outer congestion mark on an inner packet that cannot carry it (RFC 6040)";
    // policy
    SpoofedSource, "spoofed-source", "a pod's packet does not carry one of the pod's own source addresses";
    PolicyEgress, "policy-egress", "denied by the egress policy of the source pod";
    PolicyHost, "policy-host", "denied by the policy of a host endpoint where the packet enters or leaves the node";
    PolicyIngress, "policy-ingress", "denied by the ingress policy of the destination pod";
    FlowInvalid, "flow-invalid", "the packet does not fit the state of its flow, or cannot begin one";
    FlowUnrelated, "flow-unrelated", "an ICMP error about a packet of no known flow";
    FlowTableFull, "flow-table-full", "no room in the flow table, and no half-open flow to make some";
    FlowLimit, "flow-limit", "the endpoint has as many flows, or half-open flows, as it may have";
    FragmentUnknown, "fragment-unknown", "a fragment of a packet whose first fragment policy has not let pass";
    // lookup
    NoRoute, "no-route", "no route to the destination";
    Blackhole, "blackhole", "a blackhole route matches";
    Unreachable, "unreachable", "an unreachable route matches, or nothing answers at the destination";
    Prohibit, "prohibit", "a prohibit route matches";
    NextHopUnresolved, "next-hop-unresolved", "the route's next hop leads nowhere at present";
    NotLocal, "not-local", "the address is ours but nothing here takes this protocol";
    IcmpMalformed, "icmp-malformed", "ICMP message to this router is truncated or fails its checksum";
    // neighbours
    NeighborFailed, "neighbor-failed", "the next hop does not answer ARP or neighbour discovery";
    HoldFull, "hold-full", "too many packets wait for the next hop's MAC address";
    HoldExpired, "hold-expired", "the next hop's MAC address did not become known in time";
    // time to live, size
    TtlExpired, "ttl-expired", "time to live ran out";
    HopLimitExpired, "hop-limit-expired", "hop limit ran out";
    FragmentationNeeded, "fragmentation-needed", "larger than the path's MTU and marked don't-fragment";
    PacketTooBig, "packet-too-big", "IPv6 packet larger than the path's MTU";
    NoHeadroom, "no-headroom", "no room in the frame for the outer header";
    // output
    PortDown, "port-down", "the output port is down or gone";
    TxFull, "tx-full", "the output port's transmit ring is full";
    HandoffFull, "handoff-full", "the ring to the worker that owns the output queue is full";
    TooBigForPort, "too-big-for-port", "the frame does not fit the output port";
    NoFrame, "no-frame", "no free frame to build the packet in";
    PuntFull, "punt-full", "the ring to the slow path is full";
    // embedders
    Hook, "hook", "dropped by a stage that the embedding program added";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
        for name in names {
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
        }
    }

    #[test]
    fn discriminants_index_the_list() {
        for (i, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, i);
        }
    }
}
