//! Host endpoints: may this packet enter or leave the node here?
//!
//! | packet | asked at | policy of the port's host endpoint |
//! |---|---|---|
//! | from the network | the port where it enters | pre-DNAT; then normal ingress if it is for the node itself, else forward ingress |
//! | to the network | the port where it leaves | normal egress if the node itself sent it, else forward egress |
//! | from a pod to the node | the host port | normal ingress, if the endpoint is all interfaces |
//!
//! Packets of known flows pass; the verdicts are noted with the flow, as those of pods are: the one where
//! it enters in the place of egress, the one where it leaves in the place of ingress. The node's own
//! packets are asked about on exclusive uplinks alone: elsewhere they do not pass the router. What comes
//! out of a tunnel or goes into one crosses the tunnel's interface and not the uplink: of it, as in
//! Calico, only an endpoint of all interfaces is asked.
//!
//! Untracked policy is asked before conntrack ([`untracked`]): packets that it lets pass belong to no
//! flow, and no other policy of the host endpoint is asked where it was.

use acl::Direction;
use fib::GroupId;

use crate::burst::{Burst, lanes};
use crate::drop_reason::DropReason;
use crate::ids::PortId;
use crate::pipeline::police::{Asked, Side, in_port, out_port, take_port};
use crate::pipeline::state::WorkerState;
use crate::pipeline::trace::Stage;
use crate::tables::{HostPolicy, HostStage, Port, Role, Tables};

/// Where packets enter.
const ENTRY: Side =
    Side { slot: Direction::Egress, stage: Stage::HostPolicy, reason: DropReason::PolicyHost };
/// Where packets leave.
const EXIT: Side =
    Side { slot: Direction::Ingress, stage: Stage::HostPolicy, reason: DropReason::PolicyHost };

/// Of `mask`, the lanes that a host endpoint at the port has a say in; `tunnelled`: those that cross a
/// tunnel's interface.
fn covered(policy: &HostPolicy, mask: u64, tunnelled: u64) -> u64 {
    if policy.wildcard { mask } else { mask & !tunnelled }
}

fn is_exclusive(port: &Port) -> bool {
    port.role == Role::Uplink { exclusive: true }
}

/// One question to a host endpoint.
struct Question<'a> {
    side: &'a Side,
    policy: &'a HostPolicy,
    stage: HostStage,
    direction: Direction,
    port: PortId,
}

impl Question<'_> {
    /// Asks about the lanes of `mask` if there is such a policy; what is denied is dropped. Returns the
    /// lanes that nothing has decided.
    fn ask(&self, mask: u64, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) -> u64 {
        let program = self.policy.program(self.stage, self.direction);
        if mask == 0 {
            return 0;
        }
        if program.is_none() {
            state.flows.pass(self.side.slot, mask);
            return mask;
        }
        let asked = Asked { program, port: self.port, direction: self.direction, counted: mask };
        self.side.police(mask, &asked, burst, tables, state)
    }
}

/// Drops what fits no flow.
fn drop_unfit(mask: u64, burst: &mut Burst, state: &mut WorkerState) {
    for lane in lanes(mask & burst.unfit) {
        let reason = state.flows.unfit_reason(lane);
        state.drop_packet(burst, lane, reason);
    }
}

/// Asks untracked policy about the packets of `mask`, and returns those that it lets pass.
#[cold]
pub(super) fn untracked(mask: u64, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) -> u64 {
    let mut passed = 0;
    let mut rest = mask & !burst.from_pod & !burst.from_host;
    while let Some((id, group)) = take_port(&mut rest, burst, in_port) {
        let Some(policy) = tables.port(id).and_then(|port| port.host_policy.as_deref()) else { continue };
        let group = covered(policy, group, burst.decapsulated);
        passed |= ask_untracked(group, (id, policy), Direction::Ingress, burst, tables, state);
    }
    for lane in lanes(mask & burst.from_host & burst.alive) {
        let (id, tunnelled) = way_out(burst, lane, tables);
        if let Some(port) = tables.port(id).filter(|port| is_exclusive(port))
            && let Some(policy) = port.host_policy.as_deref()
        {
            let bit = covered(policy, 1 << lane, u64::from(tunnelled) << lane);
            passed |= ask_untracked(bit, (id, policy), Direction::Egress, burst, tables, state);
        }
    }
    passed & burst.alive
}

fn ask_untracked(
    mask: u64,
    (port, policy): (PortId, &HostPolicy),
    direction: Direction,
    burst: &mut Burst,
    tables: &Tables,
    state: &mut WorkerState,
) -> u64 {
    if policy.program(HostStage::Untracked, direction).is_none() {
        return 0;
    }
    let side = if direction == Direction::Ingress { &ENTRY } else { &EXIT };
    let question = Question { side, policy, stage: HostStage::Untracked, direction, port };
    let open = question.ask(mask, burst, tables, state);
    mask & !open & burst.alive
}

/// Where the node's own packet will leave, and whether by a tunnel: its flow's hash is not asked, so that
/// of several equal ways it is the first.
fn way_out(burst: &Burst, lane: usize, tables: &Tables) -> (PortId, bool) {
    let group = match burst.v4 >> lane & 1 == 1 {
        true => tables.fib4.lookup(burst.meta.dst4[lane]),
        false => tables.fib6.lookup(burst.meta.dst6[lane]),
    };
    let group = group.and_then(|group: GroupId| tables.groups.get(group.index()));
    let adjacency = group.map(|group| &tables.adjacencies[group.pick(|| 0).index()]);
    adjacency.map_or((PortId::NONE, false), |adjacency| (adjacency.port, adjacency.tunnel.is_some()))
}

/// Asks where packets of `mask` enter the node.
pub(super) fn entering(mask: u64, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let new = burst.alive & (burst.opens | burst.unfit) & !burst.originated;
    let mut rest = mask & new & !burst.from_pod & !burst.from_host & !state.flows.exempt();
    while let Some((id, group)) = take_port(&mut rest, burst, in_port) {
        let Some(port) = tables.port(id) else { continue };
        let Some(policy) = port.host_policy.as_deref() else { continue };
        let group = covered(policy, group, burst.decapsulated);
        drop_unfit(group, burst, state);
        let group = group & burst.alive;
        state.flows.polices(ENTRY.slot, group);
        let ask = |stage, mask, burst: &mut Burst, state: &mut WorkerState| {
            let direction = Direction::Ingress;
            Question { side: &ENTRY, policy, stage, direction, port: id }.ask(mask, burst, tables, state)
        };
        let open = ask(HostStage::PreDnat, group, burst, state);
        let (own, forwarded) = (open & burst.to_host, open & !burst.to_host);
        if is_exclusive(port) {
            ask(HostStage::Normal, own, burst, state);
        }
        ask(HostStage::Forward, forwarded, burst, state);
    }
}

/// Asks where packets of `mask` leave the node, or enter its own stack.
pub(super) fn leaving(mask: u64, burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let mut rest = mask & burst.alive & (burst.opens | burst.unfit) & !burst.originated;
    while let Some((id, group)) = take_port(&mut rest, burst, out_port) {
        let Some(port) = tables.port(id) else { continue };
        let Some(policy) = port.host_policy.as_deref() else { continue };
        let (own, others) = match port.role {
            Role::Uplink { exclusive } => {
                let group = covered(policy, group, burst.tunnelled);
                let own = if exclusive { group & burst.from_host & !state.flows.exempt() } else { 0 };
                (own, group & !burst.from_host)
            }
            Role::Host => (group & burst.from_pod, 0),
            Role::Pod => continue,
        };
        drop_unfit(own | others, burst, state);
        let (own, others) = (own & burst.alive, others & burst.alive);
        state.flows.polices(EXIT.slot, own | others);
        let ask = |stage, direction, mask, burst: &mut Burst, state: &mut WorkerState| {
            Question { side: &EXIT, policy, stage, direction, port: id }.ask(mask, burst, tables, state)
        };
        let direction = if port.role == Role::Host { Direction::Ingress } else { Direction::Egress };
        ask(HostStage::Normal, direction, own, burst, state);
        ask(HostStage::Forward, Direction::Egress, others, burst, state);
    }
}

/// Whether a question to the node that the router would answer itself may reach the node. If not, it is
/// dropped.
pub(super) fn admits(burst: &mut Burst, lane: usize, tables: &Tables, state: &mut WorkerState) -> bool {
    let bit = 1 << lane;
    if tables.policy.hosts && (burst.known | burst.originated) & bit == 0 {
        entering(bit, burst, tables, state);
        leaving(bit, burst, tables, state);
    }
    burst.alive & bit != 0
}
