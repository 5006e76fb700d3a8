#!/usr/bin/python3
"""Prints the packets that foreign_bytes.rs compares with, built by scapy (Debian: python3-scapy).

One packet a line: its name, a space, its bytes in hex. Run from anywhere:

    /usr/bin/python3 generate.py > vectors.txt

Every value is fixed, so the output never changes with the machine it is made on.
"""

import logging

logging.getLogger("scapy").setLevel(logging.ERROR)

from scapy import VERSION
from scapy.all import ARP, Dot1AD, Dot1Q, Ether, ICMP, IP, IPOption_LSRR, IPOption_NOP, IPOption_RR, IPv6, Raw, TCP, UDP
from scapy.layers.inet import fragment
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    RouterAlert,
)

POD_MAC, GATEWAY_MAC, BROADCAST = "02:00:00:00:00:33", "ee:ee:ee:ee:ee:ee", "ff:ff:ff:ff:ff:ff"
POD1, POD2, GATEWAY = "10.100.36.103", "10.100.169.176", "169.254.1.1"
NODE1, NODE2 = "172.16.20.252", "172.16.20.253"
POD1_6, POD2_6, ROUTER_6, LINK_LOCAL = "fd00:10::36:103", "fd00:10::169:176", "fd00:20::252", "fe80::ecee:eeff:feee:eeee"
PAYLOAD = bytes(range(256)) * 8

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3

# RFC 6040, figure 4: (inner, outer) -> new inner; None is "drop".
DECAPSULATED = {
    (NOT_ECT, NOT_ECT): NOT_ECT, (NOT_ECT, ECT_0): NOT_ECT, (NOT_ECT, ECT_1): NOT_ECT, (NOT_ECT, CE): None,
    (ECT_0, NOT_ECT): ECT_0, (ECT_0, ECT_0): ECT_0, (ECT_0, ECT_1): ECT_1, (ECT_0, CE): CE,
    (ECT_1, NOT_ECT): ECT_1, (ECT_1, ECT_0): ECT_1, (ECT_1, ECT_1): ECT_1, (ECT_1, CE): CE,
    (CE, NOT_ECT): CE, (CE, ECT_0): CE, (CE, ECT_1): CE, (CE, CE): CE,
}


def show(name, packet):
    print(name, bytes(packet).hex() if packet is not None else "drop")


def links():
    show("arp_request", Ether(src=POD_MAC, dst=BROADCAST) / ARP(op=1, hwsrc=POD_MAC, psrc=POD1, hwdst="00:00:00:00:00:00", pdst=GATEWAY))
    show("arp_reply", Ether(src=GATEWAY_MAC, dst=POD_MAC) / ARP(op=2, hwsrc=GATEWAY_MAC, psrc=GATEWAY, hwdst=POD_MAC, pdst=POD1))
    plain = IP(src=POD1, dst=POD2, id=1) / UDP(sport=1, dport=2) / Raw(b"vlan")
    show("vlan", Ether(src=POD_MAC, dst=GATEWAY_MAC) / Dot1Q(vlan=100, prio=5, id=1) / plain)
    show("qinq", Ether(src=POD_MAC, dst=GATEWAY_MAC) / Dot1AD(vlan=7) / Dot1Q(vlan=4094) / plain)


def transports():
    v4, v6 = IP(src=POD1, dst=POD2, id=0x1234, flags="DF", ttl=63), IPv6(src=POD1_6, dst=POD2_6, hlim=63, tc=0x28, fl=0xABCDE)
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 2)), ("NOP", None), ("WScale", 7)]
    tcp = TCP(sport=40000, dport=80, seq=0x01020304, ack=0x05060708, flags="SAE", window=512, options=options)
    udp = UDP(sport=53, dport=40001)
    for name, ip in (("4", v4), ("6", v6)):
        show("tcp" + name, ip / tcp / Raw(PAYLOAD[:11]))
        show("udp" + name, ip / udp / Raw(PAYLOAD[:5]))
        show("udp_long" + name, ip / udp / Raw(PAYLOAD[:1400]))
    show("echo4", v4 / ICMP(type=8, id=0x4321, seq=9) / Raw(PAYLOAD[:56]))
    show("echo4_reply", v4 / ICMP(type=0, id=0x4321, seq=9) / Raw(PAYLOAD[:56]))
    show("echo6", v6 / ICMPv6EchoRequest(id=0x4321, seq=9, data=PAYLOAD[:56]))
    v4.ttl, v6.hlim = 62, 62
    show("tcp4_next_hop", v4 / tcp / Raw(PAYLOAD[:11]))
    # The two payload bytes make the checksum come out as zero, which UDP sends as all ones.
    zero = v4 / UDP(sport=1, dport=2) / Raw(b"\x00\x00")
    word = UDP(bytes(zero)[20:]).chksum
    show("udp4_zero_sum", v4 / UDP(sport=1, dport=2) / Raw(word.to_bytes(2, "big")))


def extension_headers():
    last = UDP(sport=1, dport=2) / Raw(b"upper")
    hop = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    destination = IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 12)])
    routing = IPv6ExtHdrRouting(type=4, segleft=0, addresses=[ROUTER_6])
    piece = IPv6ExtHdrFragment(id=0xCAFEBABE, offset=0, m=1)
    ip = IPv6(src=POD1_6, dst=POD2_6)
    show("ext_chain", ip / hop / destination / routing / piece / last)
    show("ext_later_fragment", ip / IPv6ExtHdrFragment(id=0xCAFEBABE, offset=181, m=0, nh=17) / Raw(b"tail"))


def tunnels():
    inner4 = IP(src=POD1, dst=POD2, id=7, ttl=63, tos=0xB8) / UDP(sport=1, dport=2) / Raw(b"inner")
    inner4_df = IP(src=POD1, dst=POD2, id=7, ttl=63, flags="DF") / UDP(sport=1, dport=2) / Raw(b"inner")
    inner6 = IPv6(src=POD1_6, dst=POD2_6, hlim=63, tc=0xB9) / UDP(sport=1, dport=2) / Raw(b"inner")
    show("ipip", IP(src=NODE1, dst=NODE2, id=0xBEEF, tos=0xB8) / inner4)
    show("ipip_df", IP(src=NODE1, dst=NODE2, id=0xBEEF, flags="DF") / inner4_df)
    show("6in4", IP(src=NODE1, dst=NODE2, id=0xBEEF, tos=0xB9) / inner6)
    for inner_ecn in range(4):
        for outer_ecn in range(4):
            after = DECAPSULATED[inner_ecn, outer_ecn]
            body = UDP(sport=1, dport=2) / Raw(b"ecn")
            for family, inner in (
                ("4", lambda ecn: IP(src=POD1, dst=POD2, id=7, ttl=63, tos=0x28 | ecn) / body),
                ("6", lambda ecn: IPv6(src=POD1_6, dst=POD2_6, hlim=63, tc=0x28 | ecn) / body),
            ):
                name = f"ecn{family}_inner{inner_ecn}_outer{outer_ecn}"
                show(name, IP(src=NODE1, dst=NODE2, tos=0x28 | outer_ecn, id=1) / inner(inner_ecn))
                show(name + "_popped", None if after is None else inner(after))


def errors():
    about4 = bytes(IP(src=POD1, dst=POD2, id=1, flags="DF", ttl=1) / UDP(sport=1, dport=2) / Raw(PAYLOAD[:1400]))
    about6 = bytes(IPv6(src=POD1_6, dst=POD2_6, hlim=1) / UDP(sport=1, dport=2) / Raw(PAYLOAD[:1400]))
    show("about4", about4)
    show("about6", about6)
    v4 = IP(src=NODE1, dst=POD1, tos=0xC0, id=0, flags="DF", ttl=64)
    v6 = IPv6(src=ROUTER_6, dst=POD1_6, hlim=64)
    show("error4_too_big", v4 / ICMP(type=3, code=4, nexthopmtu=1480) / Raw(about4[:548]))
    show("error4_time_exceeded", v4 / ICMP(type=11, code=0) / Raw(about4[:548]))
    show("error6_too_big", v6 / ICMPv6PacketTooBig(mtu=1480) / Raw(about6[:1232]))
    show("error6_time_exceeded", v6 / ICMPv6TimeExceeded(code=0) / Raw(about6[:1232]))
    show("error6_unreachable", v6 / ICMPv6DestUnreach(code=3) / Raw(about6[:1232]))


def neighbours():
    to_group = "ff02::1:ff69:176"
    show("ns", IPv6(src=POD1_6, dst=to_group, hlim=255) / ICMPv6ND_NS(tgt=POD2_6) / ICMPv6NDOptSrcLLAddr(lladdr=POD_MAC))
    show("ns_dad", IPv6(src="::", dst=to_group, hlim=255) / ICMPv6ND_NS(tgt=POD2_6))
    show("na", IPv6(src=LINK_LOCAL, dst=POD1_6, hlim=255) / ICMPv6ND_NA(tgt=POD2_6, R=1, S=1, O=0) / ICMPv6NDOptDstLLAddr(lladdr=GATEWAY_MAC))
    show("na_unsolicited", IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255) / ICMPv6ND_NA(tgt=LINK_LOCAL, R=0, S=0, O=1) / ICMPv6NDOptDstLLAddr(lladdr=GATEWAY_MAC))
    show("rs", IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / ICMPv6NDOptSrcLLAddr(lladdr=POD_MAC))
    show(
        "ra",
        IPv6(src=LINK_LOCAL, dst="ff02::1", hlim=255)
        / ICMPv6ND_RA(chlim=64, routerlifetime=1800)
        / ICMPv6NDOptSrcLLAddr(lladdr=GATEWAY_MAC)
        / ICMPv6NDOptMTU(mtu=1480)
        / ICMPv6NDOptPrefixInfo(prefix="fd00:20::", prefixlen=64),
    )
    show(
        "redirect",
        IPv6(src=LINK_LOCAL, dst=POD1_6, hlim=255)
        / ICMPv6ND_Redirect(tgt="fe80::9", dst=POD2_6)
        / ICMPv6NDOptDstLLAddr(lladdr=POD_MAC),
    )


def fragments():
    options = [IPOption_NOP(), IPOption_LSRR(routers=[NODE1]), IPOption_RR(routers=["0.0.0.0"]), IPOption_NOP()]
    plain = IP(src=POD1, dst=POD2, id=0x7777, ttl=9) / UDP(sport=1, dport=2) / Raw(PAYLOAD[:2000])
    show("whole", plain)
    for i, piece in enumerate(fragment(plain, fragsize=776)):
        show(f"whole_piece{i}", piece)
    show("options", IP(src=POD1, dst=POD2, id=0x7777, ttl=9, options=options) / UDP(sport=1, dport=2) / Raw(b"options"))


print("# Packets built by scapy", VERSION, "with generate.py in this directory.")
for build in (links, transports, extension_headers, tunnels, errors, neighbours, fragments):
    build()
