//! SCTP (RFC 9260): associations by verification tag.
//!
//! A side announces its tag in INIT or INIT-ACK; every later packet toward it must carry that tag (8.5). An ABORT or
//! SHUTDOWN-COMPLETE may carry the sender's own tag instead (8.5.1, the T bit). A packet is judged by its first chunk.
//!
//! State words: `word 0` = tag expected from the opener 32 | tag expected in replies 32; 0 means not known yet (a tag
//! is never 0, 5.3.1).

use super::error::Invalid;
use super::phase::Phase;
use super::tcp::Step;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// What tracking reads of an SCTP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SctpPacket {
    /// Type of the first chunk.
    pub(super) chunk: u8,
    /// Verification tag of the common header.
    pub(super) tag: u32,
    /// Initiate tag of INIT and INIT-ACK.
    pub(super) initiate_tag: u32,
}

/// An association.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sctp {
    /// Tags that packets of the opener and of the other side must carry.
    tags: [u32; 2],
}

impl Sctp {
    pub(super) fn unpack(words: [u64; 4]) -> Self {
        Sctp { tags: [(words[0] >> 32) as u32, words[0] as u32] }
    }

    pub(super) fn pack(&self) -> [u64; 4] {
        [u64::from(self.tags[0]) << 32 | u64::from(self.tags[1]), 0, 0, 0]
    }

    /// The first packet: an INIT, or where `pick_up` allows it any packet of an association that runs.
    pub(super) fn open(packet: &SctpPacket, pick_up: bool) -> Result<(Self, Phase), Invalid> {
        match packet.chunk {
            // 8.5.1: an INIT carries tag 0, and announces another.
            INIT if packet.tag != 0 || packet.initiate_tag == 0 => Err(Invalid::SctpTag),
            INIT => Ok((Sctp { tags: [0, packet.initiate_tag] }, Phase::SctpSetup)),
            INIT_ACK | ABORT | COOKIE_ECHO | COOKIE_ACK | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => {
                Err(Invalid::SctpState)
            }
            _ if pick_up && packet.tag != 0 => Ok((Sctp { tags: [packet.tag, 0] }, Phase::SctpSetup)),
            _ => Err(Invalid::SctpState),
        }
    }

    /// A further packet.
    pub(super) fn packet(&mut self, phase: Phase, reply: bool, packet: &SctpPacket) -> Step {
        let own = usize::from(reply);
        if packet.chunk == INIT {
            if packet.tag != 0 || packet.initiate_tag == 0 {
                return Step::Drop(Invalid::SctpTag);
            }
            return match phase {
                // 5.2: INITs may cross, and a restarting side sends one: its peer decides. The tags that the answer
                // brings are learnt anew.
                Phase::SctpClosed => Step::Reopen,
                Phase::SctpSetup => {
                    self.tags[1 - own] = packet.initiate_tag;
                    Step::Pass(phase)
                }
                _ => Step::Ignore,
            };
        }
        let reflected = matches!(packet.chunk, ABORT | SHUTDOWN_COMPLETE) && packet.tag == self.tags[1 - own];
        if self.tags[own] == 0 {
            self.tags[own] = packet.tag;
        } else if packet.tag != self.tags[own] && !reflected {
            return Step::Drop(Invalid::SctpTag);
        }
        let replied = reply && phase == Phase::SctpSetup;
        match packet.chunk {
            INIT_ACK if packet.initiate_tag == 0 => Step::Drop(Invalid::SctpTag),
            INIT_ACK if phase == Phase::SctpSetup => {
                self.tags[1 - own] = packet.initiate_tag;
                Step::Pass(phase)
            }
            INIT_ACK => Step::Ignore,
            COOKIE_ECHO => Step::Pass(phase),
            COOKIE_ACK if phase == Phase::SctpSetup => Step::Pass(Phase::SctpEstablished),
            COOKIE_ACK => Step::Pass(phase),
            ABORT if phase == Phase::SctpSetup => Step::Pass(Phase::Refused),
            ABORT | SHUTDOWN_COMPLETE => Step::Pass(Phase::SctpClosed),
            SHUTDOWN | SHUTDOWN_ACK if phase == Phase::SctpEstablished => Step::Pass(Phase::SctpShutdown),
            // An association that was picked up: data both ways establishes it.
            _ if replied => Step::Pass(Phase::SctpEstablished),
            _ => Step::Pass(phase),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunk: u8, tag: u32, initiate_tag: u32) -> SctpPacket {
        SctpPacket { chunk, tag, initiate_tag }
    }

    /// RFC 9260 5.1, 9.2: setup, data, shutdown.
    #[test]
    fn an_association_from_init_to_shutdown() {
        let (mut sctp, mut phase) = Sctp::open(&packet(INIT, 0, 0xa), false).unwrap();
        for (reply, sent, then) in [
            (true, packet(INIT_ACK, 0xa, 0xb), Phase::SctpSetup),
            (false, packet(COOKIE_ECHO, 0xb, 0), Phase::SctpSetup),
            (true, packet(COOKIE_ACK, 0xa, 0), Phase::SctpEstablished),
            (false, packet(0, 0xb, 0), Phase::SctpEstablished),
            (true, packet(3, 0xa, 0), Phase::SctpEstablished),
            (false, packet(SHUTDOWN, 0xb, 0), Phase::SctpShutdown),
            (true, packet(SHUTDOWN_ACK, 0xa, 0), Phase::SctpShutdown),
            (false, packet(SHUTDOWN_COMPLETE, 0xb, 0), Phase::SctpClosed),
        ] {
            assert_eq!(sctp.packet(phase, reply, &sent), Step::Pass(then), "{sent:?}");
            phase = then;
            assert_eq!(Sctp::unpack(sctp.pack()), sctp);
        }
        assert_eq!(sctp.packet(phase, false, &packet(INIT, 0, 0xc)), Step::Reopen);
    }

    /// RFC 9260 8.5, 8.5.1.
    #[test]
    fn a_wrong_tag_is_not_of_the_association() {
        let (mut sctp, _) = Sctp::open(&packet(INIT, 0, 0xa), false).unwrap();
        let phase = Phase::SctpSetup;
        let wrong = Step::Drop(Invalid::SctpTag);
        assert_eq!(sctp.packet(phase, true, &packet(INIT_ACK, 0xf, 0xb)), wrong);
        assert_eq!(sctp.packet(phase, true, &packet(INIT_ACK, 0xa, 0)), wrong);
        assert_eq!(sctp.packet(phase, true, &packet(INIT_ACK, 0xa, 0xb)), Step::Pass(phase));
        let phase = Phase::SctpEstablished;
        assert_eq!(sctp.packet(phase, false, &packet(0, 0xa, 0)), wrong);
        assert_eq!(sctp.packet(phase, false, &packet(ABORT, 0xf, 0)), wrong);
        // The T bit: an abort with the tag that the sender itself was given.
        assert_eq!(sctp.packet(phase, false, &packet(ABORT, 0xa, 0)), Step::Pass(Phase::SctpClosed));
        assert_eq!(Sctp::open(&packet(INIT, 5, 0xa), false), Err(Invalid::SctpTag));
        assert_eq!(Sctp::open(&packet(INIT, 0, 0), false), Err(Invalid::SctpTag));
    }

    #[test]
    fn only_an_init_begins_an_association_unless_it_may_be_picked_up() {
        assert_eq!(Sctp::open(&packet(0, 7, 0), false), Err(Invalid::SctpState));
        let (mut sctp, phase) = Sctp::open(&packet(0, 7, 0), true).unwrap();
        assert_eq!(sctp.packet(phase, true, &packet(3, 9, 0)), Step::Pass(Phase::SctpEstablished));
        assert_eq!(sctp.packet(phase, false, &packet(0, 8, 0)), Step::Drop(Invalid::SctpTag));
        for chunk in [INIT_ACK, ABORT, COOKIE_ACK, SHUTDOWN_COMPLETE] {
            assert_eq!(Sctp::open(&packet(chunk, 7, 7), true), Err(Invalid::SctpState));
        }
    }
}
