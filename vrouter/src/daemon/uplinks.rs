//! Uplinks: opened by name, followed through their life.
//!
//! The lock on the name is held as long as the node runs; the device itself may go
//! down, change its addresses and MTU, vanish and come back under another index.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::agent::link::{self, LinkInfo};
use crate::agent::uplink_guard::{self, UplinkGuard};
use crate::config::{self, Uplink};
use crate::control::{Event, PortRole, PortSpec};
use crate::daemon::node::{Node, NodeError};
use crate::frame::FrameArea;
use crate::port::af_xdp::{Device, DeviceOptions, Mode, Sharing, largest_mtu};

/// An uplink of the node.
pub struct UplinkPort {
    /// Its configuration.
    pub config: Uplink,
    /// The device as the kernel described it last.
    pub link: LinkInfo,
    /// The open device; `None` while it is gone.
    pub device: Option<Device>,
    _guard: UplinkGuard,
}

impl UplinkPort {
    /// Whether the kernel has no part in it.
    pub fn is_exclusive(&self) -> bool {
        *self.config.sharing == config::Sharing::Exclusive
    }

    /// The addresses on the link: configured, or the device's own global ones.
    pub fn addresses(&self) -> Vec<IpNet> {
        if !self.config.addresses.is_empty() {
            return self.config.addresses.iter().map(|net| **net).collect();
        }
        let exclusive = self.is_exclusive();
        let of_interest = |net: &&IpNet| match net.addr() {
            IpAddr::V4(address) => !address.is_link_local(),
            // Our own neighbour machine speaks for the link-local address too.
            IpAddr::V6(address) => exclusive || !address.is_unicast_link_local(),
        };
        self.link.addresses.iter().filter(of_interest).copied().collect()
    }

    /// The MTU in force: configured or the device's, within what frames hold.
    pub fn mtu(&self, area: &FrameArea) -> u32 {
        let wanted = match *self.config.mtu {
            0 => self.link.mtu,
            mtu => mtu.min(self.link.mtu),
        };
        wanted.min(largest_mtu(area.frame_size()))
    }

    fn spec(&self, area: &FrameArea) -> PortSpec {
        PortSpec {
            name: self.link.name.clone(),
            role: PortRole::Uplink { exclusive: self.is_exclusive(), addresses: self.addresses() },
            mac: self.link.mac.unwrap_or(encap::MacAddr::ZERO),
            peer_mac: encap::MacAddr::ZERO,
            mtu: self.mtu(area),
            up: self.link.is_running(),
        }
    }
}

/// How an uplink's device is opened.
fn options(config: &Uplink, frames: u32, uplinks: usize) -> DeviceOptions {
    let sharing = match *config.sharing {
        config::Sharing::Exclusive => Sharing::Exclusive,
        _ => Sharing::Host,
    };
    let mut options = DeviceOptions::uplink(sharing);
    options.mode = match *config.mode {
        config::UplinkMode::ZeroCopy => Mode::ZeroCopy,
        config::UplinkMode::Copy => Mode::Copy,
        config::UplinkMode::Generic => Mode::Generic,
        config::UplinkMode::PacketSocket => Mode::PacketSocket,
        _ => Mode::Auto,
    };
    // A quarter of all frames may wait in the fill rings of uplinks.
    let share = frames / 4 / u32::try_from(uplinks.max(1)).unwrap_or(u32::MAX);
    options.fill_depth = share.clamp(64, 2048);
    options
}

impl Node {
    /// Locks and opens the uplink of the configuration's entry `index`.
    pub(super) async fn claim_uplink(&mut self, index: usize) -> Result<(), NodeError> {
        let config = self.config.uplinks[index].clone();
        let claimed = uplink_guard::claim(&self.netlink, &config.device).await?;
        let name = claimed.link.name.clone();
        let mut uplink = UplinkPort { config, link: claimed.link, device: None, _guard: claimed.guard };
        self.open_uplink(&mut uplink)?;
        self.uplinks.insert(name, uplink);
        Ok(())
    }

    /// Opens the device and adds its port.
    fn open_uplink(&mut self, uplink: &mut UplinkPort) -> Result<(), NodeError> {
        let name = uplink.link.name.clone();
        let area: Arc<FrameArea> = self.router.frames().area().clone();
        let options = options(&uplink.config, area.count(), self.config.uplinks.len());
        let (device, queues) =
            Device::open(&area, &name, &options).map_err(|error| NodeError::Device(name.clone(), error))?;
        let (crossing, reason) = (device.crossing(), device.crossing_reason());
        tracing::info!("uplink {name}: {} queues, {crossing} {reason}", device.queues());
        self.warn_of_mtu(uplink);
        if let Some(vrf) = &uplink.config.vrf {
            self.router.apply(Event::BindPort { port: name.clone(), vrf: vrf.value.clone() })?;
        }
        self.router.add_port(uplink.spec(&area), queues)?;
        uplink.device = Some(device);
        self.program_uplink(uplink);
        Ok(())
    }

    fn warn_of_mtu(&mut self, uplink: &UplinkPort) {
        let area = self.router.frames().area();
        let (name, largest) = (&uplink.link.name, largest_mtu(area.frame_size()));
        let part = format!("uplink {name} mtu");
        if uplink.link.mtu > largest {
            let message = format!(
                "MTU {} of the device is larger than what frames of {} bytes carry: {largest} is used",
                uplink.link.mtu,
                area.frame_size(),
            );
            tracing::warn!("uplink {name}: {message}");
            self.problems.insert(part, message);
        } else {
            self.problems.remove(&part);
        }
    }

    /// Fills the XDP program's maps.
    fn program_uplink(&mut self, uplink: &mut UplinkPort) {
        let addresses: Vec<IpAddr> = uplink.addresses().iter().map(IpNet::addr).collect();
        let foreign: Vec<IpAddr> = uplink.config.foreign_tunnels.iter().map(|address| **address).collect();
        let name = uplink.link.name.clone();
        let Some(device) = &mut uplink.device else { return };
        let mut outcome = device.set_tunnel_addresses(&addresses);
        outcome = outcome.and(device.set_foreign_tunnels(&foreign));
        for prefix in &self.taken {
            outcome = outcome.and(device.take(*prefix));
        }
        self.note_problem(&format!("uplink {name} program"), outcome.err().map(|error| error.to_string()));
    }

    /// What the XDP programs of shared uplinks must take: own blocks, pods outside
    /// them, prefixes to forward.
    fn wanted_prefixes(&self) -> std::collections::BTreeSet<IpNet> {
        let blocks = self.config.node.blocks.iter().map(|block| **block);
        let forward = self.config.uplinks.iter().flat_map(|uplink| uplink.forward.iter().map(|net| **net));
        let pods =
            self.pods.values().flat_map(|pod| pod.spec.addresses.iter().map(|address| IpNet::from(*address)));
        blocks.chain(forward).chain(pods).collect()
    }

    /// Makes every XDP program take what it must.
    pub(super) fn sync_taken(&mut self) {
        let wanted = self.wanted_prefixes();
        let mut failure = None;
        for uplink in self.uplinks.values() {
            let Some(device) = &uplink.device else { continue };
            for prefix in wanted.difference(&self.taken) {
                failure = failure.or(device.take(*prefix).err());
            }
            for prefix in self.taken.difference(&wanted) {
                failure = failure.or(device.forget(*prefix).err());
            }
        }
        self.taken = wanted;
        self.note_problem("xdp prefixes", failure.map(|error| error.to_string()));
    }

    /// A device of the node appeared or changed.
    pub(super) async fn link_changed(&mut self, link: &LinkInfo) {
        let Some(mut uplink) = self.uplinks.remove(&link.name) else { return };
        let name = link.name.clone();
        let frame_size = self.router.frames().area().frame_size();
        // A device is opened for packets of one frame or of several, as its MTU asks for.
        let outgrown = uplink.device.as_ref().is_some_and(|device| !device.suits(link.mtu, frame_size));
        let recreated = uplink.link.index != link.index || uplink.device.is_none() || outgrown;
        if recreated && uplink.device.is_some() {
            self.close_uplink(&mut uplink);
        }
        let addresses_changed = uplink.link.addresses != link.addresses;
        uplink.link = link.clone();
        let mut outcome = Ok(());
        if recreated {
            outcome = self.reopen_uplink(&mut uplink).await;
        } else {
            let area = self.router.frames().area().clone();
            self.warn_of_mtu(&uplink);
            outcome = outcome.and(self.router.apply(Event::PutPort(uplink.spec(&area))).map_err(Into::into));
            if addresses_changed {
                self.program_uplink(&mut uplink);
            }
        }
        self.uplinks.insert(name.clone(), uplink);
        let outcome = match outcome {
            Ok(()) => self.commit().await.map(drop),
            error => error,
        };
        let problem = match outcome {
            Err(error) => Some(error.to_string()),
            Ok(()) if !link.is_running() => Some("the link is down".to_owned()),
            Ok(()) => None,
        };
        self.note_problem(&format!("uplink {name}"), problem);
    }

    async fn reopen_uplink(&mut self, uplink: &mut UplinkPort) -> Result<(), NodeError> {
        let fresh = link::find(&self.netlink, &uplink.link.name).await?;
        if let Some(program) = fresh.as_ref().and_then(|link| link.xdp_prog_id) {
            return Err(uplink_guard::UplinkRefused::ForeignXdp {
                device: uplink.link.name.clone(),
                program,
            }
            .into());
        }
        uplink_guard::check_kind(&uplink.link, None)?;
        self.open_uplink(uplink)
    }

    fn close_uplink(&mut self, uplink: &mut UplinkPort) {
        if let Err(error) = self.router.remove_port(&uplink.link.name) {
            tracing::error!("uplink {}: {error}", uplink.link.name);
        }
        uplink.device = None;
    }

    /// A device of the node is gone.
    pub(super) async fn link_removed(&mut self, name: &str) {
        let Some(mut uplink) = self.uplinks.remove(name) else { return };
        if uplink.device.is_some() {
            self.close_uplink(&mut uplink);
        }
        self.uplinks.insert(name.to_owned(), uplink);
        self.note_problem(&format!("uplink {name}"), Some("the device is gone".to_owned()));
        if let Err(error) = self.commit().await {
            tracing::error!("{error}");
        }
    }

    /// Notes or clears what is wrong with a part, and logs the change.
    pub(super) fn note_problem(&mut self, part: &str, problem: Option<String>) {
        match problem {
            Some(problem) => {
                if self.problems.get(part) != Some(&problem) {
                    tracing::warn!("{part}: {problem}");
                    self.problems.insert(part.to_owned(), problem);
                }
            }
            None => {
                if self.problems.remove(part).is_some() {
                    tracing::info!("{part}: well again");
                }
            }
        }
    }
}
