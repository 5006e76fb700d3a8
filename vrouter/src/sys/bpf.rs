//! The bpf(2) system call: maps, programs, links, test runs.
//!
//! Every object is an owned descriptor; closing the last one removes the object. A
//! program is attached by a link, which the kernel dissolves when its descriptor is
//! closed, so that no program outlives a process that was killed.
//!
//! Source: bpf(2), `linux/bpf.h`.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use super::bpf_asm::Insn;
use super::error::{OsError, last_errno};
use super::plain::Plain;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_int = 10;
const LINK_CREATE: libc::c_int = 28;
const LINK_DETACH: libc::c_int = 34;

const PROG_TYPE_SOCKET_FILTER: u32 = 1;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const ATTACH_TYPE_TCX_INGRESS: u32 = 46;
const ATTACH_TYPE_TCX_EGRESS: u32 = 47;
const F_NO_PREALLOC: u32 = 1;
const F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Kind of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(super) enum MapKind {
    Hash = 1,
    /// Zeroed; entries cannot be deleted.
    Array = 2,
    /// An array of which each CPU has its own copy.
    PerCpuArray = 6,
    /// Longest-prefix match; the key is a `u32` prefix length and the address.
    LpmTrie = 11,
    /// Queue number to AF_XDP socket; entries leave when their socket closes.
    XskMap = 17,
}

/// A map with keys `K` and values `V` (for per-CPU maps: one CPU's value).
#[derive(Debug)]
pub(super) struct Map<K, V> {
    fd: OwnedFd,
    name: &'static str,
    kind: MapKind,
    types: PhantomData<fn(K) -> V>,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Creates a map; `name` shows in `bpftool map` (letters, digits, `_`; 15 bytes).
    pub(super) fn new(kind: MapKind, name: &'static str, max_entries: u32) -> Result<Self, OsError> {
        // The kernel allocates these entry by entry, so that room for many costs nothing.
        let flags = match kind {
            MapKind::Hash | MapKind::LpmTrie => F_NO_PREALLOC,
            MapKind::Array | MapKind::PerCpuArray | MapKind::XskMap => 0,
        };
        let mut attr = MapCreate {
            kind: kind as u32,
            key_size: size_of::<K>() as u32,
            value_size: size_of::<V>() as u32,
            max_entries,
            flags,
            inner_map_fd: 0,
            numa_node: 0,
            name: object_name(name),
        };
        // SAFETY: MAP_CREATE follows no pointer and returns a new descriptor.
        let fd = unsafe { bpf_fd(MAP_CREATE, &mut attr) }.map_err(|errno| {
            let hint = if errno == Errno::PERM { "CAP_BPF or CAP_NET_ADMIN is missing" } else { "" };
            OsError::new(format!("create the BPF map {name}"), errno).hint(hint)
        })?;
        Ok(Self { fd, name, kind, types: PhantomData })
    }

    /// Inserts or replaces.
    pub(super) fn set(&self, key: &K, value: &V) -> Result<(), OsError> {
        assert!(self.kind != MapKind::PerCpuArray, "written by programs only");
        let mut attr = self.element(key, std::ptr::from_ref(value) as u64);
        // SAFETY: the map was created with the sizes of `K` and `V` and is not per CPU, so
        // the kernel reads just these two.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop).map_err(|errno| {
            let hint = if errno == Errno::NOSPC { "the map is full" } else { "" };
            OsError::new(format!("write to the BPF map {}", self.name), errno).hint(hint)
        })
    }

    /// Removes; whether it was there.
    pub(super) fn remove(&self, key: &K) -> Result<bool, OsError> {
        let mut attr = self.element(key, 0);
        // SAFETY: the map was created with the size of `K`, which is all that is read.
        match unsafe { bpf(MAP_DELETE_ELEM, &mut attr) } {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(OsError::new(format!("remove from the BPF map {}", self.name), errno)),
        }
    }

    fn element(&self, key: &K, value: u64) -> MapElement {
        let map_fd = self.fd.as_raw_fd() as u32;
        MapElement { map_fd, _pad: 0, key: std::ptr::from_ref(key) as u64, value, flags: 0 }
    }
}

impl Map<u32, u64> {
    /// The sum of a [`MapKind::PerCpuArray`]'s entry over all CPUs.
    pub(super) fn sum(&self, index: u32) -> Result<u64, OsError> {
        assert!(self.kind == MapKind::PerCpuArray, "other kinds have one value");
        let step = || format!("read the BPF map {}", self.name);
        let cpus = possible_cpus().map_err(|error| OsError::new(step(), error))?;
        let mut values = vec![0u64; cpus];
        let mut attr = self.element(&index, values.as_mut_ptr() as u64);
        // SAFETY: for a per-CPU map the kernel writes one 8-byte value for each possible
        // CPU, for which `values` has room.
        unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }.map_err(|errno| OsError::new(step(), errno))?;
        Ok(values.iter().sum())
    }
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A loaded and verified program.
#[derive(Debug)]
pub(super) struct Program {
    fd: OwnedFd,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    expected_attach_type: u32,
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
}

impl Program {
    /// Loads an XDP program. `multi_buffer`: it may see packets of several buffers (Linux
    /// 5.18), of which it reads the first.
    ///
    /// # Errors
    /// With the verifier's words when it refuses the program.
    pub(super) fn load(name: &'static str, code: &[Insn], multi_buffer: bool) -> Result<Self, OsError> {
        let flags = if multi_buffer { F_XDP_HAS_FRAGS } else { 0 };
        Self::load_kind(name, code, (PROG_TYPE_XDP, ATTACH_TYPE_XDP, flags))
    }

    /// Loads a program for a device's traffic control hook.
    ///
    /// # Errors
    /// With the verifier's words when it refuses the program.
    pub(super) fn load_ingress(name: &'static str, code: &[Insn]) -> Result<Self, OsError> {
        Self::load_kind(name, code, (PROG_TYPE_SCHED_CLS, ATTACH_TYPE_TCX_INGRESS, 0))
    }

    /// Loads a program that chooses a tap's queue, with a socket filter's view of packets.
    ///
    /// # Errors
    /// With the verifier's words when it refuses the program.
    pub(super) fn load_steering(name: &'static str, code: &[Insn]) -> Result<Self, OsError> {
        Self::load_kind(name, code, (PROG_TYPE_SOCKET_FILTER, 0, 0))
    }

    /// Loads a program that sees what leaves by a device, before its queue is chosen.
    ///
    /// # Errors
    /// With the verifier's words when it refuses the program.
    pub(super) fn load_egress(name: &'static str, code: &[Insn]) -> Result<Self, OsError> {
        Self::load_kind(name, code, (PROG_TYPE_SCHED_CLS, ATTACH_TYPE_TCX_EGRESS, 0))
    }

    /// `kind`: program type, attach type, flags.
    fn load_kind(name: &'static str, code: &[Insn], kind: (u32, u32, u32)) -> Result<Self, OsError> {
        let mut log = Vec::new();
        let errno = match Self::try_load(name, code, kind, &mut log) {
            Ok(program) => return Ok(program),
            Err(errno) => errno,
        };
        // Again with a log: it costs time and memory that a good program need not spend.
        log.resize(1 << 20, 0u8);
        match Self::try_load(name, code, kind, &mut log) {
            Ok(program) => Ok(program),
            Err(_) => {
                let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
                let log = String::from_utf8_lossy(&log[..end]);
                let tail: Vec<&str> = log.trim_end().lines().rev().take(12).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                let said = match tail.is_empty() {
                    true => String::new(),
                    false => format!(" (the verifier says: {})", tail.join("; ")),
                };
                let hint = if errno == Errno::PERM { "CAP_BPF or CAP_NET_ADMIN is missing" } else { "" };
                Err(OsError::new(format!("load the BPF program {name}{said}"), errno).hint(hint))
            }
        }
    }

    fn try_load(
        name: &str,
        code: &[Insn],
        (kind, attach_type, flags): (u32, u32, u32),
        log: &mut [u8],
    ) -> Result<Self, Errno> {
        let mut attr = ProgLoad {
            kind,
            insn_count: code.len() as u32,
            insns: code.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: (!log.is_empty()).into(),
            log_size: log.len() as u32,
            log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
            kern_version: 0,
            flags,
            name: object_name(name),
            ifindex: 0,
            expected_attach_type: attach_type,
        };
        // SAFETY: the pointers are valid for the counts beside them (the licence for its
        // terminating zero), the log for writes; the result is a new descriptor.
        unsafe { bpf_fd(PROG_LOAD, &mut attr) }.map(|fd| Self { fd })
    }

    /// Runs the program on `frame`, as if received on queue 0, without redirecting it;
    /// the action that it returns (`XDP_DROP` 1, `XDP_PASS` 2, `XDP_REDIRECT` 4).
    #[cfg(test)]
    pub(super) fn test_run(&self, frame: &[u8]) -> io::Result<u32> {
        let mut attr = TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: 1,
            ..TestRun::default()
        };
        // SAFETY: `data_in` is valid for reads of `data_size_in` bytes; nothing is written
        // out, since no output buffer is given.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
        Ok(attr.retval)
    }

    /// Runs a program of [`load_ingress`](Self::load_ingress) on `frame`; what it returns, and the mark
    /// that the packet has then.
    #[cfg(test)]
    pub(super) fn test_run_ingress(&self, frame: &[u8]) -> io::Result<(i32, u32)> {
        /// Words of `struct __sk_buff`.
        const WORDS: usize = 48;
        let mut context = [0u32; WORDS];
        let mut attr = TestRun {
            prog_fd: self.fd.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: 1,
            ctx_size_out: size_of_val(&context) as u32,
            ctx_out: context.as_mut_ptr() as u64,
            ..TestRun::default()
        };
        // SAFETY: `data_in` is valid for reads of `data_size_in` bytes, `ctx_out` for writes of
        // `ctx_size_out` bytes.
        unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
        Ok((attr.retval.cast_signed(), context[2]))
    }

    /// Attaches the program to the device `ifindex` of the calling thread's network
    /// namespace.
    ///
    /// `EBUSY` or `EEXIST`: the device has an XDP program.
    pub(super) fn attach(&self, ifindex: u32, mode: XdpMode) -> Result<Link, Errno> {
        self.link(ifindex, ATTACH_TYPE_XDP, mode as u32)
    }

    /// Attaches a program of [`load_ingress`](Self::load_ingress) to the device `ifindex`, behind those
    /// that are there. `EINVAL`: Linux 6.6 is needed.
    pub(super) fn attach_ingress(&self, ifindex: u32) -> Result<Link, Errno> {
        self.link(ifindex, ATTACH_TYPE_TCX_INGRESS, 0)
    }

    /// Attaches a program of [`load_egress`](Self::load_egress) (Linux 6.6).
    pub(super) fn attach_egress(&self, ifindex: u32) -> Result<Link, Errno> {
        self.link(ifindex, ATTACH_TYPE_TCX_EGRESS, 0)
    }

    fn link(&self, ifindex: u32, attach_type: u32, flags: u32) -> Result<Link, Errno> {
        let mut attr = LinkCreate { prog_fd: self.fd.as_raw_fd() as u32, ifindex, attach_type, flags };
        // SAFETY: LINK_CREATE for devices follows no pointer and returns a new descriptor.
        unsafe { bpf_fd(LINK_CREATE, &mut attr) }.map(|fd| Link { fd })
    }
}

/// Where in the kernel an XDP program runs (values: `XDP_FLAGS_*_MODE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum XdpMode {
    /// After the kernel has made an skb: any device, slower.
    Generic = 2,
    /// In the driver.
    Native = 4,
}

/// An attachment; dropping it detaches the program.
#[derive(Debug)]
pub(super) struct Link {
    fd: OwnedFd,
}

#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

impl Drop for Link {
    fn drop(&mut self) {
        // Closing the descriptor detaches too, but only when no child between fork and
        // exec holds a copy of it; so does failure here leave it to the close.
        let mut attr = LinkDetach { link_fd: self.fd.as_raw_fd() as u32 };
        // SAFETY: LINK_DETACH follows no pointer.
        let _ = unsafe { bpf(LINK_DETACH, &mut attr) };
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn object_name(name: &str) -> [u8; 16] {
    let mut encoded = [0; 16];
    for (to, from) in encoded[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    encoded
}

/// How many CPUs there may ever be, which is how many values a per-CPU entry has.
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    parse_possible(text.trim()).ok_or_else(|| io::Error::other(format!("not a list of CPUs: {text:?}")))
}

/// `0-3` or `0,2-5`: the highest number, plus one.
fn parse_possible(text: &str) -> Option<usize> {
    text.rsplit([',', '-']).next()?.parse::<usize>().ok()?.checked_add(1)
}

/// # Safety
/// `attr` is the structure that `command` takes, and its pointers are valid for what
/// the command does with them.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is valid for reads and writes of its size; the rest is the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) };
    if result < 0 { Err(last_errno()) } else { Ok(result) }
}

/// # Safety
/// As for [`bpf`], and `command` returns a new descriptor.
unsafe fn bpf_fd<T>(command: libc::c_int, attr: &mut T) -> Result<OwnedFd, Errno> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the descriptor is new and nobody else's. It has close-on-exec set.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

#[cfg(test)]
mod tests {
    use super::super::bpf_asm::{Assembler, Reg, Size};
    use super::*;

    #[test]
    fn maps_root() {
        let hash: Map<[u8; 4], u32> = Map::new(MapKind::Hash, "t_hash", 2).unwrap();
        hash.set(&[1; 4], &7).unwrap();
        hash.set(&[1; 4], &8).unwrap();
        hash.set(&[2; 4], &9).unwrap();
        let text = hash.set(&[3; 4], &1).unwrap_err().to_string();
        assert!(text.contains("t_hash"), "{text}");
        assert!(hash.remove(&[1; 4]).unwrap());
        assert!(!hash.remove(&[1; 4]).unwrap());

        let array: Map<u32, u64> = Map::new(MapKind::PerCpuArray, "t_cpu", 2).unwrap();
        assert_eq!(array.sum(1).unwrap(), 0);
        assert_eq!(array.sum(2).unwrap_err().errno(), Some(libc::ENOENT));
        assert!(Map::<u32, u32>::new(MapKind::Array, "t_none", 0).is_err());
    }

    #[test]
    fn programs_run_and_bad_ones_are_explained_root() {
        let mut asm = Assembler::default();
        asm.mov_imm(Reg::R0, 2);
        asm.exit();
        let program = Program::load("t_pass", &asm.finish(), true).unwrap();
        assert_eq!(program.test_run(&[0; 14]).unwrap(), 2);

        let mut asm = Assembler::default();
        asm.load(Size::Word, Reg::R1, Reg::R1, 0);
        asm.load(Size::Byte, Reg::R0, Reg::R1, 0);
        asm.exit();
        let text = Program::load("t_bad", &asm.finish(), false).unwrap_err().to_string();
        assert!(text.contains("t_bad") && text.contains("invalid access to packet"), "{text}");
    }

    #[test]
    fn lists_of_cpus() {
        for (text, count) in [("0", 1), ("0-1", 2), ("0-127", 128), ("0,2-5", 6), ("0-3,7", 8)] {
            assert_eq!(parse_possible(text), Some(count), "{text}");
        }
        assert_eq!(parse_possible(""), None);
    }
}
