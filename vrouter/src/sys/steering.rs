//! Which queue of a tap or veth a flow's packets arrive by: always the same, both ways alike.
//!
//! ```text
//!   hash = (source ^ destination) ^ (source port ^ destination port) << 16    multiplied, upper half
//!   queue = hash mod queues                                 tap: by the kernel; veth: by the program
//! ```
//!
//! Left to itself, a tap follows the queue that was last written to for a flow, so that a
//! flow whose answers come by another worker moves from queue to queue and its packets
//! overtake each other. Fragments, and what has IPv6 extension headers, go by their
//! addresses alone, as with the hash of a network card. What is no IP goes to queue 0.
//!
//! The end of a veth pair that is inside a pod chooses by a hash of the kernel's own, which for TCP is a
//! random number of each socket. A program on what leaves there says beforehand by which queue the
//! packet would have been received, and the choice follows that (`skb_tx_hash`). Without it (before
//! Linux 6.6) flows keep their queues too, but the two ways of a flow have different ones.
//!
//! Source: `TUNSETSTEERINGEBPF` in the kernel's `drivers/net/tun.c`; `netdev_pick_tx` in `net/core/dev.c`.

use super::OsError;
use super::bpf::{Link, Program};
use super::bpf_asm::{Assembler, Helper, If, Insn, Op, Reg, Size};
use super::ifreq::Interface;

/// Fibonacci hashing: 2^32 divided by the golden ratio.
const MULTIPLIER: i32 = 0x9e37_79b9_u32.cast_signed();
/// Bytes of an Ethernet header.
const ETHERNET: i32 = 14;
/// Where the program keeps the IP header, and other bytes, on its stack.
const HEADER: i16 = -64;
const SCRATCH: i16 = -72;
/// Where `struct __sk_buff` has the number of a queue, plus one.
const QUEUE_MAPPING: i16 = 12;
/// What comes after this program goes on as if there were none (`TCX_NEXT`).
const NEXT: i32 = -1;

/// Loads the program.
///
/// # Errors
/// With the verifier's words when it refuses the program.
pub(super) fn load() -> Result<Program, OsError> {
    Program::load_steering("vr_steering", &program(None))
}

/// Steering of what leaves by one device; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct EgressSteering {
    _link: Link,
}

/// Steers what leaves by a device of several queues, in the calling thread's network namespace; `None`
/// for one of a single queue.
///
/// # Errors
/// The kernel is older than 6.6, or it refuses.
pub(crate) fn steer_egress(device: &str) -> Result<Option<EgressSteering>, OsError> {
    let interface = Interface::open(device)?;
    let queues = interface.channels()?.map_or(1, |channels| channels.tx_queues());
    if queues <= 1 {
        return Ok(None);
    }
    let program = Program::load_egress("vr_egress", &program(Some(queues)))?;
    let link = program.attach_egress(interface.index()?);
    let link = link.map_err(|errno| OsError::new(format!("steer what leaves by {device}"), errno))?;
    Ok(Some(EgressSteering { _link: link }))
}

/// The program of a tap, or of a device whose `queues` the kernel does not choose by its result.
fn program(queues: Option<u32>) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let (v4, v6, ports, mix, other) = (asm.label(), asm.label(), asm.label(), asm.label(), asm.label());
    asm.mov(Reg::R6, Reg::R1);
    asm.mov_imm(Reg::R2, 12);
    load_bytes(&mut asm, SCRATCH, 2);
    asm.jump_if_imm(If::Ne, Reg::R0, 0, other);
    asm.load(Size::Half, Reg::R2, Reg::R10, SCRATCH);
    asm.be16(Reg::R2);
    asm.jump_if_imm(If::Eq, Reg::R2, 0x0800, v4);
    asm.jump_if_imm(If::Eq, Reg::R2, 0x86dd, v6);
    asm.jump(other);

    asm.bind(v4);
    asm.mov_imm(Reg::R2, ETHERNET);
    load_bytes(&mut asm, HEADER, 20);
    asm.jump_if_imm(If::Ne, Reg::R0, 0, other);
    asm.load(Size::Word, Reg::R7, Reg::R10, HEADER + 12);
    asm.load(Size::Word, Reg::R1, Reg::R10, HEADER + 16);
    asm.alu(Op::Xor, Reg::R7, Reg::R1);
    asm.load(Size::Half, Reg::R1, Reg::R10, HEADER + 6);
    asm.be16(Reg::R1);
    asm.alu_imm(Op::And, Reg::R1, 0x3fff);
    asm.jump_if_imm(If::Ne, Reg::R1, 0, mix);
    asm.load(Size::Byte, Reg::R8, Reg::R10, HEADER + 9);
    asm.load(Size::Byte, Reg::R9, Reg::R10, HEADER);
    asm.alu_imm(Op::And, Reg::R9, 0x0f);
    asm.alu_imm(Op::Shl, Reg::R9, 2);
    asm.alu_imm(Op::Add, Reg::R9, ETHERNET);
    asm.jump(ports);

    asm.bind(v6);
    asm.mov_imm(Reg::R2, ETHERNET);
    load_bytes(&mut asm, HEADER, 40);
    asm.jump_if_imm(If::Ne, Reg::R0, 0, other);
    asm.load(Size::Word, Reg::R7, Reg::R10, HEADER + 8);
    for word in 1..8 {
        asm.load(Size::Word, Reg::R1, Reg::R10, HEADER + 8 + 4 * word);
        asm.alu(Op::Xor, Reg::R7, Reg::R1);
    }
    asm.load(Size::Byte, Reg::R8, Reg::R10, HEADER + 6);
    asm.mov_imm(Reg::R9, ETHERNET + 40);

    asm.bind(ports);
    let has_ports = asm.label();
    for protocol in [6, 17, 132] {
        asm.jump_if_imm(If::Eq, Reg::R8, protocol, has_ports);
    }
    asm.jump(mix);
    asm.bind(has_ports);
    asm.mov(Reg::R2, Reg::R9);
    load_bytes(&mut asm, SCRATCH, 4);
    asm.jump_if_imm(If::Ne, Reg::R0, 0, mix);
    asm.load(Size::Half, Reg::R1, Reg::R10, SCRATCH);
    asm.load(Size::Half, Reg::R2, Reg::R10, SCRATCH + 2);
    asm.alu(Op::Xor, Reg::R1, Reg::R2);
    asm.alu_imm(Op::Shl, Reg::R1, 16);
    asm.alu(Op::Xor, Reg::R7, Reg::R1);

    asm.bind(mix);
    asm.alu_imm(Op::Mul, Reg::R7, MULTIPLIER);
    // The upper half of the low 32 bits.
    asm.alu_imm(Op::Shl, Reg::R7, 32);
    asm.alu_imm(Op::Shr, Reg::R7, 48);
    let Some(queues) = queues else {
        asm.mov(Reg::R0, Reg::R7);
        asm.exit();
        asm.bind(other);
        asm.mov_imm(Reg::R0, 0);
        asm.exit();
        return asm.finish();
    };
    let choose = asm.label();
    asm.alu_imm(Op::Mod, Reg::R7, queues.cast_signed());
    asm.jump(choose);
    asm.bind(other);
    asm.mov_imm(Reg::R7, 0);
    asm.bind(choose);
    asm.alu_imm(Op::Add, Reg::R7, 1);
    asm.store(Size::Word, Reg::R6, QUEUE_MAPPING, Reg::R7);
    asm.mov_imm(Reg::R0, NEXT);
    asm.exit();
    asm.finish()
}

/// Copies bytes of the packet from the offset in `R2` on to the stack; `R0` is 0 if they are there.
fn load_bytes(asm: &mut Assembler, to: i16, len: i32) {
    asm.mov(Reg::R1, Reg::R6);
    asm.mov(Reg::R3, Reg::R10);
    asm.alu_imm(Op::Add, Reg::R3, to.into());
    asm.mov_imm(Reg::R4, len);
    asm.call(Helper::SkbLoadBytes);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use super::super::test_net::{PacketSocket, in_new_netns, run, veth_pair};
    use super::*;

    /// A frame of a flow, and what the module's page says of its hash.
    fn frame(from: (&str, u16), to: (&str, u16), protocol: u8, fragment: u16) -> (Vec<u8>, u32) {
        let mut frame = vec![2; 12];
        let fold = |bytes: &[u8]| {
            bytes.chunks(4).fold(0, |sum, word| sum ^ u32::from_ne_bytes(word.try_into().unwrap()))
        };
        let mut hash = match (from.0.parse().unwrap(), to.0.parse().unwrap()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([8, 0, 0x46, 0, 0, 32, 0, 0]);
                frame.extend(fragment.to_be_bytes());
                frame.extend([64, protocol, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                frame.extend([1; 4]);
                fold(&source.octets()) ^ fold(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, protocol, 64]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                fold(&source.octets()) ^ fold(&destination.octets())
            }
            _ => panic!("two families"),
        };
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend([0; 8]);
        if fragment & 0x3fff == 0 && [6, 17, 132].contains(&protocol) {
            let port = |port: u16| u32::from(u16::from_ne_bytes(port.to_be_bytes()));
            hash ^= (port(from.1) ^ port(to.1)) << 16;
        }
        (frame, hash.wrapping_mul(0x9e37_79b9) >> 16)
    }

    /// The program on a frame. A test run takes an Ethernet header away first, a tap does not.
    fn steer(program: &Program, frame: &[u8]) -> u32 {
        program.test_run(&[&[0; 14], frame].concat()).unwrap()
    }

    #[test]
    fn both_ways_of_a_flow_have_one_queue_root() {
        let program = load().unwrap();
        let (a4, b4) = (("10.1.0.1", 4000), ("10.2.3.4", 80));
        let (a6, b6) = (("fd00::1", 4000), ("fd00:9::ff", 80));
        let mut seen = std::collections::BTreeSet::new();
        for (from, to, protocol, fragment) in [
            (a4, b4, 6, 0x4000),
            (a4, b4, 17, 0),
            (a4, b4, 17, 0x2000),
            (a4, b4, 17, 0x0010),
            (a4, b4, 1, 0),
            (a6, b6, 6, 0),
            (a6, b6, 58, 0),
            (("10.1.0.1", 4001), b4, 6, 0),
            (("10.1.0.1", 4002), b4, 132, 0),
        ] {
            let (there, hash) = frame(from, to, protocol, fragment);
            let (back, same) = frame(to, from, protocol, fragment);
            assert_eq!(hash, same);
            assert_eq!(steer(&program, &there), hash, "{from:?} {to:?} {protocol} {fragment:#x}");
            assert_eq!(steer(&program, &back), hash);
            seen.insert(hash);
        }
        assert_eq!(seen.len(), 6, "TCP with and without ports apart, by family and by port");
        // Neither IP nor whole.
        assert_eq!(steer(&program, &[2; 60]), 0);
        let (whole, _) = frame(a4, b4, 6, 0);
        assert_eq!(steer(&program, &whole[..20]), 0);
    }

    /// Packets that each receive queue of a device has had.
    fn by_queue(device: &str) -> Vec<u64> {
        let text = run(&format!("ethtool -S {device}"));
        let lines = text.lines().filter(|line| line.contains("rx_queue_") && line.contains("xdp_packets"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn what_leaves_by_a_veth_is_received_by_the_queue_of_its_flow_root() {
        in_new_netns(|| {
            veth_pair(4);
            // Only then are packets received by queue rather than by core, and counted so.
            run("ethtool -K va tso off");
            run("ethtool -K vb gro on");
            assert!(steer_egress("lo").unwrap().is_none(), "a single queue");
            let steering = steer_egress("va").unwrap().expect("four queues");
            let socket = PacketSocket::on("va");
            let mut before = by_queue("vb");
            assert_eq!(before.len(), 4);
            for port in 0..40 {
                let (a, b) = (("10.1.0.1", 4000 + port), ("10.2.3.4", 80));
                let (there, hash) = frame(a, b, 6, 0);
                let (back, _) = frame(b, a, 6, 0);
                socket.send(&there);
                socket.send(&back);
                let start = Instant::now();
                let mut after = by_queue("vb");
                while after.iter().sum::<u64>() < before.iter().sum::<u64>() + 2 {
                    assert!(start.elapsed() < Duration::from_secs(10), "{before:?} {after:?}");
                    after = by_queue("vb");
                }
                assert_eq!(after[hash as usize % 4], before[hash as usize % 4] + 2, "{before:?} {after:?}");
                before = after;
            }
            drop(steering);
        });
    }

    #[test]
    fn flows_are_spread() {
        let mut queues = [0_u32; 4];
        for port in 0..1000 {
            let (_, hash) = frame(("10.1.0.1", 20_000 + port), ("10.2.3.4", 80), 6, 0);
            queues[hash as usize % 4] += 1;
        }
        assert!(queues.iter().all(|count| (200..300).contains(count)), "{queues:?}");
    }
}
