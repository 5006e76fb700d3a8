//! `ListPorts`: uplinks, pods and the host port with what they counted.

use crate::config::{Attach, UplinkMode};
use crate::control::PortRole;
use crate::daemon::Node;
use crate::daemon::host::HOST_PORT;
use crate::port::af_xdp::{Crossing, Device};
use crate::rpc::v1;
use crate::totals::PortTotals;

/// All ports: uplinks that wait for their device too, without a number.
pub(crate) fn list(node: &Node) -> Vec<v1::Port> {
    let mut out: Vec<v1::Port> = node
        .router
        .placements()
        .iter()
        .map(|placement| {
            let totals = node.router.port_totals(placement.port).unwrap_or_default();
            let mut port = v1::Port {
                id: placement.port.0.into(),
                name: placement.name.clone(),
                queues: u32::try_from(placement.queues.len()).unwrap_or(u32::MAX),
                workers: placement.queues.iter().map(|worker| worker.0.into()).collect(),
                vrf: vrf_of(node, &placement.name),
                ..v1::Port::default()
            };
            count(&mut port, &totals);
            describe(node, &mut port, totals.broken);
            port
        })
        .collect();
    let gone = node.uplinks.iter().filter(|(_, uplink)| uplink.device.is_none());
    out.extend(gone.map(|(name, uplink)| v1::Port {
        name: name.clone(),
        kind: v1::PortKind::AfXdp.into(),
        role: v1::PortRole::Uplink.into(),
        device: name.clone(),
        mode_reason: "the device is gone".to_owned(),
        addresses: uplink.addresses().iter().map(ToString::to_string).collect(),
        vrf: vrf_of(node, name),
        ..v1::Port::default()
    }));
    out.sort_by_key(|port| (port.role, port.name.clone()));
    out
}

fn vrf_of(node: &Node, port: &str) -> String {
    let desired = node.router.engine().desired();
    desired.vrf_name(desired.vrf_of(port)).to_owned()
}

fn count(port: &mut v1::Port, totals: &PortTotals) {
    port.rx_packets = totals.rx_packets;
    port.rx_bytes = totals.rx_bytes;
    port.tx_packets = totals.tx_packets;
    port.tx_bytes = totals.tx_bytes;
    port.drops = totals.dropped();
    port.frames_held = totals.lent_frames;
    port.punts = totals.punts;
    port.consumed = totals.consumed;
    port.originated = totals.originated;
}

/// What the kernel lost at a port under AF_XDP.
fn kernel_losses(totals: &PortTotals, device: &Device) -> v1::KernelLosses {
    let (xdp_passed, _, xdp_dropped) = device.program_counters();
    v1::KernelLosses {
        rx_dropped: totals.kernel.rx_dropped,
        rx_ring_full: totals.kernel.rx_ring_full,
        rx_fill_ring_empty: totals.kernel.rx_fill_empty,
        rx_invalid: totals.kernel.rx_invalid,
        tx_invalid: totals.kernel.tx_invalid,
        tx_ring_empty: totals.kernel.tx_empty,
        xdp_passed,
        xdp_dropped,
    }
}

fn describe(node: &Node, port: &mut v1::Port, broken: bool) {
    let engine = node.router.engine();
    let Some(spec) = engine.desired().ports.get(&port.name) else { return };
    port.mac = spec.mac.to_string();
    port.mtu = spec.mtu;
    port.admin_up = true;
    port.link_up = spec.up && !broken;
    match &spec.role {
        PortRole::Uplink { addresses, .. } => {
            port.role = v1::PortRole::Uplink.into();
            port.kind = v1::PortKind::AfXdp.into();
            port.device.clone_from(&port.name);
            port.addresses = addresses.iter().map(ToString::to_string).collect();
            let Some(uplink) = node.uplinks.get(&port.name) else { return };
            port.admin_up = uplink.link.admin_up;
            port.link_up = uplink.link.carrier;
            if let Some(device) = &uplink.device {
                under_af_xdp(node, port, device);
                let wanted = *uplink.config.mode;
                if device.crossing() != Crossing::ZeroCopy && wanted != UplinkMode::Auto {
                    port.mode_reason = "asked for by the configuration".to_owned();
                }
            }
        }
        PortRole::Host { addresses } => {
            port.role = v1::PortRole::Host.into();
            port.kind = v1::PortKind::Tap.into();
            port.mode = v1::PortMode::ReadWrite.into();
            port.device = HOST_PORT.to_owned();
            port.addresses = addresses.iter().map(ToString::to_string).collect();
        }
        PortRole::Pod { addresses, .. } => {
            port.role = v1::PortRole::Pod.into();
            port.pod.clone_from(&port.name);
            port.addresses = addresses.iter().map(ToString::to_string).collect();
            let Some(pod) = node.pods.get(&port.name) else { return };
            match (pod.spec.attach, &pod.device) {
                (Attach::Veth, device) => {
                    port.kind = v1::PortKind::Veth.into();
                    port.device = pod.record.host_device.clone().unwrap_or_default();
                    if let Some(device) = device {
                        under_af_xdp(node, port, device);
                    }
                }
                (Attach::Tap, _) => {
                    port.kind = v1::PortKind::Tap.into();
                    port.mode = v1::PortMode::ReadWrite.into();
                }
            }
        }
    }
}

fn under_af_xdp(node: &Node, port: &mut v1::Port, device: &Device) {
    port.mode = match device.crossing() {
        Crossing::ZeroCopy => v1::PortMode::ZeroCopy,
        Crossing::NativeCopy => v1::PortMode::NativeCopy,
        Crossing::Generic => v1::PortMode::Generic,
        Crossing::PacketSocket => v1::PortMode::PacketSocket,
    }
    .into();
    port.mode_reason = device.crossing_reason().to_owned();
    let id = node.router.engine().port_id(&port.name);
    if let Some(totals) = id.and_then(|id| node.router.port_totals(id)) {
        port.kernel = Some(kernel_losses(&totals, device));
    }
}
