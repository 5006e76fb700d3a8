//! Which queue of a tap a flow's packets arrive by: always the same, both ways alike.
//!
//! ```text
//!   hash = (source ^ destination) ^ (source port ^ destination port) << 16    multiplied, upper half
//!   queue = hash mod queues                                                  by the kernel
//! ```
//!
//! Left to itself, a tap follows the queue that was last written to for a flow, so that a
//! flow whose answers come by another worker moves from queue to queue and its packets
//! overtake each other. Fragments, and what has IPv6 extension headers, go by their
//! addresses alone, as with the hash of a network card. What is no IP goes to queue 0.
//!
//! Source: `TUNSETSTEERINGEBPF` in the kernel's `drivers/net/tun.c`.

use super::OsError;
use super::bpf::Program;
use super::bpf_asm::{Assembler, Helper, If, Insn, Op, Reg, Size};

/// Fibonacci hashing: 2^32 divided by the golden ratio.
const MULTIPLIER: i32 = 0x9e37_79b9_u32.cast_signed();
/// Bytes of an Ethernet header.
const ETHERNET: i32 = 14;
/// Where the program keeps the IP header, and other bytes, on its stack.
const HEADER: i16 = -64;
const SCRATCH: i16 = -72;

/// Loads the program.
///
/// # Errors
/// With the verifier's words when it refuses the program.
pub(super) fn load() -> Result<Program, OsError> {
    Program::load_steering("vr_steering", &program())
}

fn program() -> Vec<Insn> {
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
    asm.mov(Reg::R0, Reg::R7);
    asm.exit();

    asm.bind(other);
    asm.mov_imm(Reg::R0, 0);
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
