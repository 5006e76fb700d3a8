"""Has the kernel cut super-packets up: writes each into a tap behind a virtio header, and tells what comes out of
a veth without offloads.

    stdin:  for each a line GSO TYPE, HEADER LENGTH, SEGMENT SIZE, CHECKSUM START, CHECKSUM OFFSET, SEGMENTS, BYTES,
            and so many bytes: the frame, from the Ethernet header on, the destination MAC left to be filled in
    stdout: for each frame two bytes, its length, and the frame; behind each super-packet two zeros
"""
import fcntl
import os
import socket
import struct
import subprocess
import sys


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


tap = os.open("/dev/net/tun", os.O_RDWR)
# IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"t0", 0x0002 | 0x1000 | 0x4000))
fcntl.ioctl(tap, 0x400454D8, struct.pack("i", 12))
ip("link set t0 up")
ip("addr add 10.0.0.254/24 dev t0")
ip("addr add fd10::ffff/64 dev t0 nodad")
ip("link add v0 type veth peer name v1")
for device in ("v0", "v1"):
    subprocess.run(["ethtool", "-K", device, "tx", "off", "gso", "off", "tso", "off", "gro", "off"], check=True,
                   stdout=subprocess.DEVNULL)
    ip(f"link set {device} up mtu 1500")
ip("addr add 10.0.1.254/24 dev v0")
ip("route add fd11::/64 dev v0")
for address in ("10.0.1.2", "fd11::2"):
    ip(f"neigh replace {address} lladdr 02:00:00:00:00:02 dev v0 nud permanent")
for key in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
    subprocess.run(["sysctl", "-qw", f"net.{key}=1"], check=True)
mac = bytes.fromhex(open("/sys/class/net/t0/address").read().strip().replace(":", "")) \
    if os.path.exists("/sys/class/net/t0/address") else None
if mac is None:
    request = fcntl.ioctl(socket.socket(), 0x8927, struct.pack("16s24x", b"t0"))
    mac = request[18:24]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("v1", 0))
wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
wire.settimeout(5)
told = sys.stdout.buffer


def segments_of(packet, count):
    """What becomes of a super-packet; None where not all of it came: a busy kernel's own queues overflow."""
    os.write(tap, packet)
    frames = []
    while len(frames) < count:
        try:
            got, address = wire.recvfrom(65536)
        except TimeoutError:
            return None
        # What the kernel says of itself is not the subject.
        if address[2] != socket.PACKET_OUTGOING and got[:6] == b"\x02\0\0\0\0\x02":
            frames.append(got)
    return frames


for line in iter(sys.stdin.buffer.readline, b""):
    kind, header, size, start, field, segments, length = map(int, line.split())
    packet = struct.pack("BBHHHHH", 1, kind, header, size, start, field, 0)
    packet += mac + sys.stdin.buffer.read(length)[6:]
    tries = (segments_of(packet, segments) for _ in range(3))
    for frame in next(frames for frames in tries if frames):
        told.write(struct.pack("<H", len(frame)) + frame)
    told.write(b"\0\0")
    told.flush()
