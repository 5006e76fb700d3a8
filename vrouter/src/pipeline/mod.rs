//! The forwarding path, on one page.
//!
//! ```text
//!   rx -> parse -> gateway -> decap -> anti_spoof -> conntrack -> source_policy -> lookup -> hold
//!                    |                                 |                              |
//!              ARP/ND replies,                   known flows pass               receive (echo)
//!              punt to slow path                 both policies unasked                |
//!      -> dest_policy -> conntrack::open -> ttl_mtu -> encap -> rewrite -> output -> tx
//!                                              |
//!                                       icmp_error, fragment  --(originated burst)--> lookup
//! ```
//!
//! The policy of host endpoints is asked within two of these: of untracked packets in `conntrack`, of others
//! in `dest_policy`, around the pod's own.
//!
//! Each stage is one file with one function over the whole burst. A packet that
//! leaves early is dropped (one [`DropReason`](crate::drop_reason::DropReason),
//! one counter), punted, held, or turned into a reply.
//!
//! Packets that the router makes itself enter a second burst, which goes through
//! the same stages from `lookup` on, with the `originated` bit set: no policy, no
//! TTL decrement, no further ICMP error about them. Encapsulation comes before the
//! Ethernet rewrite, because the rewrite belongs to whatever header is outermost.
//!
//! NAT will sit between `conntrack` and `source_policy`.

pub mod anti_spoof;
pub mod conntrack;
pub mod decap;
pub mod dest_policy;
pub mod encap;
pub mod flow_log;
pub mod fragment;
pub mod gateway;
pub mod hold;
pub mod hook;
mod host_policy;
pub mod icmp_error;
pub mod lookup;
pub mod output;
pub mod parse;
pub mod path_mtu;
mod police;
pub mod punt;
pub mod receive;
pub mod rewrite;
pub mod source_policy;
pub mod spread;
pub mod state;
pub mod stopwatch;
pub mod trace;
pub mod ttl_mtu;
pub mod vrf;

use crate::burst::Burst;
use crate::path_stage::PathStage;
use crate::tables::Tables;
use hook::HookPoint;
use state::WorkerState;

/// Runs received packets through every stage. The burst is empty afterwards.
pub fn run(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    if !tables.trace.is_empty() {
        trace::select(burst, &tables.trace, state);
    }
    let asked = parse::run(burst, tables, state);
    state.lap(PathStage::Parse);
    if asked.any() {
        gateway::run(burst, asked, tables, state);
        state.lap(PathStage::Gateway);
    }
    hook::run(HookPoint::AfterParse, burst, tables, state);
    decap::run(burst, tables, state);
    state.lap(PathStage::Decap);
    anti_spoof::run(burst, tables, state);
    state.lap(PathStage::AntiSpoof);
    conntrack::run(burst, tables, state);
    state.lap(PathStage::Flows);
    source_policy::run(burst, tables, state);
    state.lap(PathStage::SourcePolicy);
    hook::run(HookPoint::BeforeLookup, burst, tables, state);
    forward(burst, tables, state);
    originate(tables, state);
}

/// The second half of the path, which received, held and originated packets share.
fn forward(burst: &mut Burst, tables: &Tables, state: &mut WorkerState) {
    lookup::run(burst, tables, state);
    state.lap(PathStage::Lookup);
    dest_policy::run(burst, tables, state);
    state.lap(PathStage::DestPolicy);
    conntrack::open(burst, tables, state);
    state.lap(PathStage::Flows);
    ttl_mtu::run(burst, tables, state);
    state.lap(PathStage::TtlMtu);
    encap::run(burst, tables, state);
    state.lap(PathStage::Encap);
    rewrite::run(burst, state);
    state.lap(PathStage::Rewrite);
    hook::run(HookPoint::BeforeOutput, burst, tables, state);
    output::run(burst, tables, state);
    state.lap(PathStage::Output);
    burst.clear();
}

/// Sends what the router itself made while a burst ran.
#[inline]
pub fn originate(tables: &Tables, state: &mut WorkerState) {
    if !state.originated.is_empty() {
        send_originated(tables, state);
    }
}

fn send_originated(tables: &Tables, state: &mut WorkerState) {
    // What these packets originate in turn are fragments of themselves, which fit.
    while !state.originated.is_empty() {
        let mut originated = state.take_spare();
        core::mem::swap(&mut originated, &mut state.originated);
        originated.originated = originated.alive;
        forward(&mut originated, tables, state);
        state.put_spare(originated);
    }
}

/// Tries again what waited for a neighbour. Returns the number of packets tried. Those whose flow was
/// not open yet are looked up again: their turn to open it comes behind `lookup`.
#[cold]
pub fn release_held(tables: &Tables, state: &mut WorkerState) -> usize {
    let mut tried = 0;
    let mut burst = state.take_spare();
    loop {
        let released = hold::release(&mut burst, state);
        if released == 0 {
            break;
        }
        tried += released;
        conntrack::run(&mut burst, tables, state);
        source_policy::run(&mut burst, tables, state);
        forward(&mut burst, tables, state);
        originate(tables, state);
    }
    state.put_spare(burst);
    tried
}
