//! From TOML to [`Config`]: one function a table.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use api::{EncapMode, FailsafePort, IpPool, NextHop, Problem, Route, RouteEncap, RouteType};
use ipnet::IpNet;
use toml_edit::{Array, Document, Item, Table, Value};

use super::Host;
use super::diagnostics::{Diagnostics, Place, Setting};
use super::model::{
    Config, Ecmp, IdleMode, Memory, Node, Peer, Pod, Policy, Pool, Sharing, StaticRoute, Uplink, UplinkMode,
    Workers,
};
use super::pod::{Attach, INTERFACE_NAME, PodSpec, check_interface_name, parse_pod_address};
use super::section::{Section, show_value, unsupported};
use super::suggest::nearest;

const PREFIX: &str = "a prefix such as \"10.100.36.64/26\"";
const ADDRESS: &str = "an address such as \"172.16.20.253\"";
/// Source kinds of later releases.
const SOURCES: [&str; 7] = ["files", "etcd", "bgp", "kernel", "fpm", "felix", "api"];
/// The longest path that a Unix socket address holds, less the closing NUL.
const SOCKET_PATH: usize = 107;

/// Reads the text that `out` shows its findings in.
pub(super) fn read(text: &str, host: &Host<'_>, out: &mut Diagnostics) -> Config {
    let empty = Table::new();
    let document = Document::parse(text);
    let root = match &document {
        Ok(document) => document.as_table(),
        Err(error) => {
            let place = Place::new("", error.span());
            out.error(&place, error.message().trim(), "TOML");
            &empty
        }
    };
    let mut root = Section::new(Some(root), Place::default(), out);
    let config = Config {
        node: root.table("node", |section| node(section, host)),
        memory: root.table("memory", memory),
        workers: root.table("workers", |section| workers(section, host)),
        ecmp: root.table("ecmp", |section| Ecmp {
            inner: section.boolean("inner"),
            seed: section.number("seed", 0..=u32::MAX, 0),
        }),
        uplinks: root.tables("uplink", uplink),
        pools: root.tables("pool", pool),
        peers: root.tables("peer", peer),
        policy: root.table("policy", policy),
        routes: root.tables("route", route),
        pods: root.tables("pod", pod),
    };
    root.tables("source", source);
    root.finish();
    config
}

fn parse_net(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| format!("{text:?} is not a prefix"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("{net} has bits set behind the prefix: the prefix is {}", net.trunc()))
    }
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an address"))
}

fn parse_peer(text: &str) -> Result<IpAddr, String> {
    let address = parse_address(text)?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        Err(format!("{address} is no unicast address of another node"))
    } else {
        Ok(address)
    }
}

fn parse_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err(format!("{text:?} is not an absolute path")) }
}

fn parse_socket(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("unix:").ok_or_else(|| format!("{text:?} does not begin with unix:"))?;
    // unix:///run/x and unix:/run/x are the same path.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.len() > SOCKET_PATH {
        return Err(format!("the path has {} bytes, a Unix socket's at most {SOCKET_PATH}", path.len()));
    }
    parse_directory(path)
}

fn node(section: &mut Section<'_, '_>, host: &Host<'_>) -> Node {
    let default = |section: &Section<'_, '_>, key| section.place_of(key);
    let name = section.parsed("name", "a DNS name in lower case", |text| {
        api::check_dns_name(text).map(|()| text.to_owned()).map_err(|error| format!("{text:?} {error}"))
    });
    let api = section.parsed("api", "unix: and an absolute path", parse_socket);
    let metrics = section.parsed("metrics", "address and port, such as \"127.0.0.1:9091\"", |text| {
        text.parse::<SocketAddr>().map_err(|_| format!("{text:?} is not an address and port"))
    });
    let state_dir = section.parsed("state_dir", "an absolute path", parse_directory);
    Node {
        name: name.unwrap_or_else(|| Setting::new(host.name.to_owned(), default(section, "name"))),
        api: api.unwrap_or_else(|| {
            Setting::new(PathBuf::from("/run/vrouter/vrouter.sock"), default(section, "api"))
        }),
        metrics: metrics.unwrap_or_else(|| {
            Setting::new(SocketAddr::from(([127, 0, 0, 1], 9091)), default(section, "metrics"))
        }),
        state_dir: state_dir.unwrap_or_else(|| {
            Setting::new(PathBuf::from("/var/lib/vrouter"), default(section, "state_dir"))
        }),
        blocks: section.strings("blocks", PREFIX, parse_net).unwrap_or_default(),
    }
}

fn memory(section: &mut Section<'_, '_>) -> Memory {
    let frames = section.number("frames", 256..=16_777_216, 16_384);
    let mut frame_size = section.number("frame_size", 0..=u32::MAX, 2048);
    if !matches!(frame_size.value, 2048 | 4096) {
        let found = format!("found {}", frame_size.value);
        section.error_at(&frame_size.place, found, "2048 or 4096");
        frame_size.value = 2048;
    }
    let flows = section.number("flows", 1024..=67_108_864, 262_144);
    Memory { frames, frame_size, flows }
}

fn workers(section: &mut Section<'_, '_>, host: &Host<'_>) -> Workers {
    const CORE: &str = "the number of a core";
    let cores = section.list("cores", CORE, |value| {
        value
            .as_integer()
            .and_then(|core| usize::try_from(core).ok())
            .ok_or_else(|| format!("found {}", show_value(value)))
    });
    // Core 0 commonly serves the devices' interrupts, so the default leaves it alone where it can.
    let default = host.cpus.iter().copied().find(|core| *core == 1);
    let default = default.or(host.cpus.first().copied()).unwrap_or(0);
    let cores = cores.unwrap_or_else(|| vec![Setting::new(default, section.place_of("cores"))]);
    Workers { cores, idle: section.word("idle", &IdleMode::NAMES, &[], IdleMode::Adaptive) }
}

fn uplink(section: &mut Section<'_, '_>) -> Option<Uplink> {
    let device =
        section.parsed("device", INTERFACE_NAME, |text| check_interface_name(text).map(|()| text.to_owned()));
    section.missing("device", "the name of a network device");
    let mode = section.word("mode", &UplinkMode::NAMES, &[], UplinkMode::Auto);
    let sharing = section.word("sharing", &Sharing::NAMES, &[], Sharing::Host);
    let forward = section.strings("forward", PREFIX, parse_net);
    let addresses = section.strings("addresses", "an address and prefix length", |text| {
        text.parse::<IpNet>().map_err(|_| format!("{text:?} is not an address and prefix length"))
    });
    let foreign_tunnels = section.strings("foreign_tunnels", ADDRESS, parse_address);
    let mut mtu = section.number("mtu", 0..=65_535, 0);
    if (1..1280).contains(&mtu.value) {
        // RFC 8200 section 5: every IPv6 link carries 1280 bytes.
        let found = format!("found {}", mtu.value);
        section.error_at(&mtu.place, found, "0 (the device's), or 1280 to 65535");
        mtu.value = 0;
    }
    let vrf = vrf(section);
    Some(Uplink {
        device: device?,
        mode,
        sharing,
        forward: forward.unwrap_or_default(),
        addresses: addresses.unwrap_or_default(),
        foreign_tunnels: foreign_tunnels.unwrap_or_default(),
        mtu,
        vrf,
        place: section.place().clone(),
    })
}

fn vrf(section: &mut Section<'_, '_>) -> Option<Setting<String>> {
    section.parsed("vrf", "lower-case letters, digits and '-'", |text| {
        api::check_dns_label(text).map(|()| text.to_owned()).map_err(|error| format!("{text:?} {error}"))
    })
}

/// Moves the faults of a resource from its YAML fields to the keys of its table.
fn report(section: &mut Section<'_, '_>, problems: Vec<Problem>, keys: &[(&str, &'static str)]) {
    for problem in problems {
        let found = keys.iter().find(|(path, _)| *path == problem.path);
        let key = found.map_or("", |(_, key)| *key);
        let message = if problem.message.starts_with("is ") {
            format!("{key} {}", problem.message)
        } else {
            problem.message
        };
        let mut expected = problem.expected;
        for (path, key) in keys {
            expected = expected.replace(path.trim_start_matches("spec."), key);
        }
        section.error(key, message, expected);
    }
}

fn resource_name(section: &mut Section<'_, '_>) -> Option<String> {
    let name = section.parsed("name", "lower-case letters, digits, '-' and '.'", |text| {
        api::check_dns_name(text).map(|()| text.to_owned()).map_err(|error| format!("{text:?} {error}"))
    });
    name.map(Setting::into_value)
}

fn pool(section: &mut Section<'_, '_>) -> Option<Pool> {
    let name = resource_name(section);
    let cidr = section.parsed("cidr", PREFIX, |text| {
        text.parse::<IpNet>().map_err(|_| format!("{text:?} is not a prefix"))
    });
    section.missing("cidr", PREFIX);
    let ipip_mode = section.word("ipip_mode", &EncapMode::NAMES, &[], EncapMode::Never);
    let vxlan_mode = section.word("vxlan_mode", &EncapMode::NAMES, &[], EncapMode::Never);
    let nat_outgoing = section.boolean("nat_outgoing");
    let Setting { value: cidr, place } = cidr?;
    let mut resource = IpPool::new(name.unwrap_or_else(|| IpPool::default_name(&cidr)), cidr);
    resource.spec.ipip_mode = *ipip_mode;
    resource.spec.vxlan_mode = *vxlan_mode;
    resource.spec.nat_outgoing = *nat_outgoing;
    let mut problems = resource.problems();
    for problem in &mut problems {
        // The file shows words as values of keys; so does the message.
        match problem.path.as_str() {
            "spec.vxlanMode" => problem.message = unsupported("vxlan_mode", vxlan_mode.as_str()),
            "spec.natOutgoing" => {
                problem.message = "nat_outgoing = true is not supported by this release".to_owned();
            }
            _ => problem.message = problem.message.replace("vxlanMode", "vxlan_mode"),
        }
    }
    // The block size is not in the file.
    problems.retain(|problem| problem.path != "spec.blockSize");
    report(
        section,
        problems,
        &[
            ("spec.cidr", "cidr"),
            ("spec.ipipMode", "ipip_mode"),
            ("spec.vxlanMode", "vxlan_mode"),
            ("spec.natOutgoing", "nat_outgoing"),
        ],
    );
    Some(Pool { resource, place })
}

fn peer(section: &mut Section<'_, '_>) -> Option<Peer> {
    let address = section.parsed("address", ADDRESS, parse_peer);
    section.missing("address", ADDRESS);
    Some(Peer { address: address? })
}

fn policy(section: &mut Section<'_, '_>) -> Policy {
    Policy {
        fail_closed: section.boolean("fail_closed"),
        workload_source_spoofing: section.word(
            "workload_source_spoofing",
            &[("Disabled", false), ("Any", true)],
            &[],
            false,
        ),
        failsafe_inbound_host_ports: failsafe(section, "failsafe_inbound_host_ports", FailsafePort::inbound),
        failsafe_outbound_host_ports: failsafe(
            section,
            "failsafe_outbound_host_ports",
            FailsafePort::outbound,
        ),
    }
}

/// Ports that are open whatever policy says; an empty array: none.
fn failsafe(
    section: &mut Section<'_, '_>,
    key: &'static str,
    default: fn() -> Vec<FailsafePort>,
) -> Vec<Setting<FailsafePort>> {
    let place = section.place_of(key);
    let given = section.strings(key, FailsafePort::EXPECTED, str::parse);
    given.unwrap_or_else(|| default().into_iter().map(|port| Setting::new(port, place.clone())).collect())
}

/// An address, or `{ address = "...", weight = N }`.
fn next_hop(value: &Value) -> Result<NextHop, String> {
    let Some(table) = value.as_inline_table() else {
        let text = value.as_str().ok_or_else(|| format!("found {}", show_value(value)))?;
        return Ok(NextHop::new(parse_address(text)?, 1));
    };
    if let Some((key, _)) = table.iter().find(|(key, _)| !["address", "weight"].contains(key)) {
        return Err(format!("unknown key `{key}` beside address and weight"));
    }
    let address = match table.get("address") {
        Some(Value::String(text)) => parse_address(text.value())?,
        Some(other) => return Err(format!("address: found {}", show_value(other))),
        None => return Err("address is missing".to_owned()),
    };
    let weight = match table.get("weight") {
        Some(given) => {
            let number = given.as_integer().and_then(|number| u32::try_from(number).ok());
            let number = number.filter(|number| (1..=NextHop::MAX_WEIGHT).contains(number));
            number.ok_or_else(|| {
                format!("weight: found {}, which is not 1 to {}", show_value(given), NextHop::MAX_WEIGHT)
            })?
        }
        None => 1,
    };
    Ok(NextHop::new(address, weight))
}

fn route(section: &mut Section<'_, '_>) -> Option<StaticRoute> {
    let name = resource_name(section);
    let prefix = section.parsed("prefix", PREFIX, |text| {
        text.parse::<IpNet>().map_err(|_| format!("{text:?} is not a prefix"))
    });
    section.missing("prefix", PREFIX);
    let via_given = section.take("via").is_some();
    let via = section.one_or_list("via", ADDRESS, next_hop);
    let encaps = RouteEncap::NAMES.map(|(name, encap)| (name, Some(encap)));
    let encap = section.word("encap", &encaps, &["vxlan"], None);
    let kind = section.word("type", &RouteType::NAMES, &[], RouteType::Unicast);
    let metric = section.number("metric", 0..=u32::MAX, 0);
    let vrf = vrf(section);
    let Setting { value: prefix, place } = prefix?;
    let name = name.unwrap_or_else(|| Route::default_name(&prefix));
    let mut resource = Route::terminal(name, prefix, *kind);
    let via_unreadable = via_given && via.is_none();
    let via = via.unwrap_or_default();
    resource.spec.via = via.iter().map(|next_hop| next_hop.value).collect();
    resource.spec.encap = *encap;
    resource.spec.metric = *metric;
    resource.spec.vrf = vrf.map(Setting::into_value).unwrap_or_default();
    let mut problems = resource.problems();
    // A via that could not be read is already named, and is not missing.
    problems.retain(|problem| !(via_unreadable && problem.path.starts_with("spec.via")));
    for (index, Setting { place, .. }) in via.iter().enumerate() {
        let of_one = problems.extract_if(.., |problem| problem.path == format!("spec.via[{index}]"));
        for problem in of_one.collect::<Vec<_>>() {
            section.error_at(place, problem.message, problem.expected);
        }
    }
    report(section, problems, &[("spec.prefix", "prefix"), ("spec.via", "via"), ("spec.encap", "encap")]);
    Some(StaticRoute { resource, place, vrf_place: section.place_of("vrf") })
}

fn pod(section: &mut Section<'_, '_>) -> Option<Pod> {
    const NAME: &str = "namespace/name such as \"default/web-0\"";
    const NETNS: &str = "a path such as \"/run/netns/pod1\"";
    const ADDRESSES: &str = "a single address, bare or as /32 or /128";
    let name = section.parsed("name", NAME, str::parse);
    section.missing("name", NAME);
    let netns = section.string("netns", NETNS);
    section.missing("netns", NETNS);
    let interface = section.string("interface", INTERFACE_NAME);
    let addresses = section.strings("addresses", ADDRESSES, parse_pod_address);
    section.missing("addresses", ADDRESSES);
    let attach = section.word("attach", &Attach::NAMES, &["memif"], Attach::Tap);
    let labels = section.string_table("labels");
    let addresses_place = section.place_of("addresses");
    let written = section.take("addresses").and_then(Item::as_array);
    if written.map(Array::len) > Some(0) && addresses.as_ref().is_some_and(Vec::is_empty) {
        // Not one could be read, which is said already; the pod is not without addresses.
        return None;
    }
    let (address_places, addresses): (Vec<Place>, Vec<IpAddr>) =
        addresses?.into_iter().map(|a| (a.place, a.value)).unzip();
    let (name, netns) = (name?, netns?);
    let pod = Pod {
        spec: PodSpec {
            name: name.value,
            netns: PathBuf::from(netns.value),
            interface: interface.map_or("eth0", Setting::into_value).to_owned(),
            addresses,
            attach: *attach,
            labels,
        },
        place: section.place().clone(),
        name_place: name.place,
        netns_place: netns.place,
        interface_place: section.place_of("interface"),
        labels_place: section.place_of("labels"),
        addresses_place,
        address_places,
    };
    Some(pod)
}

/// Every source kind belongs to a later release.
fn source(section: &mut Section<'_, '_>) -> Option<()> {
    let kind = section.string("kind", "the kind of a control channel");
    section.missing("kind", "the kind of a control channel");
    if let Some(Setting { value: kind, place }) = kind {
        let message = if SOURCES.contains(&kind) {
            format!("source kind {kind:?} is not supported by this release")
        } else {
            let hint = nearest(kind, SOURCES).map(|near| format!("; did you mean {near:?}?"));
            format!("unknown source kind {kind:?}{}", hint.unwrap_or_default())
        };
        section.error_at(
            &place,
            message,
            "no [[source]]: this release reads this file and takes vrctl apply",
        );
    }
    section.skip_rest();
    None
}
