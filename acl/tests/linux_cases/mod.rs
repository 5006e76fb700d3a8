//! What the table and Linux are asked: the situations that Linux's own packetdrill scripts for conntrack name,
//! VPP's tests of the life of a flow, OVS's conntrack tests and Calico's, for TCP, UDP and ICMP.

use acl::conntrack::TcpSegment;

use super::{Step, What};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// First sequence numbers: the opener's numbers wrap within the case.
const OURS: u32 = u32::MAX - 50;
const THEIRS: u32 = 5000;

/// Linux takes a FIN that is sent again for the FIN of the other side.
const AGAIN: &str = "a FIN that is sent again is no second one";

type Case = (&'static str, Vec<Step>);

fn step(from_opener: bool, what: What) -> Step {
    Step { from_opener, what, unlike: None }
}

/// A segment of the opener: flags, sequence and acknowledgment number from the first ones, bytes of data.
fn o(flags: u8, seq: u32, ack: u32, payload: u32) -> Step {
    segment(true, flags, OURS.wrapping_add(seq), THEIRS.wrapping_add(ack), payload)
}

/// A segment of the peer.
fn p(flags: u8, seq: u32, ack: u32, payload: u32) -> Step {
    segment(false, flags, THEIRS.wrapping_add(seq), OURS.wrapping_add(ack), payload)
}

fn segment(from_opener: bool, flags: u8, seq: u32, ack: u32, payload: u32) -> Step {
    let ack = if flags & ACK != 0 { ack } else { 0 };
    step(from_opener, What::Tcp(TcpSegment { flags, seq, ack, window: 1000, payload, scale: None }))
}

impl Step {
    fn with(mut self, change: impl FnOnce(&mut TcpSegment)) -> Step {
        if let What::Tcp(segment) = &mut self.what {
            change(segment);
        }
        self
    }

    fn unlike(self, passes: bool, state: &'static str, reason: &'static str) -> Step {
        Step { unlike: Some((passes, state, reason)), ..self }
    }
}

/// Three segments, after which both have sent one byte number.
fn handshake() -> Vec<Step> {
    vec![o(SYN, 0, 0, 0), p(SYN | ACK, 0, 1, 0), o(ACK, 1, 1, 0)]
}

fn established(steps: Vec<Step>) -> Vec<Step> {
    [handshake(), steps].concat()
}

/// Closed by both sides, in TIME_WAIT.
fn closed(steps: Vec<Step>) -> Vec<Step> {
    let close = vec![o(FIN | ACK, 1, 1, 0), p(ACK, 1, 2, 0), p(FIN | ACK, 1, 2, 0), o(ACK, 2, 2, 0)];
    [handshake(), close, steps].concat()
}

pub(super) fn all() -> Vec<Case> {
    [opening(), data(), closing(), resets(), windows(), strange(), others()].concat()
}

fn opening() -> Vec<Case> {
    let scale = |shift| move |segment: &mut TcpSegment| segment.scale = Some(shift);
    vec![
        ("handshake and data", established(vec![o(PSH | ACK, 1, 1, 100), p(ACK, 1, 101, 0)])),
        ("SYN sent again", vec![o(SYN, 0, 0, 0), o(SYN, 0, 0, 0), p(SYN | ACK, 0, 1, 0), o(ACK, 1, 1, 0)]),
        (
            "SYN-ACK sent again",
            vec![o(SYN, 0, 0, 0), p(SYN | ACK, 0, 1, 0), p(SYN | ACK, 0, 1, 0), o(ACK, 1, 1, 0)],
        ),
        (
            "simultaneous open",
            vec![
                o(SYN, 0, 0, 0),
                p(SYN, 0, 0, 0),
                o(SYN | ACK, 0, 1, 0),
                p(SYN | ACK, 0, 1, 0),
                o(ACK, 1, 1, 0),
            ],
        ),
        ("SYN-ACK for another SYN", vec![o(SYN, 0, 0, 0), p(SYN | ACK, 0, 9000, 0), p(SYN | ACK, 0, 1, 0)]),
        ("SYN-ACK first", vec![p(SYN | ACK, 0, 1, 0)]),
        ("picked up in the middle", vec![o(ACK, 1, 1, 10), p(ACK, 1, 11, 0), o(ACK, 11, 1, 10)]),
        ("FIN first", vec![o(FIN | ACK, 1, 1, 0)]),
        ("RST first", vec![o(RST, 1, 0, 0)]),
        ("refused", vec![o(SYN, 0, 0, 0), p(RST | ACK, 0, 1, 0)]),
        (
            "scaled windows",
            vec![
                o(SYN, 0, 0, 0).with(scale(7)),
                p(SYN | ACK, 0, 1, 0).with(scale(2)),
                o(ACK, 1, 1, 0),
                // 1000 << 2 and 1000 << 7 are offered.
                p(ACK, 1, 1, 0),
                o(ACK, 1, 1, 1400),
                o(ACK, 1401, 1, 1400),
                o(ACK, 2801, 1, 1200),
            ],
        ),
    ]
}

fn data() -> Vec<Case> {
    vec![
        (
            "reordered and sent again",
            established(vec![
                o(ACK, 101, 1, 100),
                o(ACK, 1, 1, 100),
                o(ACK, 1, 1, 100),
                p(ACK, 1, 201, 0),
                o(ACK, 1, 1, 100),
            ]),
        ),
        (
            "keepalive",
            established(vec![o(ACK, 1, 1, 10), p(ACK, 1, 11, 0), o(ACK, 10, 1, 0), p(ACK, 1, 11, 0)]),
        ),
        (
            "acknowledgments lost",
            established(vec![
                o(ACK, 1, 1, 100),
                o(ACK, 101, 1, 100),
                p(ACK, 1, 201, 0),
                p(ACK, 1, 101, 0),
                o(ACK, 201, 1, 100),
            ]),
        ),
        ("urgent data", established(vec![o(ACK | URG, 1, 1, 1), p(ACK, 1, 2, 0)])),
        (
            "SYN on an established connection, challenged",
            established(vec![o(SYN, 70_000, 0, 0), p(ACK, 1, 1, 0), o(RST, 1, 0, 0)]),
        ),
        (
            "peer has forgotten the connection",
            established(vec![
                o(SYN, 70_000, 0, 0),
                p(SYN | ACK, 90_000, 70_001, 0),
                o(ACK, 70_001, 90_001, 0),
            ]),
        ),
    ]
}

fn closing() -> Vec<Case> {
    vec![
        ("closed by the opener", closed(vec![])),
        (
            "closed by the peer",
            established(vec![p(FIN | ACK, 1, 1, 0), o(ACK, 1, 2, 0), o(FIN | ACK, 1, 2, 0), p(ACK, 2, 2, 0)]),
        ),
        (
            "closed by both at once",
            established(vec![
                o(FIN | ACK, 1, 1, 0),
                p(FIN | ACK, 1, 1, 0),
                o(ACK, 2, 2, 0).unlike(true, "LAST_ACK", "only one FIN is acknowledged yet"),
                p(ACK, 2, 2, 0),
            ]),
        ),
        (
            "half closed, with data",
            established(vec![
                o(FIN | ACK, 1, 1, 0),
                p(ACK, 1, 2, 0),
                p(PSH | ACK, 1, 2, 500),
                o(ACK, 2, 501, 0),
                p(FIN | ACK, 501, 2, 0),
                o(ACK, 2, 502, 0),
            ]),
        ),
        ("FIN with data", established(vec![o(FIN | PSH | ACK, 1, 1, 50), p(ACK, 1, 52, 0)])),
        (
            "FIN sent again",
            established(vec![
                o(FIN | ACK, 1, 1, 0),
                o(FIN | ACK, 1, 1, 0).unlike(true, "FIN_WAIT", AGAIN),
                p(ACK, 1, 2, 0).unlike(true, "CLOSE_WAIT", AGAIN),
                p(FIN | ACK, 1, 2, 0).unlike(true, "LAST_ACK", AGAIN),
                p(FIN | ACK, 1, 2, 0).unlike(true, "LAST_ACK", AGAIN),
                o(ACK, 2, 2, 0),
            ]),
        ),
        ("last ACK sent again", closed(vec![p(FIN | ACK, 1, 2, 0), o(ACK, 2, 2, 0)])),
        ("used again after the close", closed(vec![o(SYN, 10_000, 0, 0), p(SYN | ACK, 20_000, 10_001, 0)])),
    ]
}

fn resets() -> Vec<Case> {
    vec![
        ("RST with the exact number", established(vec![p(RST | ACK, 1, 1, 0)])),
        ("RST elsewhere in the window", established(vec![p(RST, 500, 0, 0), o(ACK, 1, 1, 10)])),
        (
            "RST below the window",
            established(vec![o(ACK, 1, 1, 0), p(ACK, 1, 1, 100), o(ACK, 1, 101, 0), p(RST, 50, 0, 0)]),
        ),
        ("RST beyond the window", established(vec![p(RST, 90_000, 0, 0)])),
        ("RST behind data that is not acknowledged", established(vec![p(ACK, 1, 1, 100), p(RST, 101, 0, 0)])),
        ("inexact RST after a FIN", established(vec![o(FIN | ACK, 1, 1, 0), p(RST, 300, 0, 0)])),
        (
            "used again after an RST",
            established(vec![
                p(RST | ACK, 1, 1, 0),
                o(SYN, 10_000, 0, 0).unlike(true, "SYN_SENT", "a reset connection is over, whoever reset it"),
            ]),
        ),
        (
            "a stray RST and life goes on",
            established(vec![p(RST, 90_000, 0, 0), o(ACK, 1, 1, 10), p(ACK, 1, 11, 0)]),
        ),
    ]
}

fn windows() -> Vec<Case> {
    vec![
        ("data beyond the window", established(vec![o(ACK, 5000, 1, 10), o(ACK, 1, 1, 10)])),
        ("up to the window's end", established(vec![o(ACK, 1, 1, 999), o(ACK, 1000, 1, 1)])),
        (
            "acknowledges what was not sent",
            established(vec![o(ACK, 1, 1, 10), p(ACK, 1, 5000, 0), p(ACK, 1, 11, 0)]),
        ),
        (
            "zero window",
            established(vec![
                p(ACK, 1, 1, 0).with(|segment| segment.window = 0),
                o(ACK, 1, 1, 1),
                p(ACK, 1, 2, 0),
            ]),
        ),
    ]
}

fn strange() -> Vec<Case> {
    let flags = |name, flags| (name, established(vec![o(flags, 1, 1, 0), o(ACK, 1, 1, 0)]));
    vec![
        flags("no flags", 0),
        flags("SYN and FIN", SYN | FIN),
        flags("SYN and RST", SYN | RST),
        flags("FIN without ACK", FIN),
        flags("all flags", FIN | SYN | RST | PSH | ACK | URG),
        ("strange flags first", vec![o(SYN | FIN, 0, 0, 0), o(0, 0, 0, 0), o(SYN | RST, 0, 0, 0)]),
    ]
}

fn others() -> Vec<Case> {
    let udp = |from_opener| step(from_opener, What::Udp);
    let ask = |from_opener, kind| step(from_opener, What::Ask(kind, true));
    let unreachable = |from_opener, known| step(from_opener, What::Unreachable { known });
    vec![
        ("UDP", vec![udp(true), udp(true), udp(false), udp(true)]),
        ("UDP from both at once", vec![udp(true), udp(false), udp(false)]),
        ("ICMP error of a UDP flow", vec![udp(true), unreachable(false, true), udp(true)]),
        ("ICMP error against a UDP flow", vec![udp(true), udp(false), unreachable(true, true)]),
        ("ICMP error of no flow", vec![udp(true), unreachable(false, false)]),
        ("echo", vec![ask(true, 8), ask(false, 0), ask(true, 8)]),
        ("echo answer to no question", vec![ask(false, 0)]),
        ("echo answer to another question", vec![ask(true, 8), step(false, What::Ask(0, false))]),
        ("timestamp", vec![ask(true, 13), ask(false, 14)]),
    ]
}
