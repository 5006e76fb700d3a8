//! What one packet costs that a router writes to a tap, or reads from it, by the ways there are.
//!
//! ```text
//!   cargo run --release --manifest-path bench/tap-io/Cargo.toml -- [rounds]      as root
//!
//!   write      one packet a call             read+copy   into a buffer of 64 KiB, copied from there
//!   writev 2   header and frame apart        readv 2     a frame, and a buffer for what is longer
//!                                            readv 38    room for 64 KiB in frames of 2 KiB, and the buffer
//!   io_uring   64 packets a call, file registered
//! ```
//!
//! Written packets end in the namespace's IP input, as they are for another host. Packets to be read are
//! queued by a packet socket beforehand. The ways alternate, 64 packets each, for as many rounds; medians
//! of the time a packet, in nanoseconds.

use std::io::{Error, IoSlice, IoSliceMut, Read, Result, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::{IoUring, opcode, types};

/// Packets of one turn.
const BATCH: usize = 64;
/// Bytes of the virtio-net header.
const HEADER: usize = 10;
/// Bytes of a frame of the router that a packet can have, and frames for 64 KiB.
const PIECE: usize = 1792;
const PIECES: usize = 37;

fn main() -> Result<()> {
    let rounds: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(300);
    // SAFETY: a namespace of its own has no part in memory safety.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let tap = tap()?;
    // No packets of the kernel's own.
    std::fs::write("/proc/sys/net/ipv6/conf/t0/disable_ipv6", "1")?;
    ip("link set t0 mtu 65521 up")?;
    let feeder = packet_socket()?;
    let uring = IoUring::builder().build(BATCH as u32)?;
    uring.submitter().register_files(&[tap.as_raw_fd()])?;
    let mut bench = Bench { tap: tap.into(), feeder, uring, rounds };
    println!("{:>7} {:<24} {:>8}", "bytes", "way", "ns");
    for len in [60, 1400, 9000, 65000] {
        bench.writes(len)?;
        bench.reads(len)?;
    }
    Ok(())
}

struct Bench {
    tap: std::fs::File,
    feeder: OwnedFd,
    uring: IoUring,
    rounds: usize,
}

impl Bench {
    fn writes(&mut self, len: usize) -> Result<()> {
        let message = message(len);
        let pieces: Vec<IoSlice<'_>> = pieces(&message).into_iter().map(IoSlice::new).collect();
        let split = [IoSlice::new(&message[..HEADER]), IoSlice::new(&message[HEADER..])];
        let mut times = vec![Vec::new(); 5];
        for _ in 0..self.rounds {
            times[0].push(timed(|| (0..BATCH).try_for_each(|_| self.tap.write(&message).map(drop)))?);
            times[1].push(timed(|| (0..BATCH).try_for_each(|_| self.tap.write_vectored(&split).map(drop)))?);
            times[2].push(timed(|| (0..BATCH).try_for_each(|_| self.tap.write_vectored(&pieces).map(drop)))?);
            let slices = pieces.as_ptr().cast();
            let entry = || opcode::Writev::new(types::Fixed(0), slices, pieces.len() as u32).build();
            times[3].push(timed(|| submit(&mut self.uring, entry))?);
            let entry =
                || opcode::Write::new(types::Fixed(0), message.as_ptr(), message.len() as u32).build();
            times[4].push(timed(|| submit(&mut self.uring, entry))?);
        }
        let names = ["write", "writev 2", "writev, frames", "io_uring writev, frames", "io_uring write"];
        report(len, &names, times);
        Ok(())
    }

    fn reads(&mut self, len: usize) -> Result<()> {
        let message = message(len);
        let (mut frames, mut rest) = (vec![0; PIECES * PIECE + HEADER], vec![0; 65600]);
        let mut copies = vec![0; BATCH * 2048];
        let mut whole = vec![0; 65600];
        let mut times = vec![Vec::new(); 5];
        for _ in 0..self.rounds {
            self.feed(&message)?;
            times[0].push(timed(|| {
                copies.chunks_exact_mut(2048).try_for_each(|copy| {
                    whole_read(self.tap.read(&mut whole)?, len)?;
                    let first = len.min(PIECE) + HEADER;
                    copy[..first].copy_from_slice(&whole[..first]);
                    Ok(())
                })
            })?);
            for (time, count) in [(1, 1), (2, PIECES)] {
                self.feed(&message)?;
                times[time].push(timed(|| {
                    (0..BATCH).try_for_each(|_| {
                        let mut buffers = buffers(&mut frames, count, &mut rest);
                        let read = self.tap.read_vectored(&mut buffers[..=count])?;
                        whole_read(read, len)
                    })
                })?);
            }
            self.feed(&message)?;
            let mut buffers = buffers(&mut frames, 1, &mut rest);
            let slices = buffers.as_mut_ptr().cast();
            // The packets overwrite one another, as nobody reads them.
            let entry = || opcode::Readv::new(types::Fixed(0), slices, 2).build();
            times[3].push(timed(|| submit(&mut self.uring, entry))?);
            self.feed(&message)?;
            let slices = whole.as_mut_ptr();
            let entry = || opcode::Read::new(types::Fixed(0), slices, 65600).build();
            times[4].push(timed(|| submit(&mut self.uring, entry))?);
        }
        report(len, &["read+copy", "readv 2", "readv 38", "io_uring readv 2", "io_uring read"], times);
        Ok(())
    }

    /// Queues packets to be read.
    fn feed(&self, message: &[u8]) -> Result<()> {
        let frame = &message[HEADER..];
        for _ in 0..BATCH {
            let fd = self.feeder.as_raw_fd();
            // SAFETY: `frame` is valid for reads of its length.
            let sent = unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), 0) };
            if sent < 0 {
                return Err(Error::last_os_error());
            }
        }
        Ok(())
    }
}

fn whole_read(read: usize, len: usize) -> Result<()> {
    if read == len + HEADER { Ok(()) } else { Err(Error::other(format!("{read} bytes read"))) }
}

/// The first of so many frames with room for the header, and behind them the buffer for the rest.
fn buffers<'a>(frames: &'a mut [u8], count: usize, rest: &'a mut [u8]) -> [IoSliceMut<'a>; PIECES + 1] {
    let (first, others) = frames.split_at_mut(PIECE + HEADER);
    let mut all = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    all[0] = IoSliceMut::new(first);
    for (slot, frame) in all[1..count].iter_mut().zip(others.chunks_exact_mut(PIECE)) {
        *slot = IoSliceMut::new(frame);
    }
    all[count] = IoSliceMut::new(rest);
    all
}

/// Has the kernel do one thing 64 times.
fn submit(uring: &mut IoUring, entry: impl Fn() -> io_uring::squeue::Entry) -> Result<()> {
    for _ in 0..BATCH {
        // SAFETY: what the entry leads to outlives `submit_and_wait`, after which all are complete.
        unsafe { uring.submission().push(&entry()) }.map_err(Error::other)?;
    }
    uring.submit_and_wait(BATCH)?;
    match uring.completion().map(|done| done.result()).find(|result| *result < 0) {
        Some(result) => Err(Error::from_raw_os_error(-result)),
        None => Ok(()),
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_nanos() as f64 / BATCH as f64)
}

fn report(len: usize, names: &[&str], times: Vec<Vec<f64>>) {
    for (name, mut times) in names.iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{len:>7} {name:<24} {:>8.0}", times[times.len() / 2]);
    }
}

/// A frame for another host behind an empty header.
fn message(len: usize) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0, 0x45]);
    message.resize(HEADER + len, 0);
    message
}

/// A message as a chain of frames has it.
fn pieces(message: &[u8]) -> Vec<&[u8]> {
    let (first, rest) = message.split_at(message.len().min(PIECE + HEADER));
    std::iter::once(first).chain(rest.chunks(PIECE)).collect()
}

fn tap() -> Result<OwnedFd> {
    // SAFETY: the path is a string that ends with zero.
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), libc::O_RDWR | libc::O_NONBLOCK) };
    check(fd)?;
    // SAFETY: the descriptor is new and nobody else's.
    let tap = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: zeros are a valid request; TUNSETIFF reads and writes one, TUNSETVNETHDRSZ reads a number.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"t0") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
        check(libc::ioctl(fd, libc::TUNSETIFF, &raw mut request))?;
        let header = HEADER as libc::c_int;
        check(libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header))?;
    }
    Ok(tap)
}

/// A socket that sends to the reader of the tap.
fn packet_socket() -> Result<OwnedFd> {
    // SAFETY: the socket's descriptor is new and nobody else's; zeros are a valid address, of which bind
    // reads just the size.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        check(fd)?;
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = libc::if_nametoindex(c"t0".as_ptr()) as i32;
        let len = size_of_val(&address) as u32;
        check(libc::bind(fd, (&raw const address).cast(), len))?;
        let buffer: libc::c_int = 32 << 20;
        let len = size_of_val(&buffer) as u32;
        let buffer = (&raw const buffer).cast();
        check(libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, buffer, len))?;
        Ok(socket)
    }
}

fn ip(arguments: &str) -> Result<()> {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("ip {arguments}: {status}"))) }
}

fn check(result: libc::c_int) -> Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}
