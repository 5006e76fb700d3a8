//! What waits to be sent. Frames are written only when they are taken, so that they say
//! what holds then.

use std::collections::VecDeque;
use std::net::IpAddr;

use encap::MacAddr;

use super::message::{Answer, Ignored, MAX_FRAME_LEN};
use super::{arp, ndisc};

/// Answers that wait, at most: when the port cannot send, further questions go
/// unanswered, and their askers ask again.
const MAX_ANSWERS: usize = 256;

/// A frame to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Transmit {
    /// Ask for a neighbour.
    Question(IpAddr),
    /// Answer a neighbour.
    Answer(Answer),
    /// Tell all stations where an own address is.
    Announcement(IpAddr),
}

/// The queue. Questions are limited by their entries, which wait once each;
/// announcements by their timers.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: VecDeque<Transmit>,
    answers: usize,
}

impl Outbox {
    pub(super) const fn new() -> Outbox {
        Outbox { queue: VecDeque::new(), answers: 0 }
    }

    pub(super) fn ask(&mut self, neighbor: IpAddr) {
        self.queue.push_back(Transmit::Question(neighbor));
    }

    pub(super) fn announce(&mut self, own: IpAddr) {
        self.queue.push_back(Transmit::Announcement(own));
    }

    /// # Errors
    /// [`Ignored::AnswerQueueFull`].
    pub(super) fn answer(&mut self, answer: Answer) -> Result<(), Ignored> {
        if self.answers >= MAX_ANSWERS {
            return Err(Ignored::AnswerQueueFull);
        }
        self.answers += 1;
        self.queue.push_back(Transmit::Answer(answer));
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<Transmit> {
        let transmit = self.queue.pop_front()?;
        if matches!(transmit, Transmit::Answer(_)) {
            self.answers -= 1;
        }
        Some(transmit)
    }
}

type Out = [u8; MAX_FRAME_LEN];

/// Writes the question for `target`, to all stations or to the one at `to`; none if
/// `own` is of the other family.
pub(super) fn write_question(
    out: &mut Out,
    mac: MacAddr,
    own: IpAddr,
    target: IpAddr,
    to: Option<MacAddr>,
) -> Option<usize> {
    match (own, target) {
        (IpAddr::V4(own), IpAddr::V4(target)) => Some(arp::question(out, mac, own, target, to)),
        (IpAddr::V6(own), IpAddr::V6(target)) => Some(ndisc::question(out, mac, own, target, to)),
        _ => None,
    }
}

/// Writes the answer.
pub(super) fn write_answer(out: &mut Out, mac: MacAddr, answer: &Answer) -> usize {
    match answer.own {
        IpAddr::V4(own) => arp::answer(out, mac, own, answer),
        IpAddr::V6(own) => ndisc::answer(out, mac, own, answer),
    }
}

/// Writes the announcement of `own`.
pub(super) fn write_announcement(out: &mut Out, mac: MacAddr, own: IpAddr) -> usize {
    match own {
        IpAddr::V4(own) => arp::announcement(out, mac, own),
        IpAddr::V6(own) => ndisc::announcement(out, mac, own),
    }
}
