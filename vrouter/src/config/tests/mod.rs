//! Every key is read, and every fault has its exact words and place.

mod faults;

use super::*;

fn host(cpus: &[usize]) -> Host<'_> {
    Host {
        name: "debian",
        cpus,
        frames_needed: &|config| 512 * (config.uplinks.len() + config.pods.len()) as u32,
    }
}

fn good(text: &str) -> Config {
    match read("n.toml", text, &host(&[0, 1])).finish() {
        Ok((config, warnings)) => {
            assert!(warnings.is_empty(), "{warnings}");
            config
        }
        Err(errors) => panic!("{errors}"),
    }
}

/// The findings of a text, one line each: `line:column key: message | expected`.
fn findings(text: &str) -> Vec<String> {
    let reading = read("n.toml", text, &host(&[0, 1]));
    let all = &reading.diagnostics;
    all.iter()
        .map(|d| {
            let span = d.place.span.clone().expect("every finding of the reader has a place");
            let (line, column) = all.line_column(span.start);
            let warning = if d.severity == Severity::Warning { "warning: " } else { "" };
            let expected = if d.expected.is_empty() { String::new() } else { format!(" | {}", d.expected) };
            format!("{warning}{line}:{column} {}: {}{expected}", d.place.key, d.message)
        })
        .collect()
}

#[test]
fn the_example_shows_every_key() {
    let config = good(EXAMPLE);
    assert_eq!(*config.node.name, "node1");
    assert_eq!(config.node.api.to_str(), Some("/run/vrouter/vrouter.sock"));
    assert_eq!(config.node.metrics.to_string(), "127.0.0.1:9091");
    assert_eq!(config.node.state_dir.to_str(), Some("/var/lib/vrouter"));
    let blocks: Vec<String> = config.node.blocks.iter().map(|b| b.to_string()).collect();
    assert_eq!(blocks, ["10.100.36.64/26", "fd00:10:36::/64"]);
    assert_eq!((*config.memory.frames, *config.memory.frame_size), (16384, 2048));
    assert_eq!((*config.workers.cores[0], *config.workers.idle), (1, IdleMode::Adaptive));
    let uplink = &config.uplinks[0];
    assert_eq!(*uplink.device, "eth1");
    assert_eq!((*uplink.mode, *uplink.sharing, *uplink.mtu), (UplinkMode::Auto, Sharing::Host, 0));
    assert!(uplink.forward.is_empty() && uplink.addresses.is_empty() && uplink.foreign_tunnels.is_empty());
    assert_eq!(config.pools[0].resource.metadata.name, "default-ipv4-ippool");
    assert_eq!(config.pools[0].resource.spec.ipip_mode, api::EncapMode::Always);
    assert_eq!(config.pools[1].resource.spec.ipip_mode, api::EncapMode::Never);
    assert_eq!(config.peers[0].address.to_string(), "172.16.20.253");
    assert!(!*config.policy.fail_closed && !*config.policy.workload_source_spoofing);
    let ports = |list: &[Setting<api::FailsafePort>]| list.iter().map(|port| port.value).collect::<Vec<_>>();
    assert_eq!(ports(&config.policy.failsafe_inbound_host_ports), api::FailsafePort::inbound());
    assert_eq!(ports(&config.policy.failsafe_outbound_host_ports), api::FailsafePort::outbound());
    let route = &config.routes[0].resource;
    assert_eq!(route.metadata.name, "node2-ipv4");
    assert_eq!(route.spec.encap, Some(api::RouteEncap::Ipip));
    let next_hops = config.routes[2].resource.spec.via.iter().map(|to| (to.address.to_string(), to.weight));
    let expected = [("172.16.20.2".to_owned(), 1), ("172.16.20.3".to_owned(), 3)];
    assert_eq!(next_hops.collect::<Vec<_>>(), expected);
    assert_eq!(config.uplinks[1].vrf.as_ref().map(|vrf| vrf.value.as_str()), Some("blue"));
    assert_eq!(config.routes[3].resource.spec.vrf, "blue");
    assert_eq!(config.routes[4].resource.spec.kind, api::RouteType::Unreachable);
    let pod = &config.pods[0].spec;
    assert_eq!(pod.name.to_string(), "default/busybox-g5rkr");
    assert_eq!((pod.interface.as_str(), pod.attach), ("eth0", Attach::Tap));
    assert_eq!(pod.addresses.len(), 2);
    assert_eq!(pod.labels["app"], "busybox");
}

/// The example is the reference, so a key that the reader knows must be in it, and the other way round.
#[test]
fn every_key_the_reader_knows_is_in_the_example() {
    for (section, key) in [
        ("", "nokey = 1\n"),
        ("[node]\n", "nokey = 1\n"),
        ("[memory]\n", "nokey = 1\n"),
        ("[workers]\n", "nokey = 1\n"),
        ("[[uplink]]\n", "nokey = 1\n"),
        ("[[pool]]\n", "nokey = 1\n"),
        ("[[peer]]\n", "nokey = 1\n"),
        ("[policy]\n", "nokey = 1\n"),
        ("[[route]]\n", "nokey = 1\n"),
        ("[[pod]]\n", "nokey = 1\n"),
    ] {
        let found = findings(&format!("{section}{key}"));
        let known = found
            .iter()
            .find(|line| line.contains("unknown key `nokey`"))
            .and_then(|line| line.split_once(" | "))
            .map(|(_, known)| known.replace(" or ", ", "))
            .expect("an unknown key names the known ones");
        for key in known.split(", ").filter(|key| *key != "source") {
            let shown = EXAMPLE
                .lines()
                .any(|line| line.starts_with(&format!("{key} = ")) || line.trim_matches(['[', ']']) == key);
            assert!(shown, "{section}{key} is not in the example");
        }
    }
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = good("");
    assert_eq!(*config.node.name, "debian");
    assert_eq!(*config.workers.cores[0], 1);
    assert_eq!(*config.memory.frames, 16384);
    assert_eq!(*config.policy.failsafe_inbound_host_ports[0], api::FailsafePort::inbound()[0]);
    assert_eq!(config.policy.failsafe_outbound_host_ports.len(), 9);
    let one = read("n.toml", "", &host(&[0])).finish().expect("defaults fit one core");
    assert_eq!(*one.0.workers.cores[0], 0);
}

#[test]
fn other_spellings_of_the_same() {
    let config = good(
        "node.api = \"unix:///tmp/v.sock\"\nworkers = { cores = [1], idle = \"poll\" }\n\
         pool = [{ cidr = \"fd00::/16\" }, { cidr = \"10.0.0.0/28\" }]\n\
         uplink = [{ device = \"a\", sharing = \"exclusive\", addresses = [\"192.0.2.1/24\"], mtu = 9000 },\n\
                   { device = \"b\", mode = \"zero-copy\", forward = [\"0.0.0.0/0\"], foreign_tunnels = [\"192.0.2.9\"] }]\n\
         policy.fail_closed = true\n\
         policy.workload_source_spoofing = \"Any\"\n\
         policy.failsafe_inbound_host_ports = []\n\
         policy.failsafe_outbound_host_ports = [\"udp:fd00::/8:53\"]\n\
         [[pod]]\nname = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\", \"fd00::1/128\"]\nattach = \"veth\"\n",
    );
    assert_eq!(config.node.api.to_str(), Some("/tmp/v.sock"));
    assert_eq!(config.pools[1].resource.metadata.name, "pool-10.0.0.0-28");
    assert_eq!(*config.uplinks[0].mtu, 9000);
    assert_eq!(*config.uplinks[1].mode, UplinkMode::ZeroCopy);
    assert_eq!((config.pods[0].spec.interface.as_str(), config.pods[0].spec.attach), ("eth0", Attach::Veth));
    assert!(*config.policy.fail_closed && *config.policy.workload_source_spoofing);
    assert!(config.policy.failsafe_inbound_host_ports.is_empty());
    assert_eq!(config.policy.failsafe_outbound_host_ports[0].to_string(), "udp:fd00::/8:53");
}

#[test]
fn frames_are_counted_last() {
    let text = "[memory]\nframes = 512\n[[uplink]]\ndevice = \"a\"\n[[uplink]]\ndevice = \"b\"\n";
    assert_eq!(
        findings(text),
        ["2:10 memory.frames: 512 frames are too few for these ports and workers | at least 1024"]
    );
}

#[test]
fn faults_of_syntax_have_a_place() {
    assert_eq!(findings("[node\n"), ["1:6 : unclosed table, expected `]` | TOML"]);
    let found = findings("[node]\nname = \"a\"\nname = \"b\"\n");
    assert_eq!(found, ["3:1 : duplicate key | TOML"]);
}

#[test]
fn all_findings_of_a_file_at_once() {
    let text = "\
[node]
nmae = \"n\"
[[uplink]]
device = \"eth1\"
mode = \"xdp\"
[[pod]]
name = \"default/a\"
netns = \"/run/netns/a\"
addresses = [\"10.0.0.1/32\"]
";
    let reading = read("/etc/vrouter.toml", text, &host(&[0, 1]));
    assert_eq!(
        reading.diagnostics.to_string(),
        r#"error: unknown key `nmae`
 --> /etc/vrouter.toml:2:1
  |
2 | nmae = "n"
  | ^^^^
  = key: node.nmae
  = expected: did you mean `name`?

error: found "xdp"
 --> /etc/vrouter.toml:5:8
  |
5 | mode = "xdp"
  |        ^^^^^
  = key: uplink[0].mode
  = expected: auto, zero-copy, copy, generic or packet-socket

error: 10.0.0.1 is outside every pool
 --> /etc/vrouter.toml:9:14
  |
9 | addresses = ["10.0.0.1/32"]
  |              ^^^^^^^^^^^^^
  = key: pod[0].addresses[0]
  = expected: a [[pool]] that holds it
"#
    );
    assert_eq!(reading.draft.pods.len(), 1);
    assert_eq!(reading.finish().expect_err("there are errors").errors(), 3);
}
