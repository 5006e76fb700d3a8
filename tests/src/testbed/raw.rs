//! Frames as they are, from a device: a packet socket, which Python's standard library has.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::Netns;

/// Reads frames, each behind its length in two octets, and answers 1 for sent, 0 for refused.
const SENDER: &str = "
import socket, sys
device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
device.bind((sys.argv[1], 0))
while head := sys.stdin.buffer.read(2):
    frame = sys.stdin.buffer.read(int.from_bytes(head, 'big'))
    try:
        device.send(frame)
        answer = b'1'
    except OSError:
        answer = b'0'
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
";

/// Sends whole Ethernet frames from a device of a namespace.
pub struct RawSender {
    child: Child,
    pipes: RefCell<(ChildStdin, ChildStdout)>,
}

impl RawSender {
    /// A sender on `device`.
    #[track_caller]
    pub fn new(netns: &Netns, device: &str) -> Self {
        let mut child = netns
            .command("/usr/bin/python3")
            .args(["-c", SENDER, device])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip(8) can be started");
        let pipes = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, pipes: RefCell::new(pipes) }
    }

    /// Sends a frame; whether the kernel took it.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) -> bool {
        let (input, output) = &mut *self.pipes.borrow_mut();
        let len = u16::try_from(frame.len()).expect("a frame is short");
        input.write_all(&[&len.to_be_bytes(), frame].concat()).expect("the sender reads");
        let mut answer = [0];
        output.read_exact(&mut answer).expect("the sender answers");
        answer == *b"1"
    }
}

impl Drop for RawSender {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
