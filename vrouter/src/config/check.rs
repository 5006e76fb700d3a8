//! What only shows when the parts of a configuration stand together, without asking the system.

use std::collections::BTreeMap;

use api::Resource;
use ipnet::IpNet;

use super::Host;
use super::diagnostics::{Diagnostics, Place, Setting};
use super::model::{Config, IdleMode, Sharing};

/// Checks a configuration as read.
pub(super) fn check(config: &Config, host: &Host<'_>, out: &mut Diagnostics) {
    let pools: Vec<IpNet> = config.pools.iter().map(|pool| pool.resource.spec.cidr).collect();
    check_cores(config, host, out);
    check_blocks(config, &pools, out);
    check_uplinks(config, out);
    check_resources(config, out);
    check_vrfs(config, out);
    let peers = config.peers.iter().map(|peer| &peer.address);
    check_twice(peers, "peer", out);
    check_twice(&config.policy.failsafe_inbound_host_ports, "", out);
    check_twice(&config.policy.failsafe_outbound_host_ports, "", out);
    check_pods(config, &pools, out);
    // A configuration with errors has no meaningful demand.
    if out.errors() == 0 {
        check_frames(config, host, out);
    }
}

/// Each value of `settings` once.
fn check_twice<'a, T: Ord + std::fmt::Display + 'a>(
    settings: impl IntoIterator<Item = &'a Setting<T>>,
    what: &str,
    out: &mut Diagnostics,
) {
    let mut seen: BTreeMap<&T, &Place> = BTreeMap::new();
    for setting in settings {
        if let Some(first) = seen.insert(&setting.value, &setting.place) {
            out.error(
                &setting.place,
                format!("{what} {} is already given at {}", setting.value, first.key).trim_start(),
                "each once",
            );
        }
    }
}

fn check_cores(config: &Config, host: &Host<'_>, out: &mut Diagnostics) {
    let cores = &config.workers.cores;
    let present = match (host.cpus.first(), host.cpus.last()) {
        (Some(first), Some(last)) if last - first + 1 == host.cpus.len() && first != last => {
            format!("{first} to {last}")
        }
        _ => host.cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    for core in cores {
        if !host.cpus.contains(core) {
            let message = format!("there is no core {} here", core.value);
            out.error(&core.place, message, format!("a core this process may use: {present}"));
        }
    }
    check_twice(cores, "core", out);
    let idle = &config.workers.idle;
    if cores.is_empty() {
        let place = Place::new("workers.cores", config.workers.idle.place.span.clone());
        out.error(&place, "there is no core to work on", "at least one core");
    } else if **idle == IdleMode::Poll && cores.len() >= host.cpus.len() {
        out.warning(
            &idle.place,
            "poll on every core: the kernel and the control plane share them with spinning workers",
            "fewer cores, or idle = \"adaptive\"",
        );
    }
}

fn check_blocks(config: &Config, pools: &[IpNet], out: &mut Diagnostics) {
    let blocks = &config.node.blocks;
    for block in blocks {
        if !pools.iter().any(|pool| pool.contains(&block.value)) {
            let message = format!("block {} is outside every pool", block.value);
            out.error(&block.place, message, "a part of one [[pool]]");
        }
    }
    let nets: Vec<IpNet> = blocks.iter().map(|block| block.value).collect();
    for (earlier, later) in api::ip_pool::overlapping(&nets) {
        let message = format!("block {} overlaps block {}", nets[later], nets[earlier]);
        out.error(&blocks[later].place, message, "blocks that share no address");
    }
}

fn check_uplinks(config: &Config, out: &mut Diagnostics) {
    let devices = config.uplinks.iter().map(|uplink| &uplink.device);
    check_twice(devices, "device", out);
    for uplink in &config.uplinks {
        if *uplink.sharing == Sharing::Exclusive {
            for (given, places) in [
                ("forward", uplink.forward.first().map(|f| &f.place)),
                ("foreign_tunnels", uplink.foreign_tunnels.first().map(|f| &f.place)),
            ] {
                if let Some(place) = places {
                    out.error(
                        place,
                        format!("{given} beside sharing = \"exclusive\", where all traffic is the router's"),
                        format!("sharing = \"host\", or no {given}"),
                    );
                }
            }
        }
        if let Some(vrf) = &uplink.vrf
            && *uplink.sharing != Sharing::Exclusive
        {
            out.error(
                &vrf.place,
                "vrf beside sharing = \"host\", where the kernel's routes count too",
                "sharing = \"exclusive\", or no vrf",
            );
        }
        check_twice(&uplink.forward, "prefix", out);
        check_twice(&uplink.addresses, "address", out);
        check_twice(&uplink.foreign_tunnels, "address", out);
    }
}

/// Pools and routes beside each other: names, ranges, prefixes.
fn check_resources(config: &Config, out: &mut Diagnostics) {
    let pools = config.pools.iter().map(|pool| {
        let resource = Resource::IpPool(pool.resource.clone());
        (resource, &pool.place)
    });
    let routes = config.routes.iter().map(|route| {
        let resource = Resource::Route(route.resource.clone());
        (resource, &route.place)
    });
    let all: Vec<(Resource, &Place)> = pools.chain(routes).collect();
    for problem in api::check_set(all.iter().map(|(resource, _)| resource)) {
        // The problem belongs to the last resource of its name: the one whose coming made it.
        let place = all
            .iter()
            .rev()
            .find(|(r, _)| r.kind().as_str() == problem.kind && r.name() == problem.name)
            .map_or_else(Place::default, |(_, place)| (*place).clone());
        let message = if problem.path == "metadata.name" {
            format!("name {}", problem.message)
        } else {
            problem.message
        };
        out.error(&place, message, problem.expected);
    }
}

/// A VRF comes to be with its uplinks.
fn check_vrfs(config: &Config, out: &mut Diagnostics) {
    let known: Vec<&str> =
        config.uplinks.iter().filter_map(|uplink| Some(uplink.vrf.as_ref()?.value.as_str())).collect();
    for route in &config.routes {
        let vrf = route.resource.spec.vrf.as_str();
        if !vrf.is_empty() && !known.contains(&vrf) {
            let expected = match known.as_slice() {
                [] => "an [[uplink]] with that vrf".to_owned(),
                known => format!("the vrf of an [[uplink]]: {}", known.join(", ")),
            };
            out.error(&route.vrf_place, format!("no uplink is in VRF {vrf}"), expected);
        }
    }
}

fn check_pods(config: &Config, pools: &[IpNet], out: &mut Diagnostics) {
    for (index, pod) in config.pods.iter().enumerate() {
        let earlier = config.pods[..index].iter().map(|other| &other.spec);
        let mut faults = pod.spec.faults();
        let own: Vec<_> = faults.iter().map(|fault| fault.field).collect();
        faults.extend(
            pod.spec
                .faults_beside(earlier, pools)
                .into_iter()
                // What is wrong in itself need not be outside the pools as well.
                .filter(|fault| !own.contains(&fault.field)),
        );
        for fault in faults {
            out.error(pod.place_of(fault.field), fault.message, fault.expected);
        }
        check_in_block(config, index, pools, out);
    }
}

/// A pod outside the node's blocks is reached only where other nodes have a route for it alone.
fn check_in_block(config: &Config, index: usize, pools: &[IpNet], out: &mut Diagnostics) {
    let pod = &config.pods[index];
    for (address, place) in pod.spec.addresses.iter().zip(&pod.address_places) {
        let mut blocks = config.node.blocks.iter();
        let of_family = |net: &IpNet| net.addr().is_ipv4() == address.is_ipv4();
        let has_blocks = blocks.clone().any(|block| of_family(block));
        let in_block = blocks.any(|block| block.contains(address));
        if has_blocks && !in_block && pools.iter().any(|pool| pool.contains(address)) {
            out.warning(
                place,
                format!("{address} is outside this node's blocks: other nodes need a route for it alone"),
                "an address of node.blocks",
            );
        }
    }
}

fn check_frames(config: &Config, host: &Host<'_>, out: &mut Diagnostics) {
    let frames = &config.memory.frames;
    let needed = (host.frames_needed)(config);
    if **frames < needed {
        out.error(
            &frames.place,
            format!("{} frames are too few for these ports and workers", frames.value),
            format!("at least {needed}"),
        );
    }
}
