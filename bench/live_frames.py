#!/usr/bin/env python3
"""In-kernel packet generator and counting sink, as two small XDP programs.

    live_frames.py generate DEV DST_MAC SRC_IP DST_IP [SIZE]   as fast as one core can, until killed or orphaned
    live_frames.py redirect DEV OUT                            XDP on DEV that sends every frame out of OUT
    live_frames.py sink DEV xdp|tc                             counts IPv4 and drops it; prints the
                                                               count for each line on standard input

The generator runs its program by BPF_PROG_RUN on live frames and redirects them into DEV, so no
system call and no socket buffer is spent on a packet: 3 to 5 million a second. Every header byte is
written anew for each frame, because frames are recycled and come back changed by the router; the
UDP source port is random, which makes 65,536 flows. One call makes millions of frames, since a call
costs milliseconds to set up.

The sink leaves everything but IPv4 to the stack, so that ARP is answered. By XDP it drops frames where
a device driver gets them (a veth first copies a socket buffer into a page of its own for that); by tc
it drops socket buffers, as they come to an ordinary pod.
"""
import ctypes
import os
import signal
import socket
import struct
import sys
import time

# linux/bpf.h
MAP_CREATE, MAP_LOOKUP, PROG_LOAD, PROG_RUN, LINK_CREATE = 0, 1, 5, 10, 28
MAP_PERCPU_ARRAY = 6
PROG_TYPE_SCHED_CLS, PROG_TYPE_XDP, ATTACH_XDP, ATTACH_TCX_INGRESS = 3, 6, 37, 46
XDP_DROP, XDP_PASS = 1, 2
TC_DROP, TC_NEXT = 2, -1
LIVE_FRAMES, NATIVE = 1 << 1, 1 << 2
GET_PRANDOM, REDIRECT, LOOKUP_ELEM = 7, 23, 1
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes.ljust(152, b"\0"), 152)
    result = libc.syscall(SYS_BPF, command, buffer, 152)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return result


def insn(code, dst=0, src=0, offset=0, imm=0):
    return struct.pack("<BBhI", code, src << 4 | dst, offset, imm & 0xFFFFFFFF)


def load_program(code, kind=PROG_TYPE_XDP):
    log = ctypes.create_string_buffer(65536)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQIIQ", kind, len(code) // 8, ctypes.addressof(instructions),
        ctypes.addressof(licence), 1, len(log), ctypes.addressof(log))
    try:
        return bpf(PROG_LOAD, attributes)
    except OSError as error:
        raise SystemExit(f"the kernel refused an XDP program: {error}\n{log.value.decode()}")


def checksum(header):
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_frame(dst_mac, src_ip, dst_ip, size):
    """A frame of `size` bytes without FCS; the source port is filled in by the program."""
    ethernet = bytes.fromhex(dst_mac.replace(":", "")) + bytes.fromhex("020000000101") + b"\x08\x00"
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size - 14, 0, 0, 64, 17, 0,
                     socket.inet_aton(src_ip), socket.inet_aton(dst_ip))
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    udp = struct.pack(">HHHH", 0, 9, size - 34, 0)
    return (ethernet + ip + udp).ljust(size, b"\0")


def end_with_parent():
    """A generator that outlives the bench which was stopped would load the machine for ever."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def generate(device, dst_mac, src_ip, dst_ip, size=60):
    end_with_parent()
    frame = udp_frame(dst_mac, src_ip, dst_ip, int(size))
    ifindex = socket.if_nametoindex(device)
    headers = frame[:44]
    code = insn(0xBF, 6, 1) + insn(0x85, imm=GET_PRANDOM)
    code += insn(0x61, 2, 6, 0) + insn(0x61, 3, 6, 4)
    code += insn(0xBF, 4, 2) + insn(0x07, 4, imm=len(headers))
    words = b"".join(
        insn(0x62, 2, 0, at, int.from_bytes(headers[at:at + 4], "little")) for at in range(0, len(headers), 4))
    body = words + insn(0x6B, 2, 0, 34)
    body += insn(0xB7, 1, imm=ifindex) + insn(0xB7, 2, imm=0) + insn(0x85, imm=REDIRECT) + insn(0x95)
    code += insn(0x2D, 4, 3, len(body) // 8) + body + insn(0xB7, 0, imm=XDP_DROP) + insn(0x95)
    program = load_program(code)
    data = ctypes.create_string_buffer(frame, len(frame))
    while True:
        # prog_fd retval size_in size_out data_in data_out repeat duration ctx_sizes ctx flags cpu batch
        bpf(PROG_RUN, struct.pack(
            "<IIIIQQIIIIQQIII", program, 0, len(frame), 0, ctypes.addressof(data), 0,
            4_000_000, 0, 0, 0, 0, 0, LIVE_FRAMES, 0, 64))


def redirect(device, out):
    """The least that forwarding can be: no lookup, no header touched. Until standard input ends."""
    code = insn(0xB7, 1, imm=socket.if_nametoindex(out)) + insn(0xB7, 2, imm=0)
    code += insn(0x85, imm=REDIRECT) + insn(0x95)
    link = bpf(LINK_CREATE, struct.pack("<IIII", load_program(code), socket.if_nametoindex(device), ATTACH_XDP,
                                        NATIVE))
    print("ready", flush=True)
    sys.stdin.read()
    os.close(link)


def sink(device, kind="xdp"):
    xdp = kind == "xdp"
    counter = bpf(MAP_CREATE, struct.pack("<IIII", MAP_PERCPU_ARRAY, 4, 8, 1))
    passing = insn(0xB7, 0, imm=XDP_PASS if xdp else TC_NEXT) + insn(0x95)
    counting = insn(0x62, 10, 0, -4, 0) + insn(0xBF, 2, 10) + insn(0x07, 2, imm=-4)
    counting += insn(0x18, 1, 1, imm=counter) + insn(0) + insn(0x85, imm=LOOKUP_ELEM)
    counting += insn(0x15, 0, 0, 3) + insn(0x79, 1, 0) + insn(0x07, 1, imm=1) + insn(0x7B, 0, 1)
    counting += insn(0xB7, 0, imm=XDP_DROP if xdp else TC_DROP) + insn(0x95)
    if xdp:
        code = insn(0x61, 2, 1, 0) + insn(0x61, 3, 1, 4) + insn(0xBF, 4, 2) + insn(0x07, 4, imm=14)
        code += insn(0x2D, 4, 3, 2) + insn(0x69, 4, 2, 12) + insn(0x15, 4, 0, 2, imm=0x0008)
        program = load_program(code + passing + counting)
    else:
        # __sk_buff.protocol, in network order.
        code = insn(0x61, 4, 1, 16) + insn(0x15, 4, 0, 2, imm=0x0008)
        program = load_program(code + passing + counting, PROG_TYPE_SCHED_CLS)
    attach, flags = (ATTACH_XDP, NATIVE) if xdp else (ATTACH_TCX_INGRESS, 0)
    link = bpf(LINK_CREATE, struct.pack("<IIII", program, socket.if_nametoindex(device), attach, flags))
    cpus = os.sysconf("SC_NPROCESSORS_CONF")
    key, values = ctypes.create_string_buffer(4), ctypes.create_string_buffer(8 * cpus)
    print("ready", flush=True)
    for _ in sys.stdin:
        bpf(MAP_LOOKUP, struct.pack("<IIQQQ", counter, 0, ctypes.addressof(key), ctypes.addressof(values), 0))
        print(sum(struct.unpack(f"<{cpus}Q", values.raw)), time.monotonic_ns(), flush=True)
    os.close(link)


if __name__ == "__main__":
    commands = {"generate": generate, "redirect": redirect, "sink": sink}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
