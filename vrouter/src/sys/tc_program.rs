//! The programs of uplinks on packet sockets: which frames are the router's, as `xdp_program` has it,
//! asked where the kernel's stack is about to get them.
//!
//! ```text
//!             sockets of           ingress           sockets of
//!   device --> all protocols --> [program] -------> one protocol --> IP, ARP
//!              exclusive: ours    drop, all
//!              shared:            ours: mark,        ours: what     drops what is
//!                                 "other host"       is marked      for other hosts
//! ```
//!
//! Super-packets of the device's receive offload come through whole, which is what these uplinks are for.
//!
//! On a shared uplink one decision serves both sides. The program gives what is the router's a mark and
//! the packet type of a frame for another host; the router's sockets take what has both, and the stack
//! drops frames for other hosts before it does anything else with them. What another program of the hook
//! does afterwards is its business: the verdict is "go on". On an exclusive uplink the router's socket
//! has seen every frame before the program runs, so that all are dropped.
//!
//! Headers need not lie in a packet's first buffer here, as they do for XDP: they are pulled there. A
//! VLAN tag is beside the packet; tagged frames are nobody's but the kernel's.
//!
//! Sources: `__netif_receive_skb_core` in the kernel's `net/core/dev.c`, `ip_rcv_core`, `net/core/filter.c`.

use super::bpf_asm::{Assembler, Helper, If, Insn, Label, Op, Reg, Size};
use super::xdp_program::{
    DeviceMaps, END, ETHERNET, Exits, FRAME, NO_SOCKET, PASSED, REDIRECTED, SharedMaps, count, decide, need,
};

/// The mark of the router's packets, with [`OTHER_HOST`] beside it.
pub(super) const MARK: u32 = 0x7652_6f75;
/// `PACKET_OTHERHOST`
pub(super) const OTHER_HOST: u32 = 3;

/// `TCX_NEXT`: the next program decides, or nobody.
pub(super) const NEXT: i32 = -1;
/// `TCX_DROP`
pub(super) const DROP: i32 = 2;

/// Bytes of headers that the classification may look at.
const HEADERS: i32 = 128;

// Offsets of `struct __sk_buff`.
const SKB_LEN: i16 = 0;
const SKB_MARK: i16 = 8;
const SKB_VLAN_PRESENT: i16 = 20;
const SKB_DATA: i16 = 76;
const SKB_DATA_END: i16 = 80;

/// Where the packet's structure is kept on the stack.
const CONTEXT: i16 = -72;

/// Drops every frame: the router's socket has it. Those with a VLAN tag it has refused.
pub(super) fn drop_all(maps: &DeviceMaps) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let tagged = asm.label();
    asm.load(Size::Word, Reg::R2, Reg::R1, SKB_VLAN_PRESENT);
    asm.jump_if_imm(If::Ne, Reg::R2, 0, tagged);
    count(&mut asm, maps, REDIRECTED);
    asm.mov_imm(Reg::R0, DROP);
    asm.exit();
    asm.bind(tagged);
    count(&mut asm, maps, NO_SOCKET);
    asm.mov_imm(Reg::R0, DROP);
    asm.exit();
    asm.finish()
}

/// Marks what is the router's on an uplink that the node's own stack uses too.
pub(super) fn mark_ours(maps: &DeviceMaps, shared: &SharedMaps) -> Vec<Insn> {
    let mut asm = Assembler::default();
    let a = &mut asm;
    let (take, pass, failed) = (a.label(), a.label(), a.label());

    a.store(Size::Double, Reg::R10, CONTEXT, Reg::R1);
    a.load(Size::Word, Reg::R2, Reg::R1, SKB_VLAN_PRESENT);
    a.jump_if_imm(If::Ne, Reg::R2, 0, pass);
    pull_headers(a, failed);
    need(a, FRAME, ETHERNET, pass);
    decide(a, shared, Exits { take, pass });

    a.bind(take);
    a.load(Size::Double, Reg::R1, Reg::R10, CONTEXT);
    a.mov_imm(Reg::R2, OTHER_HOST as i32);
    a.call(Helper::SkbChangeType);
    a.jump_if_imm(If::Ne, Reg::R0, 0, failed);
    a.load(Size::Double, Reg::R1, Reg::R10, CONTEXT);
    a.mov_imm(Reg::R2, MARK as i32);
    a.store(Size::Word, Reg::R1, SKB_MARK, Reg::R2);
    count(a, maps, REDIRECTED);
    a.mov_imm(Reg::R0, NEXT);
    a.exit();

    a.bind(pass);
    count(a, maps, PASSED);
    a.mov_imm(Reg::R0, NEXT);
    a.exit();

    // Nothing that might be ours goes to the stack undecided.
    a.bind(failed);
    count(a, maps, NO_SOCKET);
    a.mov_imm(Reg::R0, DROP);
    a.exit();
    asm.finish()
}

/// Has the first bytes of the packet in `R1`, as many as headers may have, in its first buffer: from
/// `FRAME` to `END`.
fn pull_headers(a: &mut Assembler, failed: Label) {
    let (bounded, pull, here) = (a.label(), a.label(), a.label());
    a.load(Size::Word, Reg::R2, Reg::R1, SKB_LEN);
    a.jump_if_imm(If::Lt, Reg::R2, HEADERS, bounded);
    a.mov_imm(Reg::R2, HEADERS);
    a.bind(bounded);
    load_frame(a);
    a.mov(Reg::R3, FRAME);
    a.alu(Op::Add, Reg::R3, Reg::R2);
    a.jump_if(If::Gt, Reg::R3, END, pull);
    a.jump(here);
    a.bind(pull);
    a.call(Helper::SkbPullData);
    a.jump_if_imm(If::Ne, Reg::R0, 0, failed);
    a.load(Size::Double, Reg::R1, Reg::R10, CONTEXT);
    load_frame(a);
    a.bind(here);
}

fn load_frame(a: &mut Assembler) {
    a.load(Size::Word, FRAME, Reg::R1, SKB_DATA);
    a.load(Size::Word, END, Reg::R1, SKB_DATA_END);
}
