"""Linux's side of conntrack_linux.rs, in a network namespace of its own that goes with this process.

Two taps, forwarding between them, and a rule that drops what conntrack calls invalid. For each line of input

    TAP PROTOCOL MATCH FRAME            tap 0 or 1, protocol number, part of the line of the flow, frame in hex

the frame comes in at that tap. Answers 1 where it left by the other one (it is known by the identification in
its IP header), 0 where it did not, and the flow's state: NONE, of TCP its name, of others UNREPLIED or REPLIED.
"""
import fcntl
import os
import select
import struct
import subprocess
import sys

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
# Longer than forwarding takes on a busy machine.
PATIENCE = 0.3


def run(line):
    done = subprocess.run(line.split(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{line}: {done.stderr}")


def tap(number):
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22x", f"t{number}".encode(), IFF_TAP | IFF_NO_PI))
    run(f"ip link set t{number} address 02:00:00:00:00:0{number + 1} up")
    run(f"ip addr add 10.77.{number + 1}.1/24 dev t{number}")
    run(f"ip neigh replace 10.77.{number + 1}.2 lladdr 02:00:00:00:01:0{number + 1} dev t{number} nud permanent")
    return file


def sysctl(key, value):
    with open(f"/proc/sys/net/{key}", "w") as file:
        file.write(value)


def left_by(file, identification):
    while select.select([file], [], [], PATIENCE)[0]:
        frame = os.read(file, 2048)
        if frame[12:14] == b"\x08\x00" and frame[18:20] == identification:
            return True
    return False


def state(protocol, match):
    with open("/proc/self/net/nf_conntrack") as table:
        for line in table:
            words = line.split()
            if words[3] == protocol and match in words:
                if protocol == "6":
                    return words[5]
                return "UNREPLIED" if "[UNREPLIED]" in words else "REPLIED"
    return "NONE"


taps = [tap(0), tap(1)]
sysctl("ipv4/ip_forward", "1")
sysctl("netfilter/nf_conntrack_checksum", "0")
run("nft add table ip t")
run("nft add chain ip t f { type filter hook forward priority 0 ; }")
run("nft add rule ip t f ct state invalid drop")
for line in sys.stdin:
    number, protocol, match, frame = line.split()
    frame = bytes.fromhex(frame)
    os.write(taps[int(number)], frame)
    passed = left_by(taps[1 - int(number)], frame[18:20])
    print(int(passed), state(protocol, match), flush=True)
