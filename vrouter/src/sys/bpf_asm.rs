//! A small eBPF assembler: instructions, labels, forward jumps.
//!
//! The programs here are short and must load without a compiler at build time. Jumps
//! go forward only, which also lets old verifiers accept them.
//!
//! Source: RFC 9669 (BPF instruction set architecture).

use std::os::fd::{AsRawFd, BorrowedFd};

/// A register. `R0` holds results, `R1` to `R5` arguments (lost in calls), `R6` to `R9`
/// survive calls, `R10` is the frame pointer (read-only, stack grows down to -512).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// Bytes of a load or store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Size {
    Word = 0x00,
    Half = 0x08,
    Byte = 0x10,
    Double = 0x18,
}

/// Condition of a jump; comparisons are unsigned, on 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum If {
    Eq = 0x10,
    Gt = 0x20,
    Set = 0x40,
    Ne = 0x50,
    Lt = 0xa0,
}

/// Arithmetic on 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Op {
    Add = 0x00,
    Mul = 0x20,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
    Mod = 0x90,
    Xor = 0xa0,
}

/// Functions of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub(super) enum Helper {
    /// `R1` map, `R2` pointer to the key; `R0` pointer to the value or null.
    MapLookup = 1,
    /// `R1` packet, `R2` offset, `R3` where to, `R4` bytes; `R0` 0, or negative beyond the packet.
    SkbLoadBytes = 26,
    /// `R1` packet, `R2` packet type; `R0` 0, or negative.
    SkbChangeType = 32,
    /// `R1` packet, `R2` bytes to have in the first buffer; `R0` 0, or negative. Pointers into the packet
    /// are lost.
    SkbPullData = 39,
    /// `R1` map, `R2` index, `R3` action when there is no entry; `R0` action.
    RedirectMap = 51,
}

/// One instruction, as the kernel takes it (`struct bpf_insn`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Insn {
    code: u8,
    /// Destination in the low nibble, source in the high one (little endian).
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[cfg(target_endian = "big")]
compile_error!("the register nibbles of bpf_insn are swapped on big-endian machines");

/// The target of jumps; [`Assembler::bind`] gives it its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(usize);

/// A program being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Insn>,
    /// Each label's place, once bound.
    labels: Vec<Option<usize>>,
    /// Jump instructions and the labels that they go to.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// `dst = src`
    pub(super) fn mov(&mut self, dst: Reg, src: Reg) {
        self.emit(0xbf, dst, src, 0, 0);
    }

    /// `dst = value`
    pub(super) fn mov_imm(&mut self, dst: Reg, value: i32) {
        self.emit(0xb7, dst, Reg::R0, 0, value);
    }

    /// `dst = dst op src`
    pub(super) fn alu(&mut self, op: Op, dst: Reg, src: Reg) {
        self.emit(0x0f | op as u8, dst, src, 0, 0);
    }

    /// `dst = dst op value`
    pub(super) fn alu_imm(&mut self, op: Op, dst: Reg, value: i32) {
        self.emit(0x07 | op as u8, dst, Reg::R0, 0, value);
    }

    /// The low 16 bits from network to host order, the rest cleared.
    pub(super) fn be16(&mut self, dst: Reg) {
        self.emit(0xdc, dst, Reg::R0, 0, 16);
    }

    /// `dst = *(size *)(base + offset)`
    pub(super) fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) {
        self.emit(0x61 | size as u8, dst, base, offset, 0);
    }

    /// `*(size *)(base + offset) = src`
    pub(super) fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) {
        self.emit(0x63 | size as u8, base, src, offset, 0);
    }

    /// `*(size *)(base + offset) = value`
    pub(super) fn store_imm(&mut self, size: Size, base: Reg, offset: i16, value: i32) {
        self.emit(0x62 | size as u8, base, Reg::R0, offset, value);
    }

    /// `dst = map`; the map must be open until the program is loaded.
    pub(super) fn load_map(&mut self, dst: Reg, map: BorrowedFd<'_>) {
        const PSEUDO_MAP_FD: Reg = Reg::R1;
        self.emit(0x18, dst, PSEUDO_MAP_FD, 0, map.as_raw_fd());
        self.emit(0, Reg::R0, Reg::R0, 0, 0);
    }

    /// Calls a function of the kernel; `R1` to `R5` are lost.
    pub(super) fn call(&mut self, helper: Helper) {
        self.emit(0x85, Reg::R0, Reg::R0, 0, helper as i32);
    }

    /// Ends the program with the action in `R0`.
    pub(super) fn exit(&mut self) {
        self.emit(0x95, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes to `target`.
    pub(super) fn jump(&mut self, target: Label) {
        self.jumps.push((self.code.len(), target));
        self.emit(0x05, Reg::R0, Reg::R0, 0, 0);
    }

    /// Goes to `target` if `a condition b`.
    pub(super) fn jump_if(&mut self, condition: If, a: Reg, b: Reg, target: Label) {
        self.jumps.push((self.code.len(), target));
        self.emit(0x0d | condition as u8, a, b, 0, 0);
    }

    /// Goes to `target` if `a condition value`.
    pub(super) fn jump_if_imm(&mut self, condition: If, a: Reg, value: i32, target: Label) {
        self.jumps.push((self.code.len(), target));
        self.emit(0x05 | condition as u8, a, Reg::R0, 0, value);
    }

    /// A new label without a place.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts `label` at the next instruction.
    ///
    /// # Panics
    /// If it has a place already.
    pub(super) fn bind(&mut self, label: Label) {
        let place = &mut self.labels[label.0];
        assert!(place.is_none(), "a label is bound once");
        *place = Some(self.code.len());
    }

    /// The finished program.
    ///
    /// # Panics
    /// If a jump goes to a label without a place, backward, or too far: programs are
    /// fixed at build time, so that is a mistake in this crate.
    pub(super) fn finish(mut self) -> Vec<Insn> {
        for (from, label) in self.jumps {
            let to = self.labels[label.0].expect("every label that is jumped to is bound");
            assert!(to > from, "jumps go forward");
            let distance = i16::try_from(to - from - 1).expect("programs are short");
            self.code[from].offset = distance;
        }
        self.code
    }

    fn emit(&mut self, code: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) {
        let registers = (src as u8) << 4 | dst as u8;
        self.code.push(Insn { code, registers, offset, immediate });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_encodings() {
        let mut asm = Assembler::default();
        asm.mov(Reg::R6, Reg::R1);
        asm.mov_imm(Reg::R0, -2);
        asm.load(Size::Half, Reg::R2, Reg::R7, 12);
        asm.store(Size::Double, Reg::R10, -8, Reg::R3);
        asm.store_imm(Size::Word, Reg::R10, -4, 7);
        asm.alu_imm(Op::And, Reg::R2, 0x1fff);
        asm.alu(Op::Add, Reg::R9, Reg::R1);
        asm.be16(Reg::R2);
        asm.call(Helper::RedirectMap);
        asm.exit();
        let bytes: Vec<[u8; 8]> = asm.finish().iter().map(encode).collect();
        assert_eq!(
            bytes,
            [
                [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
                [0xb7, 0x00, 0, 0, 0xfe, 0xff, 0xff, 0xff],
                [0x69, 0x72, 12, 0, 0, 0, 0, 0],
                [0x7b, 0x3a, 0xf8, 0xff, 0, 0, 0, 0],
                [0x62, 0x0a, 0xfc, 0xff, 7, 0, 0, 0],
                [0x57, 0x02, 0, 0, 0xff, 0x1f, 0, 0],
                [0x0f, 0x19, 0, 0, 0, 0, 0, 0],
                [0xdc, 0x02, 0, 0, 16, 0, 0, 0],
                [0x85, 0x00, 0, 0, 51, 0, 0, 0],
                [0x95, 0x00, 0, 0, 0, 0, 0, 0],
            ]
        );
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut asm = Assembler::default();
        let (near, far) = (asm.label(), asm.label());
        asm.jump_if_imm(If::Ne, Reg::R1, 5, far);
        asm.jump_if(If::Gt, Reg::R1, Reg::R8, near);
        asm.bind(near);
        asm.jump(far);
        asm.exit();
        asm.bind(far);
        asm.exit();
        let code: Vec<[u8; 8]> = asm.finish().iter().map(encode).collect();
        assert_eq!(code[0], [0x55, 0x01, 3, 0, 5, 0, 0, 0]);
        assert_eq!(code[1], [0x2d, 0x81, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code[2], [0x05, 0x00, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    #[should_panic(expected = "jumped to is bound")]
    fn an_unbound_label_is_found() {
        let mut asm = Assembler::default();
        let label = asm.label();
        asm.jump(label);
        asm.finish();
    }

    #[test]
    #[should_panic(expected = "jumps go forward")]
    fn a_backward_jump_is_found() {
        let mut asm = Assembler::default();
        let label = asm.label();
        asm.bind(label);
        asm.jump(label);
        asm.finish();
    }

    fn encode(insn: &Insn) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[0] = insn.code;
        bytes[1] = insn.registers;
        bytes[2..4].copy_from_slice(&insn.offset.to_le_bytes());
        bytes[4..].copy_from_slice(&insn.immediate.to_le_bytes());
        bytes
    }
}
