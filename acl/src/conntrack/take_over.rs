//! The flows that another table has left in memory, opened here: those of a process that has ended, however it ended.
//!
//! Of what is left, only the entries are read: no index, no list, no lock and no count in it is relied on, so nothing
//! that the process was in the middle of matters. Each entry is looked at on its own:
//!
//! ```text
//!   free, or in the middle of being opened     passed over
//!   not what an entry can be (damaged memory)  passed over, counted
//!   expired meanwhile, or denied               passed over
//!   locked: in the middle of a packet          opened; TCP windows are not checked any more, being those of two moments
//!   else                                       opened with its phase, windows, time and counters
//! ```
//!
//! The two tables need not have the same capacity, seed or settings.

use super::atomic::Ordering;
use super::entry::{FlowId, SideVerdict};
use super::error::LayoutError;
use super::hash::Key;
use super::headers::Tuple;
use super::icmp;
use super::insert::{Opened, Opening};
use super::inspect::Flow;
use super::memory::{Layout, Line, Parts};
use super::phase::{Phase, Tick};
use super::protocol::{SCTP, TCP, UDP, UDPLITE};
use super::table::{Fixed, View};
use super::tcp::{Tcp, connection};

/// What became of the flows that were left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TakenOver {
    /// Opened here.
    pub flows: u32,
    /// Known here already, by packets that came meanwhile.
    pub known: u32,
    /// Expired, or denied by the policy that was in force.
    pub over: u32,
    /// Not wanted by the caller.
    pub unwanted: u32,
    /// Refused by this table: full, or by its limits.
    pub refused: u32,
    /// No flow can look like that.
    pub damaged: u32,
}

impl View<'_> {
    /// See [`Conntrack::take_over`](super::Conntrack::take_over).
    pub(super) fn take_over(
        &self,
        left: &[Line],
        now: Tick,
        mut sides: impl FnMut(&Flow) -> Option<[SideVerdict; 2]>,
    ) -> Result<TakenOver, LayoutError> {
        let (layout, _) = Layout::read(left)?;
        let fixed = Fixed { layout, ..self.fixed.clone() };
        let old = View { parts: Parts::new(left, &layout), fixed: &fixed };
        let mut done = TakenOver::default();
        for number in 0..layout.capacity.flows {
            let Some(entry) = old.entry(number) else { break };
            let state = entry.state();
            let phase = state.phase();
            if phase == Phase::Free {
                continue;
            }
            let key = entry.key().normal();
            if !is_possible(&key, phase) {
                done.damaged += 1;
                continue;
            }
            if state.expired(now, &self.fixed.timeouts) || state.denied() {
                done.over += 1;
                continue;
            }
            let flow = old.describe(entry, FlowId::new(number, state), state, now);
            let Some([egress, ingress]) = sides(&flow) else {
                done.unwanted += 1;
                continue;
            };
            let body: [u64; 8] =
                core::array::from_fn(|at| old.parts.body(number)[at].load(Ordering::Relaxed));
            let [a, b, c, d, counted @ ..] = body;
            let [sent, answered, packets, _] = counted;
            let mut protocol = [a, b, c, d];
            let locked = state.is_locked() || d & connection::LOCK != 0;
            if locked && key.protocol() == TCP {
                let mut tcp = Tcp::unpack(protocol);
                tcp.unchecked = true;
                protocol = tcp.pack();
            }
            let opening = Opening {
                key,
                hash: self.fixed.seed.hash(&key),
                phase,
                protocol,
                egress,
                ingress,
                seen: Tick::of(state.last_seen()),
                counted: [sent, answered, packets],
                replaces: None,
            };
            match self.open(&opening, now) {
                Ok(Opened::New(_)) => done.flows += 1,
                Ok(Opened::Existing { .. }) => done.known += 1,
                Err(_) => done.refused += 1,
            }
        }
        Ok(done)
    }
}

/// Whether an opener's packet has this key, and its flow may be in this phase.
fn is_possible(key: &Key, phase: Phase) -> bool {
    use Phase as P;
    let protocol = key.protocol();
    let fits = match phase {
        P::Free | P::Refused => false,
        P::TcpSynSent
        | P::TcpSynSentBoth
        | P::TcpSynReceived
        | P::TcpPickedUp
        | P::TcpEstablished
        | P::TcpFinWait
        | P::TcpCloseWait
        | P::TcpLastAck
        | P::TcpTimeWait
        | P::TcpClosed => protocol == TCP,
        P::UdpUnreplied | P::UdpReplied => matches!(protocol, UDP | UDPLITE),
        P::IcmpUnreplied | P::IcmpReplied => icmp::is(protocol),
        P::SctpSetup | P::SctpEstablished | P::SctpShutdown | P::SctpClosed => protocol == SCTP,
        P::OtherUnreplied | P::OtherReplied => {
            !matches!(protocol, TCP | UDP | UDPLITE | SCTP) && !icmp::is(protocol)
        }
    };
    fits && Tuple::from_key(key).key() == *key
}
