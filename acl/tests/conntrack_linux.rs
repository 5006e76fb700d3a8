//! The flow table beside Linux's conntrack: the same packets through a namespace that forwards and drops what
//! nf_conntrack calls invalid, and through the table. After each packet both must have let it pass or not, and
//! name the same state.
//!
//! ```text
//!   frame ── tap ──► forward: ct state invalid drop ──► tap      linux_cases/kernel.py
//!   header ────────► lookup, track, insert                       the table
//! ```
//!
//! Where the table means to differ, the step says so and why, and differs it must. As root: a namespace is made.
// Every function here is a test's.
#![allow(clippy::unwrap_used)]
#![cfg(not(feature = "loom"))]

mod linux_cases;

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use acl::conntrack::{
    Addresses, Capacity, Conntrack, Found, Headers, Phase, Settings, SideVerdict, TcpSegment, Tick, Tuple,
};
use acl::{Action, RuleId, Verdict};

const OPENER: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);
const PEER_PORT: u16 = 80;
/// A port of no flow.
const NO_PORT: u16 = 9;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const NOW: Tick = Tick::from_millis(60_000);

/// A packet of a case.
#[derive(Clone, Debug)]
struct Step {
    from_opener: bool,
    what: What,
    /// What the table does on purpose that Linux does not: whether the packet passes, the state in Linux's words,
    /// and why.
    unlike: Option<(bool, &'static str, &'static str)>,
}

#[derive(Clone, Debug)]
enum What {
    Tcp(TcpSegment),
    Udp,
    /// An echo or a timestamp: its type; whether its identifier is the case's.
    Ask(u8, bool),
    /// A port that cannot be reached, of the UDP flow or of none.
    Unreachable {
        known: bool,
    },
}

impl What {
    fn protocol(&self) -> u8 {
        match self {
            What::Tcp(_) => TCP,
            What::Udp => UDP,
            What::Ask(..) | What::Unreachable { .. } => ICMP,
        }
    }

    /// The protocol of the flow that it is about.
    fn flow_protocol(&self) -> u8 {
        if matches!(self, What::Unreachable { .. }) { UDP } else { self.protocol() }
    }
}

/// Source and destination, with their ports, of a packet of the case with this port.
fn ends(from_opener: bool, port: u16) -> [(Ipv4Addr, u16); 2] {
    let ends = [(OPENER, port), (PEER, PEER_PORT)];
    if from_opener { ends } else { [ends[1], ends[0]] }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum + (sum >> 16)) as u16).to_be_bytes()
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    header[4..6].copy_from_slice(&id.to_be_bytes());
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], &rest, data].concat();
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum);
    message
}

/// What follows the IP header. Checksums of TCP and UDP are left out; Linux is told not to look at them.
fn transport(step: &Step, port: u16) -> Vec<u8> {
    let [source, destination] = ends(step.from_opener, port);
    let ports = |from: u16, to: u16| [from.to_be_bytes(), to.to_be_bytes()].concat();
    let datagram = |from: u16, to: u16| [&ports(from, to)[..], &[0, 8, 0, 0]].concat();
    match &step.what {
        What::Tcp(segment) => {
            let options = segment.scale.map_or(Vec::new(), |shift| vec![1, 3, 3, shift]);
            let numbers = [segment.seq.to_be_bytes(), segment.ack.to_be_bytes()].concat();
            let [high, low] = segment.window.to_be_bytes();
            let rest = [(5 + options.len() as u8 / 4) << 4, segment.flags, high, low, 0, 0, 0, 0];
            let data = vec![0; segment.payload as usize];
            [&ports(source.1, destination.1)[..], &numbers, &rest, &options, &data].concat()
        }
        What::Udp => datagram(source.1, destination.1),
        What::Ask(kind, own) => {
            let [high, low] = if *own { port } else { NO_PORT }.to_be_bytes();
            // A timestamp has three numbers behind.
            icmp(*kind, 0, [high, low, 0, 1], &[0; 12])
        }
        What::Unreachable { known } => {
            // It quotes what its receiver has sent.
            let from = if *known { destination.1 } else { NO_PORT };
            let quoted = ipv4(destination.0, source.0, UDP, 1, &datagram(from, source.1));
            icmp(3, 3, [0; 4], &quoted)
        }
    }
}

/// A process with a namespace of its own.
struct Linux {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    id: u16,
}

impl Linux {
    fn new() -> Self {
        let script = include_str!("linux_cases/kernel.py");
        let mut child = Command::new("unshare")
            .args(["--net", "/usr/bin/python3", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Linux { child, input, output, id: 0 }
    }

    /// Whether a packet passes, and the state of its flow then.
    fn step(&mut self, step: &Step, port: u16) -> (bool, String) {
        self.id += 1;
        let [source, destination] = ends(step.from_opener, port);
        let payload = transport(step, port);
        let packet = ipv4(source.0, destination.0, step.what.protocol(), self.id, &payload);
        let end = if step.from_opener { 1 } else { 2 };
        let frame = [&[2, 0, 0, 0, 0, end, 2, 0, 0, 0, 1, end, 8, 0][..], &packet].concat();
        let hex: String = frame.iter().map(|octet| format!("{octet:02x}")).collect();
        let protocol = step.what.flow_protocol();
        let by = if protocol == ICMP { "id" } else { "sport" };
        writeln!(self.input, "{} {protocol} {by}={port} {hex}", end - 1).unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        let (passed, state) = answer.trim().split_once(' ').expect("the kernel's side says why it ended");
        (passed == "1", state.to_owned())
    }
}

impl Drop for Linux {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The table, a packet at a time.
struct Ours {
    table: Conntrack,
    headers: Box<Headers>,
    found: Box<Found>,
}

impl Ours {
    fn new() -> Self {
        let capacity = Capacity { flows: 1024, endpoints: 4 };
        let mut settings = Settings::of(capacity);
        settings.limits.evictable = 1024;
        settings.limits.evictable_under_pressure = 1024;
        let table = Conntrack::new(capacity, [7, 9], &settings).unwrap();
        Ours { table, headers: Box::default(), found: Box::default() }
    }

    fn tuple(step: &Step, port: u16) -> Tuple {
        let [source, destination] = ends(step.from_opener, port);
        let tuple = Tuple {
            addresses: Addresses::V4(source.0, destination.0),
            src_port: source.1,
            dst_port: destination.1,
            protocol: step.what.flow_protocol(),
            icmp_type: 0,
            zone: 0,
        };
        match &step.what {
            What::Ask(kind, own) => {
                let id = if *own { port } else { NO_PORT };
                Tuple { src_port: id, dst_port: id, icmp_type: *kind, ..tuple }
            }
            What::Unreachable { known: true } => tuple.reversed(),
            What::Unreachable { known: false } => Tuple { src_port: NO_PORT, ..tuple.reversed() },
            _ => tuple,
        }
    }

    fn step(&mut self, step: &Step, port: u16) -> (bool, String) {
        let (headers, found) = (&mut *self.headers, &mut *self.found);
        let tuple = Self::tuple(step, port);
        match &step.what {
            What::Unreachable { .. } => {
                let [_, receiver] = ends(step.from_opener, port);
                assert!(headers.set_quoted(0, receiver.0.into(), &tuple));
            }
            What::Tcp(segment) => {
                headers.set(0, &tuple);
                headers.set_tcp(0, segment);
            }
            _ => headers.set(0, &tuple),
        }
        let generations = [Default::default(); 4];
        self.table.lookup(headers, 1, &generations, NOW, found);
        self.table.track(headers, found.hit, NOW, found);
        let passed = if found.first & 1 != 0 {
            let verdict = Verdict { action: Action::Allow, rule: RuleId(1) };
            let side = SideVerdict { endpoint: 1, verdict, generation: 0 };
            self.table.insert(headers, 0, side, SideVerdict::NONE, NOW, found).is_ok()
        } else {
            found.hit & 1 != 0
        };
        let flow = match &step.what {
            What::Ask(kind, _) => Self::tuple(&Step { what: What::Ask(*kind, true), ..step.clone() }, port),
            What::Unreachable { .. } => Self::tuple(&Step { what: What::Udp, ..step.clone() }, port),
            _ => tuple,
        };
        (passed, self.state(&flow).to_owned())
    }

    /// A flow's state in Linux's words.
    fn state(&self, tuple: &Tuple) -> &'static str {
        let flow = self.table.find(tuple, NOW).and_then(|(flow, _)| self.table.get(flow, NOW));
        match flow.map(|flow| flow.phase) {
            None => "NONE",
            Some(Phase::TcpSynSent) => "SYN_SENT",
            Some(Phase::TcpSynSentBoth) => "SYN_SENT2",
            Some(Phase::TcpSynReceived) => "SYN_RECV",
            Some(Phase::TcpEstablished | Phase::TcpPickedUp) => "ESTABLISHED",
            Some(Phase::TcpFinWait) => "FIN_WAIT",
            Some(Phase::TcpCloseWait) => "CLOSE_WAIT",
            Some(Phase::TcpLastAck) => "LAST_ACK",
            Some(Phase::TcpTimeWait) => "TIME_WAIT",
            Some(Phase::TcpClosed) => "CLOSE",
            Some(Phase::UdpUnreplied | Phase::IcmpUnreplied) => "UNREPLIED",
            Some(Phase::UdpReplied | Phase::IcmpReplied) => "REPLIED",
            Some(other) => panic!("{other:?} has no name in Linux"),
        }
    }
}

#[test]
fn the_table_does_what_linux_does() {
    let (mut linux, mut ours) = (Linux::new(), Ours::new());
    let mut differences = Vec::new();
    // Each case has a port of its own, so that nothing is left of the one before.
    for ((name, steps), port) in linux_cases::all().into_iter().zip(40_000..) {
        for (at, step) in steps.iter().enumerate() {
            let (theirs, own) = (linux.step(step, port), ours.step(step, port));
            let wanted = step.unlike.map_or(theirs.clone(), |(passes, state, _)| (passes, state.to_owned()));
            if own != wanted || step.unlike.is_some() && own == theirs {
                differences
                    .push(format!("{name}, step {at}, {:?}: Linux {theirs:?}, table {own:?}", step.what));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
