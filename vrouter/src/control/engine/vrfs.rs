//! VRFs: routing tables beside the default one, for uplinks whose traffic is kept apart.
//!
//! ```text
//!   default   pods, the node itself, tunnels, uplinks        RIB, FIB of its own
//!   blue      uplinks eth2, eth3                             RIB, FIB of its own
//!   red       uplink eth4                                    RIB, FIB of its own
//! ```
//!
//! A VRF comes to be with the first port that is bound to it and keeps its number. Its routes
//! resolve through its own routes and links alone: nothing leads from one VRF to another.
//! Prefixes and addresses may occur in several. Next-hop groups and adjacencies are shared.

use super::{Engine, EngineError, Vrf};
use crate::control::desired::{PortRole, PortSpec};
use crate::ids::VrfId;
use crate::tables::{GATEWAY_V4, GATEWAY_V6, VrfTables};

impl Engine {
    pub(super) fn named_vrf(&self, name: &str) -> Result<VrfId, EngineError> {
        self.desired.vrf(name).ok_or_else(|| EngineError::NoSuchVrf(name.to_owned()))
    }

    pub(super) fn bind_port(&mut self, port: String, vrf: String) -> Result<(), EngineError> {
        if let Some(known) = self.desired.vrf(&vrf)
            && known == self.desired.vrf_of(&port)
        {
            return Ok(());
        }
        if self.desired.ports.contains_key(&port) {
            return Err(EngineError::PortBound(port));
        }
        let id = match self.desired.vrf(&vrf) {
            Some(id) => id,
            None if self.vrfs.len() == VrfId::COUNT => return Err(EngineError::TooManyVrfs),
            None => {
                let id = VrfId(self.vrfs.len() as u16);
                self.vrfs.push(Vrf::new(id));
                self.desired.vrfs.push(vrf);
                self.changed.tables = true;
                id
            }
        };
        self.desired.port_vrfs.insert(port, id);
        Ok(())
    }

    /// Pods, the host port and what the kernel shares belong to the default VRF.
    pub(super) fn check_vrf(&self, spec: &PortSpec) -> Result<(), EngineError> {
        let apart = self.desired.vrf_of(&spec.name) != VrfId::DEFAULT;
        match spec.role {
            PortRole::Uplink { exclusive: true, .. } => Ok(()),
            _ if apart => Err(EngineError::NotForVrf(spec.name.clone())),
            _ => Ok(()),
        }
    }

    /// The VRFs beside the default one, as tables hold them.
    pub(super) fn vrf_tables(&self) -> impl Iterator<Item = VrfTables> + '_ {
        self.vrfs.iter().enumerate().skip(1).map(|(number, vrf)| {
            let id = VrfId(number as u16);
            VrfTables {
                fib4: vrf.v4.fib.reader(),
                fib6: vrf.v6.fib.reader(),
                icmp_source4: self.desired.first_v4(id).unwrap_or(GATEWAY_V4),
                icmp_source6: self.desired.first_v6(id).unwrap_or(GATEWAY_V6),
            }
        })
    }
}
