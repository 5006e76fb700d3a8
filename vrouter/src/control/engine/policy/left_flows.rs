//! Flows that the process before has left: each is given to the ports that have its addresses now.
//!
//! ```text
//!   address of                          the side is
//!   a pod that is here                  its port: the pod's policy is asked
//!   the node itself, or far away        the port that routes lead to: its host endpoint is asked
//!   nowhere (a pod that is gone)        nobody's: the flow is left
//! ```
//!
//! Port numbers and rules are others than before, so no verdict counts any more: every flow is noted with a generation
//! just older than the policy, and the policy is asked again with its next packet, in the direction in which the flow
//! was opened. Where a host endpoint is no more, the side is open.

use core::net::IpAddr;
use std::collections::HashMap;

use acl::conntrack::{Addresses, Flow, LayoutError, Line, SideVerdict, TakenOver, Tick};
use acl::{Action, RuleId, Verdict};

use crate::control::Engine;
use crate::ids::{PortId, Timestamp};
use crate::tables::Role;

impl Engine {
    /// Opens the flows that another table has left in `left`, as far as the pods, or routes to the hosts, are here that
    /// they belong to. To be called when these are in place and the policies known.
    ///
    /// # Errors
    /// Where `left` holds no flow table, or one of another version.
    pub fn take_over_flows(&self, left: &[Line], now: Timestamp) -> Result<TakenOver, LayoutError> {
        let owners = self.pod_addresses();
        let side = |old: SideVerdict, address: IpAddr, ingress: bool| {
            if old.endpoint == SideVerdict::NO_ENDPOINT {
                return Some(SideVerdict::NONE);
            }
            let port = owners.get(&address).copied().or_else(|| self.port_toward(address))?;
            let current = self.policy.generations.get(port.index())?;
            let current = if ingress { current.ingress } else { current.egress };
            let verdict = Verdict { action: Action::Allow, rule: RuleId::NONE };
            Some(SideVerdict { endpoint: port.0, verdict, generation: current.wrapping_sub(1) })
        };
        let sides = |flow: &Flow| {
            let (source, destination) = match flow.tuple.addresses {
                Addresses::V4(source, destination) => (source.into(), destination.into()),
                Addresses::V6(source, destination) => (source.into(), destination.into()),
            };
            Some([side(flow.egress, source, false)?, side(flow.ingress, destination, true)?])
        };
        self.policy.flows.take_over(left, Tick::from_millis(now.0 / 1_000_000), sides)
    }

    fn pod_addresses(&self) -> HashMap<IpAddr, PortId> {
        let ports = self.ports.iter().enumerate().filter_map(|(id, port)| Some((id, port.as_ref()?)));
        let pods = ports.filter(|(_, port)| port.role == Role::Pod);
        pods.flat_map(|(id, port)| {
            let v4 = port.addresses4.iter().map(|address| IpAddr::from(*address));
            let v6 = port.addresses6.iter().map(|address| IpAddr::from(*address));
            v4.chain(v6).map(move |address| (address, PortId(id as u16)))
        })
        .collect()
    }
}
