//! Stage 4: which flow does this packet belong to, and what did policy say about it?
//!
//! ```text
//!   burst -> read -> one lookup -+-> known      policy has let the flow pass: no stage asks again
//!                                +-> denied     dropped
//!                                +-> stale      policy changed: reconsider, once a flow
//!                                +-> opens      source_policy, lookup, dest_policy ask; `open` notes both verdicts
//!                                +-> untracked  as `opens`, but for this packet alone
//!                                '-> unfit      dropped where a pod sends or receives it
//! ```
//!
//! A flow is opened behind `dest_policy`, when both sides have let its first packet pass: with the
//! verdict of the source pod's egress policy, of the destination pod's ingress policy, or both. What
//! the node sends to its pods is not policed, but opens flows, so that the answers are known. Traffic
//! between other ports is looked up and left alone.
//!
//! Fragments behind the first carry no ports: they pass if the first one did (`fragments`).
//!
//! Without a policed port the stage does nothing. It takes no lock but those of the table's entries,
//! does not allocate, and reads no clock.

mod fragments;
mod plain;
mod read;
mod reconsider;
mod report;
mod sweep;

use acl::conntrack::{Found, Headers, Refused, SideVerdict, Tick, has_ports};
use acl::{Action, Decided, Direction, Program, RuleId, Verdict};

use crate::burst::{Burst, LANES, lanes};
use crate::drop_reason::DropReason;
use crate::ids::{PortId, Timestamp};
use crate::pipeline::flow_log::Event;
use crate::pipeline::host_policy;
use crate::pipeline::state::WorkerState;
use crate::tables::{PolicyTables, Role, Tables};
use fragments::{FirstFragments, Word};
pub(super) use report::log;
pub use report::opener;
use sweep::Sweep;

/// Entries of the flow table that a worker looks at for expired flows before it sleeps.
const IDLE_SWEEP: u32 = 256;
/// What an endpoint without a program says.
const DENIED: Verdict = Verdict { action: Action::Deny, rule: RuleId::NONE };
/// What is said where no policy has a say.
const PASSED: Verdict = Verdict { action: Action::Allow, rule: RuleId::NONE };

/// What the flow and policy stages of one worker know of the burst. Only lanes in the burst's masks
/// mean anything.
#[derive(Debug)]
pub struct FlowState {
    headers: Headers,
    found: Found,
    /// Code of ICMP messages.
    code: [u8; LANES],
    /// Why a lane is in `unfit`.
    reason: [DropReason; LANES],
    /// As policy wants to be asked; lanes in `filled`.
    asked: acl::Headers,
    filled: u64,
    /// Lanes that untracked policy of a host endpoint has let pass.
    exempt: u64,
    /// Lanes that a host endpoint was asked about: where they enter, where they leave.
    hosts: [u64; 2],
    egress: [Verdict; LANES],
    ingress: [Verdict; LANES],
    fragments: FirstFragments,
    sweep: Sweep,
}

impl FlowState {
    /// The state of a worker. `seed` keeps outsiders from choosing fragments that collide.
    pub fn new(seed: u64) -> Self {
        FlowState {
            headers: Headers::default(),
            found: Found::default(),
            code: [0; LANES],
            reason: [DropReason::FlowInvalid; LANES],
            asked: acl::Headers::new(),
            filled: 0,
            exempt: 0,
            hosts: [0; 2],
            egress: [DENIED; LANES],
            ingress: [DENIED; LANES],
            fragments: FirstFragments::new(seed),
            sweep: Sweep::default(),
        }
    }

    /// Asks a program about the packets of `mask`; without one all are denied. The verdicts stay for
    /// [`verdict`](Self::verdict) and [`open`], each in its slot.
    pub(super) fn ask(
        &mut self,
        slot: Direction,
        mask: u64,
        program: Option<&Program>,
        policy: &PolicyTables,
    ) -> Decided {
        for lane in lanes(mask & !self.filled) {
            self.fill(lane, policy);
        }
        let verdicts = self.slot(slot);
        let Some(program) = program else {
            lanes(mask).for_each(|lane| verdicts[lane] = DENIED);
            return Decided { denied: mask, ..Decided::default() };
        };
        let verdicts = match slot {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        };
        let decided = program.decide(&self.asked, mask, verdicts);
        if decided.open != 0 {
            self.pass(slot, decided.open);
        }
        decided
    }

    fn slot(&mut self, slot: Direction) -> &mut [Verdict; LANES] {
        match slot {
            Direction::Egress => &mut self.egress,
            Direction::Ingress => &mut self.ingress,
        }
    }

    /// Notes that no policy has a say in the packets of `mask`.
    pub(super) fn pass(&mut self, slot: Direction, mask: u64) {
        let verdicts = self.slot(slot);
        lanes(mask).for_each(|lane| verdicts[lane] = PASSED);
    }

    /// Notes that a host endpoint is asked about the packets of `mask`: its verdict belongs to their flow.
    pub(super) fn polices(&mut self, slot: Direction, mask: u64) {
        self.hosts[usize::from(slot == Direction::Ingress)] |= mask;
    }

    /// Lanes that untracked policy of a host endpoint has let pass.
    pub(super) fn exempt(&self) -> u64 {
        self.exempt
    }

    fn fill(&mut self, lane: usize, policy: &PolicyTables) {
        let headers = &self.headers;
        let v6 = headers.v6 >> lane & 1 == 1;
        let classes = if v6 {
            (policy.classes6.lookup6(headers.src6[lane]), policy.classes6.lookup6(headers.dst6[lane]))
        } else {
            (policy.classes4.lookup4(headers.src4[lane]), policy.classes4.lookup4(headers.dst4[lane]))
        };
        let protocol = headers.protocol[lane];
        let transport = if read::is_icmp(protocol) {
            Some((u16::from(headers.kind[lane]), u16::from(self.code[lane])))
        } else {
            has_ports(protocol).then_some((headers.src_port[lane], headers.dst_port[lane]))
        };
        self.asked.set(lane, v6, classes, protocol, transport);
        self.filled |= 1 << lane;
    }

    /// What policy said when it was asked last.
    pub(super) fn verdict(&self, direction: Direction, lane: usize) -> Verdict {
        match direction {
            Direction::Egress => self.egress[lane],
            Direction::Ingress => self.ingress[lane],
        }
    }

    /// What the policy of a known packet's own source (egress) or destination (ingress) said of its
    /// flow: on replies they have changed sides.
    pub(super) fn known_verdict(&self, direction: Direction, lane: usize) -> Verdict {
        let side = match (self.found.reply >> lane & 1 == 1, direction) {
            (false, side) => side,
            (true, Direction::Egress) => Direction::Ingress,
            (true, Direction::Ingress) => Direction::Egress,
        };
        self.found.verdict(lane, side)
    }

    /// Why a lane is unfit.
    pub(super) fn unfit_reason(&self, lane: usize) -> DropReason {
        self.reason[lane]
    }
}

fn tick(now: Timestamp) -> Tick {
    Tick::from_millis(now.0 / 1_000_000)
}

/// Looks the burst's packets up and sorts them.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let policy = &tables.policy;
    let mask = burst.alive & (burst.v4 | burst.v6) & !burst.originated & !burst.known;
    if !policy.in_use {
        return;
    }
    (state.flows.filled, state.flows.exempt, state.flows.hosts) = (0, 0, [0; 2]);
    if mask == 0 {
        return;
    }
    let now = tick(state.now);
    let mut read = read::burst(&mut state.flows, burst, mask, state.pool.area(), &mut state.columns[0]);
    if policy.untracked {
        let passed = host_policy::untracked(read.tracked | read.untracked, burst, tables, state);
        state.flows.exempt = passed;
        read.tracked &= burst.alive & !passed;
        read.untracked = (read.untracked | passed) & burst.alive;
    }
    let flows = &mut *state.flows;
    let (headers, found) = (&flows.headers, &mut flows.found);
    policy.flows.lookup(headers, read.tracked, &policy.generations, now, found);
    if found.stale_egress | found.stale_ingress != 0 {
        reconsider::run(flows, tables, now);
    }
    let denied = flows.found.hit & flows.found.denied;
    policy.flows.track(&flows.headers, flows.found.hit & !denied, now, &mut flows.found);
    let known = flows.found.hit & !denied;
    let counted = known & !flows.found.related & !burst.held;
    report::count_known(flows, counted, burst, &state.counters.rules);
    let found = &flows.found;
    burst.known |= known;
    burst.opens |= found.first | read.untracked;
    burst.untracked |= read.untracked;
    burst.unfit |= found.invalid | found.unrelated | read.malformed;
    for lane in lanes(found.unrelated) {
        flows.reason[lane] = DropReason::FlowUnrelated;
    }
    for lane in lanes(found.invalid | read.malformed) {
        flows.reason[lane] = DropReason::FlowInvalid;
    }
    let entries = flows.sweep.due(state.now, policy.flows.capacity().flows);
    if entries != 0 {
        policy.flows.expire(now, entries, &policy.generations);
    }
    for lane in lanes(denied) {
        drop_denied(burst, lane, tables, state);
    }
    for lane in lanes(burst.alive & burst.unfit & burst.from_pod) {
        let reason = state.flows.reason[lane];
        state.drop_packet(burst, lane, reason);
    }
}

/// Drops a packet of a flow that policy has turned against.
#[cold]
fn drop_denied(burst: &mut Burst, lane: usize, tables: &Tables, state: &mut WorkerState) {
    let found = &state.flows.found;
    let turned = found.reply >> lane & 1 == 1;
    let sides = tables.policy.flows.get(found.flow[lane], tick(state.now));
    let (mut direction, side, mut reason) = match sides {
        Some(flow) if flow.egress.verdict.action == Action::Deny => {
            (Direction::Egress, flow.egress, DropReason::PolicyEgress)
        }
        // A flow that has ended meanwhile has no sides to show.
        flow => {
            let side = flow.map_or(SideVerdict::NONE, |flow| flow.ingress);
            (Direction::Ingress, side, DropReason::PolicyIngress)
        }
    };
    match tables.port(PortId(side.endpoint)).map(|port| port.role) {
        Some(Role::Uplink { .. }) => {
            // A host endpoint's ingress is where the flow enters.
            direction = match direction {
                Direction::Egress => Direction::Ingress,
                Direction::Ingress => Direction::Egress,
            };
            reason = DropReason::PolicyHost;
        }
        Some(Role::Host) => reason = DropReason::PolicyHost,
        _ => {}
    }
    let rule = side.verdict.rule;
    burst.meta.rule[lane] = rule.0;
    state.counters.rules.add(rule.0, 1, burst.meta.ip_len[lane].into());
    log(burst, lane, (Event::Denied, direction, rule), PortId(side.endpoint), turned, state);
    state.drop_packet(burst, lane, reason);
}

/// Lets the fragments that pods send share the lot of the first one under the source's policy.
#[cold]
pub(super) fn sent_fragments(burst: &mut Burst, mask: u64, state: &mut WorkerState) {
    fragments::run(burst, mask, Word::OfSource, state);
}

/// Opens the flows of those that both policies have let pass.
pub fn open(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    let [entered, left] = state.flows.hosts;
    let ours = burst.alive & (burst.from_pod | burst.to_pod | entered | left) & !burst.originated;
    if !tables.policy.in_use || ours & (burst.opens | burst.fragments) == 0 {
        return;
    }
    let now = tick(state.now);
    for lane in lanes(ours & burst.opens & !burst.untracked) {
        let bit = |mask: u64| mask >> lane & 1 == 1;
        let from_host = bit(burst.from_host);
        let side = |direction, polices: bool, port: PortId| match polices {
            true => side_verdict(&state.flows, direction, lane, port, &tables.policy),
            false => SideVerdict::NONE,
        };
        let polices_out = bit(burst.to_pod) && !from_host || bit(left);
        let egress = side(Direction::Egress, bit(burst.from_pod | entered), burst.meta.in_port[lane]);
        let ingress = side(Direction::Ingress, polices_out, burst.meta.out_port[lane]);
        let FlowState { headers, found, .. } = &*state.flows;
        match tables.policy.flows.insert(headers, lane, egress, ingress, now, found) {
            Err(refused) if !from_host => state.drop_packet(burst, lane, why(refused)),
            _ => {}
        }
    }
    let fragments = burst.alive & ours & burst.fragments & (!burst.from_host | left);
    if fragments != 0 {
        fragments::run(burst, fragments, Word::OfBoth, state);
    }
}

fn side_verdict(
    flows: &FlowState,
    direction: Direction,
    lane: usize,
    port: PortId,
    policy: &PolicyTables,
) -> SideVerdict {
    let generations = policy.generations.get(port.index()).copied().unwrap_or_default();
    SideVerdict {
        endpoint: port.0,
        verdict: flows.verdict(direction, lane),
        generation: match direction {
            Direction::Egress => generations.egress,
            Direction::Ingress => generations.ingress,
        },
    }
}

fn why(refused: Refused) -> DropReason {
    match refused {
        Refused::TableFull | Refused::BucketsFull => DropReason::FlowTableFull,
        Refused::EvictableLimit | Refused::FlowLimit => DropReason::FlowLimit,
        _ => DropReason::FlowInvalid,
    }
}

/// Gives back the memory of expired flows; for workers that have nothing else to do.
pub fn sweep(tables: &Tables, now: Timestamp) {
    let policy = &tables.policy;
    if policy.in_use {
        policy.flows.expire(tick(now), IDLE_SWEEP, &policy.generations);
    }
}
