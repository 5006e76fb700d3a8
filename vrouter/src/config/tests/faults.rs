//! Each fault of a key or value by itself: its exact words and place.

use super::findings;

const POOL: &str = "[[pool]]\ncidr = \"10.0.0.0/8\"\n";

fn pod(keys: &str) -> String {
    format!("{POOL}[[pod]]\n{keys}")
}

#[test]
fn keys_and_values() {
    let cases = [
        ("[nod]\n", "1:2 nod: unknown key `nod` | did you mean `node`?"),
        (
            "zzz = 1\n",
            "1:1 zzz: unknown key `zzz` | node, memory, workers, ecmp, uplink, pool, peer, policy, route, pod or source",
        ),
        (
            "[node]\nname = \"N1\"\n",
            "2:8 node.name: \"N1\" holds 'N', which is not allowed here | a DNS name in lower case",
        ),
        ("[node]\nname = 7\n", "2:8 node.name: found 7 | a DNS name in lower case"),
        ("node = 7\n", "1:8 node: found 7 | a table [node]"),
        (
            "[node]\napi = \"tcp:127.0.0.1:1\"\n",
            "2:7 node.api: \"tcp:127.0.0.1:1\" does not begin with unix: | unix: and an absolute path",
        ),
        (
            "[node]\napi = \"unix:v.sock\"\n",
            "2:7 node.api: \"v.sock\" is not an absolute path | unix: and an absolute path",
        ),
        (
            "[node]\nmetrics = \"9091\"\n",
            "2:11 node.metrics: \"9091\" is not an address and port | address and port, such as \"127.0.0.1:9091\"",
        ),
        (
            "[node]\nstate_dir = \"state\"\n",
            "2:13 node.state_dir: \"state\" is not an absolute path | an absolute path",
        ),
        (
            "[node]\nblocks = \"10.0.0.0/26\"\n",
            "2:10 node.blocks: found \"10.0.0.0/26\" | an array of a prefix such as \"10.100.36.64/26\"",
        ),
        ("[memory]\nframes = 12\n", "2:10 memory.frames: found 12 | a whole number from 256 to 16777216"),
        ("[memory]\nframes = -1\n", "2:10 memory.frames: found -1 | a whole number from 256 to 16777216"),
        ("[memory]\nframe_size = 1500\n", "2:14 memory.frame_size: found 1500 | 2048 or 4096"),
        ("[workers]\nidle = \"spin\"\n", "2:8 workers.idle: found \"spin\" | poll, adaptive or interrupt"),
        (
            "[workers]\nidle = \"adaptve\"\n",
            "2:8 workers.idle: found \"adaptve\"; did you mean \"adaptive\"? | poll, adaptive or interrupt",
        ),
        (
            "[workers]\ncores = [0, 2]\n",
            "2:13 workers.cores[1]: there is no core 2 here | a core this process may use: 0 to 1",
        ),
        (
            "[workers]\ncores = [1, 1]\n",
            "2:13 workers.cores[1]: core 1 is already given at workers.cores[0] | each once",
        ),
        ("[workers]\ncores = [\"1\"]\n", "2:10 workers.cores[0]: found \"1\" | the number of a core"),
        ("[workers]\ncores = []\n", "1:1 workers.cores: there is no core to work on | at least one core"),
        (
            "[workers]\ncores = [0, 1]\nidle = \"poll\"\n",
            "warning: 3:8 workers.idle: poll on every core: the kernel and the control plane share them with spinning workers | fewer cores, or idle = \"adaptive\"",
        ),
        ("[policy]\nfail_closed = \"yes\"\n", "2:15 policy.fail_closed: found \"yes\" | true or false"),
        (
            "[policy]\nfailsafe_inbound_host_ports = [\"tcp:22\", \"icmp:8\"]\n",
            "2:42 policy.failsafe_inbound_host_ports[1]: \"icmp\" is not tcp, udp or sctp | PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, such as \"tcp:22\" or \"udp:10.0.0.0/8:53\"",
        ),
        (
            "[policy]\nfailsafe_outbound_host_ports = [53]\n",
            "2:33 policy.failsafe_outbound_host_ports[0]: found 53 | PROTOCOL:PORT or PROTOCOL:PREFIX:PORT, such as \"tcp:22\" or \"udp:10.0.0.0/8:53\"",
        ),
        (
            "[policy]\nfailsafe_inbound_host_ports = [\"tcp:22\", \"tcp:22\"]\n",
            "2:42 policy.failsafe_inbound_host_ports[1]: tcp:22 is already given at policy.failsafe_inbound_host_ports[0] | each once",
        ),
        (
            "[[peer]]\naddress = \"224.0.0.1\"\n",
            "2:11 peer[0].address: 224.0.0.1 is no unicast address of another node | an address such as \"172.16.20.253\"",
        ),
        ("[[peer]]\n", "1:1 peer[0].address: address is missing | an address such as \"172.16.20.253\""),
        (
            "[[peer]]\naddress = \"10.0.0.1\"\n[[peer]]\naddress = \"10.0.0.1\"\n",
            "4:11 peer[1].address: peer 10.0.0.1 is already given at peer[0].address | each once",
        ),
        ("[peer]\naddress = \"10.0.0.1\"\n", "1:1 peer: found a table | tables [[peer]]"),
    ];
    for (text, finding) in cases {
        let found: Vec<_> = findings(text)
            .into_iter()
            .filter(|f| !f.contains("no core to work on") || text.contains("[]"))
            .collect();
        assert_eq!(found, [finding], "{text}");
    }
}

#[test]
fn uplinks() {
    let cases = [
        ("", "1:1 uplink[0].device: device is missing | the name of a network device"),
        (
            "device = \"a-very-long-name\"\n",
            "2:10 uplink[0].device: \"a-very-long-name\" has 16 bytes | 1 to 15 characters, without '/', ':' and spaces",
        ),
        (
            "device = \"a/b\"\n",
            "2:10 uplink[0].device: \"a/b\" holds '/' | 1 to 15 characters, without '/', ':' and spaces",
        ),
        (
            "device = \"a\"\ndevcie = \"b\"\n",
            "3:1 uplink[0].devcie: unknown key `devcie` | did you mean `device`?",
        ),
        (
            "device = \"a\"\nmode = \"xdp\"\n",
            "3:8 uplink[0].mode: found \"xdp\" | auto, zero-copy, copy, generic or packet-socket",
        ),
        (
            "device = \"a\"\nsharing = \"shared\"\n",
            "3:11 uplink[0].sharing: found \"shared\" | host or exclusive",
        ),
        ("device = \"a\"\nmtu = 576\n", "3:7 uplink[0].mtu: found 576 | 0 (the device's), or 1280 to 65535"),
        (
            "device = \"a\"\nforward = [\"10.0.0.0/8\", \"10.1.0.1/16\"]\n",
            "3:26 uplink[0].forward[1]: 10.1.0.1/16 has bits set behind the prefix: the prefix is 10.1.0.0/16 | a prefix such as \"10.100.36.64/26\"",
        ),
        (
            "device = \"a\"\nforward = [7]\n",
            "3:12 uplink[0].forward[0]: found 7 | a prefix such as \"10.100.36.64/26\"",
        ),
        (
            "device = \"a\"\naddresses = [\"10.0.0.1\"]\n",
            "3:14 uplink[0].addresses[0]: \"10.0.0.1\" is not an address and prefix length | an address and prefix length",
        ),
        (
            "device = \"a\"\nsharing = \"exclusive\"\nforward = [\"10.0.0.0/8\"]\n",
            "4:12 uplink[0].forward[0]: forward beside sharing = \"exclusive\", where all traffic is the router's | sharing = \"host\", or no forward",
        ),
        (
            "device = \"a\"\n[[uplink]]\ndevice = \"a\"\n",
            "4:10 uplink[1].device: device a is already given at uplink[0].device | each once",
        ),
    ];
    for (keys, finding) in cases {
        assert_eq!(findings(&format!("[[uplink]]\n{keys}")), [finding], "{keys}");
    }
}

#[test]
fn pools_and_blocks() {
    let cases = [
        ("[[pool]]\n", "1:1 pool[0].cidr: cidr is missing | a prefix such as \"10.100.36.64/26\""),
        (
            "[[pool]]\ncidr = \"10.0.0.1/8\"\n",
            "2:8 pool[0].cidr: 10.0.0.1/8 has bits set behind the prefix | 10.0.0.0/8",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0\"\n",
            "2:8 pool[0].cidr: \"10.0.0.0\" is not a prefix | a prefix such as \"10.100.36.64/26\"",
        ),
        (
            "[[pool]]\ncidr = \"fd00::/16\"\nipip_mode = \"Always\"\n",
            "3:13 pool[0].ipip_mode: Always on an IPv6 pool: IP-in-IP carries IPv4 only | Never",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\nipip_mode = \"always\"\n",
            "3:13 pool[0].ipip_mode: found \"always\"; did you mean \"Always\"? | Always, CrossSubnet or Never",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\nvxlan_mode = \"CrossSubnet\"\n",
            "3:14 pool[0].vxlan_mode: vxlan_mode = \"CrossSubnet\" is not supported by this release | Never",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\nnat_outgoing = true\n",
            "3:16 pool[0].nat_outgoing: nat_outgoing = true is not supported by this release | false",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\nname = \"Blue\"\n",
            "3:8 pool[0].name: \"Blue\" holds 'B', which is not allowed here | lower-case letters, digits, '-' and '.'",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\n[[pool]]\ncidr = \"10.9.0.0/16\"\n",
            "4:8 pool[1].cidr: 10.9.0.0/16 overlaps 10.0.0.0/8 of pool \"pool-10.0.0.0-8\" | ranges that share no address",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/9\"\nname = \"a\"\n[[pool]]\ncidr = \"10.128.0.0/9\"\nname = \"a\"\n",
            "5:8 pool[1].cidr: name \"a\" is used twice | a name of its own",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\n[node]\nblocks = [\"11.0.0.0/26\"]\n",
            "4:11 node.blocks[0]: block 11.0.0.0/26 is outside every pool | a part of one [[pool]]",
        ),
        (
            "[[pool]]\ncidr = \"10.0.0.0/8\"\n[node]\nblocks = [\"10.0.0.0/26\", \"10.0.0.0/25\"]\n",
            "4:26 node.blocks[1]: block 10.0.0.0/25 overlaps block 10.0.0.0/26 | blocks that share no address",
        ),
    ];
    for (text, finding) in cases {
        assert_eq!(findings(text), [finding], "{text}");
    }
}

#[test]
fn routes() {
    let cases = [
        (
            "via = \"10.0.0.1\"\n",
            "1:1 route[0].prefix: prefix is missing | a prefix such as \"10.100.36.64/26\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\n",
            "1:1 route[0].via: via is missing | a next hop address, or type: blackhole, unreachable or prohibit",
        ),
        (
            "prefix = \"10.0.0.9/24\"\nvia = \"10.0.0.1\"\n",
            "2:10 route[0].prefix: 10.0.0.9/24 has bits set behind the prefix | 10.0.0.0/24",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = \"node2\"\n",
            "3:7 route[0].via: \"node2\" is not an address | an address such as \"172.16.20.253\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = \"fd00::1\"\n",
            "3:7 route[0].via: fd00::1 is not of the family of 10.0.0.0/24 | a next hop of the same family",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = []\n",
            "3:7 route[0].via: via is missing | a next hop address, or type: blackhole, unreachable or prohibit",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = [\"10.1.0.1\", 7]\n",
            "3:20 route[0].via[1]: found 7 | an address such as \"172.16.20.253\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = [{ address = \"10.1.0.1\", weight = 0 }]\n",
            "3:8 route[0].via[0]: weight: found 0, which is not 1 to 256 | an address such as \"172.16.20.253\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = [{ address = \"10.1.0.1\", wieght = 2 }]\n",
            "3:8 route[0].via[0]: unknown key `wieght` beside address and weight | an address such as \"172.16.20.253\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = { weight = 2 }\n",
            "3:7 route[0].via: address is missing | an address such as \"172.16.20.253\"",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = [\"10.1.0.1\", { address = \"10.1.0.1\" }]\n",
            "3:20 route[0].via[1]: 10.1.0.1 is a next hop of the route already | each once, with the weight of all",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = \"10.1.0.1\"\nencap = \"vxlan\"\n",
            "4:9 route[0].encap: encap = \"vxlan\" is not supported by this release | none or ipip",
        ),
        (
            "prefix = \"fd00::/24\"\nvia = \"fd00::1\"\nencap = \"ipip\"\n",
            "4:9 route[0].encap: ipip for fd00::/24: IP-in-IP carries IPv4 only | none",
        ),
        (
            "prefix = \"10.0.0.0/24\"\nvia = \"10.1.0.1\"\ntype = \"blackhole\"\n",
            "3:7 route[0].via: 10.1.0.1 on a route of type blackhole | no via, or type: unicast",
        ),
        (
            "prefix = \"10.0.0.0/24\"\ntype = \"blackhole\"\nmetric = 1.5\n",
            "4:10 route[0].metric: found 1.5 | a whole number from 0 to 4294967295",
        ),
        (
            "prefix = \"10.0.0.0/24\"\ntype = \"blackhole\"\n[[route]]\nprefix = \"10.0.0.0/24\"\nvia = \"10.1.0.1\"\nname = \"b\"\n",
            "5:10 route[1].prefix: 10.0.0.0/24 with metric 0 is already the prefix of route \"route-10.0.0.0-24\" | another prefix or metric",
        ),
    ];
    for (keys, finding) in cases {
        assert_eq!(findings(&format!("[[route]]\n{keys}")), [finding], "{keys}");
    }
}

#[test]
fn pods() {
    const OTHER: &str = "name = \"a/a\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\n[[pod]]\n";
    let cases = [
        (
            "netns = \"/p\"\naddresses = [\"10.0.0.1\"]\n",
            "3:1 pod[0].name: name is missing | namespace/name such as \"default/web-0\"",
        ),
        (
            "name = \"web\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\n",
            "4:8 pod[0].name: \"web\" has no namespace | namespace/name such as \"default/web-0\"",
        ),
        (
            "name = \"a.b/web\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\n",
            "4:8 pod[0].name: namespace \"a.b\" holds '.', which is not allowed here | namespace/name such as \"default/web-0\"",
        ),
        (
            "name = \"a/b\"\nnetns = \"p\"\naddresses = [\"10.0.0.1\"]\n",
            "5:9 pod[0].netns: \"p\" is not an absolute path | a path such as /run/netns/pod1",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\n",
            "3:1 pod[0].addresses: addresses is missing | a single address, bare or as /32 or /128",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = []\n",
            "6:13 pod[0].addresses: a pod needs an address | at least one address",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1/24\"]\n",
            "6:14 pod[0].addresses[0]: 10.0.0.1/24 has prefix length 24, but a pod has single addresses | a single address, bare or as /32 or /128",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"fd00::1\"]\n",
            "6:14 pod[0].addresses[0]: fd00::1 is outside every pool | an address of 10.0.0.0/8",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"169.254.1.1\"]\n",
            "6:14 pod[0].addresses[0]: 169.254.1.1 is the gateway of every pod | an address of a pool",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\", \"10.0.0.1/32\"]\n",
            "6:26 pod[0].addresses[1]: 10.0.0.1 is given twice | an address of a pool",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\ninterface = \"sixteen-letters-\"\n",
            "7:13 pod[0].interface: \"sixteen-letters-\" has 16 bytes | 1 to 15 characters, without '/', ':' and spaces",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\nattach = \"memif\"\n",
            "7:10 pod[0].attach: attach = \"memif\" is not supported by this release | tap or veth",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\nlabels = { \"a b\" = \"c\" }\n",
            "7:10 pod[0].labels: label key \"a b\" holds ' ', which is not allowed here | a label key",
        ),
        (
            "name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.1\"]\nlabels = { app = 7 }\n",
            "7:18 pod[0].labels.app: found 7 | a string",
        ),
        (
            &format!("{OTHER}name = \"a/b\"\nnetns = \"/q\"\naddresses = [\"10.0.0.1\"]\n"),
            "10:14 pod[1].addresses[0]: 10.0.0.1 already belongs to pod a/a | an address of its own",
        ),
        (
            &format!("{OTHER}name = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.0.2\"]\n"),
            "7:1 pod[1].interface: eth0 in /p already belongs to pod a/a | another interface or network namespace",
        ),
        (
            &format!("{OTHER}name = \"a/a\"\nnetns = \"/q\"\naddresses = [\"10.0.0.2\"]\n"),
            "8:8 pod[1].name: there is already a pod a/a | a name of its own",
        ),
    ];
    for (keys, finding) in cases {
        assert_eq!(findings(&pod(keys)), [finding], "{keys}");
    }
    let outside = "[node]\nblocks = [\"10.0.0.0/26\"]\n[[pod]]\nname = \"a/b\"\nnetns = \"/p\"\naddresses = [\"10.0.1.1\"]\n";
    assert_eq!(
        findings(&format!("{POOL}{outside}")),
        [
            "warning: 8:14 pod[0].addresses[0]: 10.0.1.1 is outside this node's blocks: other nodes need a route for it alone | an address of node.blocks"
        ]
    );
}

#[test]
fn sources_are_refused_by_kind() {
    const EXPECTED: &str = "no [[source]]: this release reads this file and takes vrctl apply";
    for kind in ["files", "etcd", "bgp", "kernel", "fpm", "felix", "api"] {
        assert_eq!(
            findings(&format!("[[source]]\nkind = \"{kind}\"\ndir = \"/etc\"\n")),
            [format!(
                "2:8 source[0].kind: source kind \"{kind}\" is not supported by this release | {EXPECTED}"
            )]
        );
    }
    assert_eq!(
        findings("[[source]]\nkind = \"file\"\n"),
        [format!("2:8 source[0].kind: unknown source kind \"file\"; did you mean \"files\"? | {EXPECTED}")]
    );
}
