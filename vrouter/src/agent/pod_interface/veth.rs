//! The veth pair between a pod's namespace and the node's.
//!
//! The host end is named by a hash of the namespace, the pod and the interface, so
//! that a router that starts again finds it. A new pair has a queue in each direction for
//! each worker. Which one a packet takes is chosen in the pod, by its flow and for both ways
//! alike ([`steering`](crate::sys::steering)), so that a flow's packets stay in order.
//!
//! The dataplane takes every frame off the host end before the node's stack sees
//! it. When the router is gone they would reach the stack; it drops them, because
//! they are addressed to the gateway's MAC and the host end has another, and it is
//! kept from IPv6 and from forwarding besides.

use std::os::fd::{AsFd, AsRawFd};

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{HostEnd, OfPod, Place, PodInterfaceError, PodInterfaceSpec};
use crate::agent::device_route;
use crate::agent::link::{self, LinkInfo, LinkKind};
use crate::agent::netlink::Doing;
use crate::agent::sysctl::{self, SysctlError};

/// The pod's pair, host end up. On an error, a pair that this call made is gone.
pub(super) async fn open(
    place: &Place<'_>,
    existing: Option<LinkInfo>,
) -> Result<HostEnd, PodInterfaceError> {
    let (pod, spec) = (&place.spec.pod, place.spec);
    let name = host_name(place.netns.identity(), spec);
    let host = link::find(place.node, &name).await.of(pod)?;
    let (link, made) = match (existing, host) {
        (Some(inside), Some(host)) if is_pair(&inside, &host) => (host, false),
        (Some(inside), _) => {
            let kind = inside.kind;
            return Err(place.occupied(format!("it is a {kind} device, not the peer of `{name}`")));
        }
        (None, host) => {
            // A host end without its peer is what is left of an earlier attachment
            // whose interface was moved or renamed.
            if let Some(host) = host {
                link::delete(place.node, host.index).await.of(pod)?;
            }
            (make(place, &name).await?, true)
        }
    };
    match configure(place, &link).await {
        Ok(()) => Ok(HostEnd::Veth { name, index: link.index }),
        Err(error) => {
            if made {
                link::delete(place.node, link.index).await.of(pod)?;
            }
            Err(error)
        }
    }
}

/// The host end's name: `vr` and 44 bits of an FNV-1a hash, 13 of the 15 octets that
/// a device name may have.
fn host_name((device, inode): (u64, u64), spec: &PodInterfaceSpec) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for octet in format!("{device}:{inode}|{}|{}", spec.pod, spec.interface).bytes() {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("vr{:011x}", hash >> 20)
}

/// Whether two devices are the ends of one pair. Indexes are compared crosswise:
/// each is unique in its own namespace only.
fn is_pair(inside: &LinkInfo, host: &LinkInfo) -> bool {
    inside.kind == LinkKind::Veth
        && host.kind == LinkKind::Veth
        && inside.peer_index == Some(host.index)
        && host.peer_index == Some(inside.index)
}

async fn make(place: &Place<'_>, name: &str) -> Result<LinkInfo, PodInterfaceError> {
    let (pod, spec) = (&place.spec.pod, place.spec);
    let queues = u32::from(spec.queues.max(1));
    let queues = [LinkAttribute::NumTxQueues(queues), LinkAttribute::NumRxQueues(queues)];
    let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
        .name(&spec.interface)
        .mtu(spec.mtu)
        .setns_by_fd(place.netns.as_fd().as_raw_fd());
    if let Some(mac) = spec.mac {
        peer = peer.address(mac.0.to_vec());
    }
    let mut pair = LinkVeth::new(name, &spec.interface).mtu(spec.mtu);
    for attribute in queues {
        peer = peer.append_extra_attribute(attribute.clone());
        pair = pair.append_extra_attribute(attribute);
    }
    let pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build();
    let made = place.node.handle().link().add(pair).execute().await;
    made.doing(|| format!("make veth pair `{name}` and `{}`", spec.interface)).of(pod)?;
    let link = link::find(place.node, name).await.of(pod)?;
    link.ok_or_else(|| place.occupied(format!("its host end `{name}` was removed meanwhile")))
}

async fn configure(place: &Place<'_>, host: &LinkInfo) -> Result<(), PodInterfaceError> {
    let (pod, spec) = (&place.spec.pod, place.spec);
    isolate(&host.name).of(pod)?;
    let mut settings = device_route::settings(host.index);
    if host.mtu != spec.mtu {
        settings = settings.mtu(spec.mtu);
    }
    if !host.admin_up {
        settings = settings.up();
    }
    device_route::change(place.node, &host.name, settings).await.of(pod)
}

/// Keeps the node's stack off the host end.
fn isolate(device: &str) -> Result<(), SysctlError> {
    sysctl::write(&format!("ipv4/conf/{device}/forwarding"), "0")?;
    // Answer ARP for no address at all.
    sysctl::write(&format!("ipv4/conf/{device}/arp_ignore"), "8")?;
    match sysctl::write(&format!("ipv6/conf/{device}/disable_ipv6"), "1") {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Attach;
    use super::*;

    #[test]
    fn the_host_name_fits_and_tells_apart() {
        let spec = |pod: &str, interface: &str| PodInterfaceSpec {
            pod: pod.into(),
            netns: "/run/netns/a".into(),
            interface: interface.into(),
            attach: Attach::Veth,
            addresses: vec!["10.0.0.1".parse().unwrap()],
            mac: None,
            mtu: 1500,
            queues: 1,
        };
        let name = host_name((4, 4_026_532_281), &spec("default/a", "eth0"));
        assert_eq!(name.len(), 13);
        assert_eq!(name, host_name((4, 4_026_532_281), &spec("default/a", "eth0")));
        for other in [
            host_name((4, 4_026_532_282), &spec("default/a", "eth0")),
            host_name((4, 4_026_532_281), &spec("default/b", "eth0")),
            host_name((4, 4_026_532_281), &spec("default/a", "eth1")),
        ] {
            assert_ne!(name, other);
        }
    }
}
