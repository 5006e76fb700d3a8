//! Resources read from text: what is accepted, and the exact words of every refusal.

use api::{AllowedUse, EncapMode, IpPool, Kind, NextHop, Object, Resource, Route, RouteEncap, RouteType};
use api::{check_set, read, references, to_yaml_documents};

/// A pool as `calicoctl get ippool -o yaml` prints it, stamps included.
const CALICO_POOL: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  creationTimestamp: \"2026-01-02T03:04:05Z\"
  name: default-ipv4-ippool
  resourceVersion: \"1234\"
  uid: 0e1c2b5e-5a1c-4d4b-8d25-2e1a36f0e111
spec:
  allowedUses:
  - Workload
  - Tunnel
  assignmentMode: Automatic
  blockSize: 26
  cidr: 10.100.0.0/16
  ipipMode: Always
  natOutgoing: false
  nodeSelector: all()
  vxlanMode: Never
";

fn only(text: &str) -> Object {
    let mut objects = read(text);
    assert_eq!(objects.len(), 1, "{objects:#?}");
    objects.remove(0)
}

fn pool(text: &str) -> IpPool {
    match only(text).outcome {
        Ok(Resource::IpPool(pool)) => pool,
        other => panic!("{other:#?}"),
    }
}

fn route(text: &str) -> Route {
    match only(text).outcome {
        Ok(Resource::Route(route)) => route,
        other => panic!("{other:#?}"),
    }
}

fn refusals(text: &str) -> Vec<String> {
    read(text)
        .into_iter()
        .filter_map(|object| object.outcome.err())
        .flatten()
        .map(|problem| problem.to_string())
        .collect()
}

fn pool_text(spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
}

fn route_text(spec: &str) -> String {
    format!("apiVersion: vrouter.io/v1\nkind: Route\nmetadata: {{name: r}}\nspec: {{{spec}}}\n")
}

#[test]
fn calico_pool_is_read_unchanged() {
    let found = pool(CALICO_POOL);
    assert_eq!(found.metadata.name, "default-ipv4-ippool");
    assert_eq!(found.spec.cidr.to_string(), "10.100.0.0/16");
    assert_eq!(found.spec.ipip_mode, EncapMode::Always);
    assert_eq!(found.spec.block_size, 26);
    assert_eq!(found.spec.allowed_uses, [AllowedUse::Workload, AllowedUse::Tunnel]);
}

#[test]
fn defaults_are_calicos() {
    let v4 = pool(&pool_text("cidr: 10.0.0.0/8"));
    assert_eq!((v4.spec.block_size, v4.spec.ipip_mode), (26, EncapMode::Never));
    let v6 = pool(&pool_text("cidr: 'fd00:10::/48'"));
    assert_eq!(v6.spec.block_size, 122);
    assert_eq!(v6.spec.node_selector, "all()");
}

#[test]
fn json_is_read_too() {
    let text = r#"{"apiVersion":"vrouter.io/v1","kind":"Route","metadata":{"name":"r"},
        "spec":{"prefix":"fd00:1::/64","via":"fd00::2","encap":"none","metric":7}}"#;
    let found = route(text);
    assert_eq!(found.spec.encap, Some(RouteEncap::None));
    assert_eq!((found.spec.kind, found.spec.metric), (RouteType::Unicast, 7));
}

#[test]
fn canonical_text_is_read_back_as_the_same_resource() {
    let texts = [
        CALICO_POOL.to_owned(),
        pool_text("cidr: 'fd00::/32', disabled: true, disableBGPExport: true, assignmentMode: Manual"),
        route_text("prefix: 10.1.0.0/24, via: 192.0.2.1, encap: ipip, metric: 3"),
        route_text("prefix: '2001:db8::/32', type: prohibit"),
        route_text("prefix: 10.2.0.0/24, via: [192.0.2.1, {address: 192.0.2.2, weight: 3}]"),
        route_text("prefix: '2001:db8::/32', via: {address: 'fd00::1', weight: 9}"),
        route_text("prefix: 10.2.0.0/24, via: 192.0.2.1, vrf: blue"),
    ];
    let resources: Vec<Resource> =
        texts.iter().map(|text| only(text).outcome.expect("these texts are right")).collect();
    let yaml = to_yaml_documents(&resources);
    let again: Vec<Resource> = read(&yaml).into_iter().map(|o| o.outcome.unwrap()).collect();
    assert_eq!(again, resources);
    for resource in &resources {
        let json = resource.to_json().to_string();
        assert_eq!(&only(&json).outcome.unwrap(), resource);
    }
}

#[test]
fn canonical_yaml_of_a_route() {
    let found = only(&route_text("prefix: 10.1.0.0/24, via: 192.0.2.1"));
    assert_eq!(
        found.outcome.unwrap().to_yaml(),
        "apiVersion: vrouter.io/v1\nkind: Route\nmetadata:\n  name: r\nspec:\n  \
         prefix: 10.1.0.0/24\n  via: 192.0.2.1\n  type: unicast\n  metric: 0\n"
    );
}

#[test]
fn next_hops_with_weights() {
    let found =
        route(&route_text("prefix: 10.1.0.0/24, via: [192.0.2.1, {address: 192.0.2.2, weight: 256}]"));
    let via = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
    assert_eq!(found.spec.via, [NextHop::new(via[0], 1), NextHop::new(via[1], 256)]);
    assert!(found.problems().is_empty());
    let yaml = Resource::Route(found).to_yaml();
    assert!(yaml.contains("  via:\n  - 192.0.2.1\n  - address: 192.0.2.2\n    weight: 256\n"), "{yaml}");
    let one = route(&route_text("prefix: 10.1.0.0/24, via: [{address: 192.0.2.1}]"));
    assert!(Resource::Route(one).to_yaml().contains("  via: 192.0.2.1\n"));
}

#[test]
fn what_a_pool_may_not_ask_for() {
    let cases = [
        (
            "cidr: 10.0.0.0/8, natOutgoing: true",
            "spec.natOutgoing: true is not supported by this release (expected false)",
        ),
        (
            "cidr: 10.0.0.0/8, vxlanMode: Always",
            "spec.vxlanMode: Always is not supported by this release (expected Never)",
        ),
        (
            "cidr: 10.0.0.0/8, nodeSelector: zone == 'a'",
            "spec.nodeSelector: \"zone == 'a'\" is not supported by this release (expected all())",
        ),
        (
            "cidr: 10.0.0.0/8, namespaceSelector: has(x)",
            "spec.namespaceSelector: \"has(x)\" is not supported by this release (expected all())",
        ),
        (
            "cidr: 10.0.0.0/8, allowedUses: [Workload]",
            "spec.allowedUses: [Workload] is not supported by this release (expected [Workload, Tunnel])",
        ),
        (
            "cidr: 10.0.0.0/8, allowedUses: [Workload, Pod]",
            "spec.allowedUses[1]: found \"Pod\" (expected Workload, Tunnel or LoadBalancer)",
        ),
        ("cidr: 10.0.0.1/8", "spec.cidr: 10.0.0.1/8 has bits set behind the prefix (expected 10.0.0.0/8)"),
        (
            "cidr: 10.0.0.0/33",
            "spec.cidr: \"10.0.0.0/33\": invalid IP address syntax (expected a prefix such as 10.100.0.0/16)",
        ),
        ("cidr: 7", "spec.cidr: found 7 (expected a string)"),
        ("ipipMode: Never", "spec.cidr: is missing (expected a prefix such as 10.100.0.0/16)"),
        (
            "cidr: 'fd00::/48', ipipMode: CrossSubnet",
            "spec.ipipMode: CrossSubnet on an IPv6 pool: IP-in-IP carries IPv4 only (expected Never)",
        ),
        (
            "cidr: 10.0.0.0/8, ipipMode: always",
            "spec.ipipMode: found \"always\" (expected Always, CrossSubnet or Never)",
        ),
        (
            "cidr: 10.0.0.0/8, ipipmode: Always",
            "spec.ipipmode: unknown field (expected ipipMode: field names are case-sensitive)",
        ),
        ("cidr: 10.0.0.0/8, disabled: 'yes'", "spec.disabled: found \"yes\" (expected true or false)"),
        ("cidr: 10.0.0.0/8, blockSize: 19", "spec.blockSize: found 19 (expected 20 to 32)"),
        (
            "cidr: 10.0.0.0/28",
            "spec.blockSize: a block of /26 does not fit into 10.0.0.0/28 (expected 28 or longer)",
        ),
        ("cidr: 'fd00::/48', blockSize: 64", "spec.blockSize: found 64 (expected 116 to 128)"),
        (
            "cidr: 10.0.0.0/8, blockSize: -1",
            "spec.blockSize: found -1 (expected a whole number from 0 to 128)",
        ),
        (
            "cidr: 169.254.1.0/24",
            "spec.cidr: 169.254.1.0/24 overlaps the link-local range 169.254.0.0/16 (expected a unicast range of your own)",
        ),
        (
            "cidr: 'ff02::/16'",
            "spec.cidr: ff02::/16 overlaps the multicast range ff00::/8 (expected a unicast range of your own)",
        ),
        (
            "cidr: 127.1.0.0/16",
            "spec.cidr: 127.1.0.0/16 overlaps the loopback range 127.0.0.0/8 (expected a unicast range of your own)",
        ),
    ];
    for (spec, message) in cases {
        let expected = format!("document 1: IPPool/p: {message}");
        assert_eq!(refusals(&pool_text(spec)), [expected], "{spec}");
    }
}

#[test]
fn what_a_route_may_not_ask_for() {
    let cases = [
        ("via: 192.0.2.1", "spec.prefix: is missing (expected a prefix such as 10.100.169.128/26)"),
        (
            "prefix: 10.0.0.1/24, via: 192.0.2.1",
            "spec.prefix: 10.0.0.1/24 has bits set behind the prefix (expected 10.0.0.0/24)",
        ),
        (
            "prefix: 10.0.0.0/24",
            "spec.via: is missing (expected a next hop address, or type: blackhole, unreachable or prohibit)",
        ),
        (
            "prefix: 10.0.0.0/24, via: node2",
            "spec.via: \"node2\": invalid IP address syntax (expected an address without a prefix length)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 'fd00::1'",
            "spec.via: fd00::1 is not of the family of 10.0.0.0/24 (expected a next hop of the same family)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 0.0.0.0",
            "spec.via: 0.0.0.0 is no unicast address of a neighbour (expected the address of a neighbour or a tunnel peer)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, vrf: blue, encap: ipip",
            "spec.encap: ipip in a VRF: tunnels are the default VRF's (expected none, or no vrf)",
        ),
        (
            "prefix: 10.0.0.0/24, via: []",
            "spec.via: is missing (expected a next hop address, or type: blackhole, unreachable or prohibit)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [192.0.2.1, node2]",
            "spec.via[1]: \"node2\": invalid IP address syntax (expected an address without a prefix length)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [192.0.2.1, 7]",
            "spec.via[1]: found 7 (expected an address, or {address: ..., weight: ...})",
        ),
        (
            "prefix: 10.0.0.0/24, via: [192.0.2.1, {weight: 2}]",
            "spec.via[1].address: is missing (expected an address without a prefix length)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [{address: 192.0.2.1, weight: 0}, 192.0.2.2]",
            "spec.via[0].weight: found 0 (expected a whole number from 1 to 256)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [{address: 192.0.2.1, dev: eth0}, 192.0.2.2]",
            "spec.via[0].dev: unknown field (expected one of address, weight)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [192.0.2.1, 'fd00::1']",
            "spec.via[1]: fd00::1 is not of the family of 10.0.0.0/24 (expected a next hop of the same family)",
        ),
        (
            "prefix: 10.0.0.0/24, via: [192.0.2.1, {address: 192.0.2.1, weight: 2}]",
            "spec.via[1]: 192.0.2.1 is a next hop of the route already (expected each once, with the weight of all)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, type: blackhole",
            "spec.via: 192.0.2.1 on a route of type blackhole (expected no via, or type: unicast)",
        ),
        (
            "prefix: 10.0.0.0/24, encap: none, type: prohibit",
            "spec.encap: none on a route of type prohibit (expected no encap, or type: unicast)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, encap: vxlan",
            "spec.encap: vxlan is not supported by this release (expected none or ipip)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, encap: gre",
            "spec.encap: found \"gre\" (expected none or ipip)",
        ),
        (
            "prefix: 'fd00::/64', via: 'fd00::1', encap: ipip",
            "spec.encap: ipip for fd00::/64: IP-in-IP carries IPv4 only (expected none)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, type: nat",
            "spec.type: found \"nat\" (expected unicast, blackhole, unreachable or prohibit)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, metric: 4294967296",
            "spec.metric: found 4294967296 (expected a whole number from 0 to 4294967295)",
        ),
        (
            "prefix: 10.0.0.0/24, via: 192.0.2.1, dev: eth0",
            "spec.dev: unknown field (expected one of prefix, via, encap, type, metric, vrf)",
        ),
    ];
    for (spec, message) in cases {
        let expected = format!("document 1: Route/r: {message}");
        assert_eq!(refusals(&route_text(spec)), [expected], "{spec}");
    }
}

#[test]
fn every_fault_of_every_document_is_reported() {
    let text = "\
apiVersion: v1
kind: IPPool
metadata: {name: Bad_Name, color: red}
spec: {cidr: 10.0.0.1/8, natOutgoing: true, mtu: 9000}
---
kind: BGPPeer
---
---
{apiVersion: vrouter.io/v1, kind: Route, metadata: {name: r}, spec: {prefix: 10.0.0.0/8, type: blackhole}}
---
kind: Bridge
---
{metadata: {name: x}}
---
[1, 2]
";
    let objects = read(text);
    assert_eq!(objects.len(), 6);
    assert_eq!(objects[2].document, 4);
    assert!(objects[2].outcome.is_ok());
    let kinds = Kind::expected();
    assert_eq!(
        refusals(text),
        [
            "document 1: IPPool/Bad_Name: apiVersion: found \"v1\" (expected projectcalico.org/v3)",
            "document 1: IPPool/Bad_Name: metadata.name: \"Bad_Name\" holds 'B', which is not allowed here (expected lower-case letters, digits, '-' and '.')",
            "document 1: IPPool/Bad_Name: metadata.color: unknown field (expected one of uid, resourceVersion, creationTimestamp, generation, managedFields, selfLink, ownerReferences, finalizers, generateName, deletionTimestamp, deletionGracePeriodSeconds, name, labels, annotations, namespace)",
            "document 1: IPPool/Bad_Name: spec.mtu: unknown field (expected one of cidr, ipipMode, vxlanMode, natOutgoing, disabled, disableBGPExport, blockSize, nodeSelector, namespaceSelector, allowedUses, assignmentMode)",
            "document 1: IPPool/Bad_Name: spec.cidr: 10.0.0.1/8 has bits set behind the prefix (expected 10.0.0.0/8)",
            "document 1: IPPool/Bad_Name: spec.natOutgoing: true is not supported by this release (expected false)",
            "document 2: BGPPeer: kind: kind BGPPeer is not supported by this release (expected KINDS)",
            "document 5: Bridge: kind: unknown kind \"Bridge\" (expected KINDS)",
            "document 6: kind: is missing (expected KINDS)",
            "document 7: found a list of 2 (expected a resource)",
        ]
        .map(|line| line.replace("KINDS", &kinds))
    );
}

#[test]
fn lists_as_calicoctl_prints_them() {
    let text = "\
apiVersion: projectcalico.org/v3
kind: IPPoolList
metadata: {resourceVersion: '9'}
items:
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {name: a}
  spec: {cidr: 10.0.0.0/16}
- apiVersion: projectcalico.org/v3
  kind: IPPool
  metadata: {name: b}
  spec: {cidr: 10.1.0.0/16, natOutgoing: true, x: 1}
- 7
";
    assert_eq!(read(text)[0].name, "a");
    assert_eq!(
        refusals(text),
        [
            "document 1: IPPool/b: items[1].spec.x: unknown field (expected one of cidr, ipipMode, vxlanMode, natOutgoing, disabled, disableBGPExport, blockSize, nodeSelector, namespaceSelector, allowedUses, assignmentMode)",
            "document 1: IPPool/b: items[1].spec.natOutgoing: true is not supported by this release (expected false)",
            "document 1: items[2]: found 7 (expected a resource)",
        ]
    );
}

#[test]
fn faults_of_syntax() {
    assert_eq!(refusals("# nothing\n"), ["there is no resource in this text"]);
    assert_eq!(refusals("kind: List\nitems: []\n"), ["there is no resource in this text"]);
    let twice = refusals("kind: IPPool\nkind: IPPool\n");
    assert!(twice[0].contains("duplicate entry with key \"kind\""), "{twice:?}");
    let open = refusals("spec: [1, 2\n");
    assert!(open[0].contains("at line 2 column 1"), "{open:?}");
}

/// Aliases that would expand to 10^9 items must be refused, not expanded.
#[test]
fn alias_bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let row = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    let found = refusals(&text);
    assert!(found[0].contains("repetition limit exceeded"), "{found:?}");
}

#[test]
fn references_need_kind_and_name_alone() {
    let text = format!("{CALICO_POOL}---\n{}", route_text("prefix: 1"));
    let found = references(&text).unwrap();
    let found: Vec<_> = found.iter().map(|r| (r.kind, r.name.as_str())).collect();
    assert_eq!(found, [(Kind::IpPool, "default-ipv4-ippool"), (Kind::Route, "r")]);
    let problems = references("apiVersion: vrouter.io/v1\nkind: Route\n").unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "document 1: Route: metadata.name: is missing (expected the name of the resource)"
    );
}

#[test]
fn kinds_as_people_type_them() {
    for (text, kind) in [
        ("ippool", Kind::IpPool),
        ("IPPools", Kind::IpPool),
        ("route", Kind::Route),
        ("routes", Kind::Route),
        ("networkpolicies", Kind::NetworkPolicy),
        ("GlobalNetworkPolicy", Kind::GlobalNetworkPolicy),
        ("kubernetesnetworkpolicies", Kind::KubernetesNetworkPolicy),
        ("tiers", Kind::Tier),
    ] {
        assert_eq!(text.parse::<Kind>(), Ok(kind), "{text}");
    }
    for (text, message) in [
        ("bgppeers", "kind BGPPeer is not supported by this release"),
        ("ippoolx", "unknown kind \"ippoolx\""),
        ("routé", "unknown kind \"routé\""),
        ("", "unknown kind \"\""),
    ] {
        assert_eq!(text.parse::<Kind>().unwrap_err().to_string(), message);
    }
}

#[test]
fn faults_that_show_in_a_set() {
    let net = |text: &str| text.parse().unwrap();
    let via = "192.0.2.1".parse().unwrap();
    let set = [
        Resource::IpPool(IpPool::new("a", net("10.0.0.0/8"))),
        Resource::IpPool(IpPool::new("b", net("10.9.0.0/16"))),
        Resource::IpPool(IpPool::new("c", net("fd00::/64"))),
        Resource::IpPool(IpPool::new("c", net("fd01::/64"))),
        Resource::Route(Route::unicast("r", net("10.1.0.0/24"), via)),
        Resource::Route(Route::terminal("s", net("10.1.0.0/24"), RouteType::Blackhole)),
    ];
    let found: Vec<String> = check_set(&set).iter().map(|p| p.to_string()).collect();
    assert_eq!(
        found,
        [
            "IPPool/c: metadata.name: \"c\" is used twice (expected a name of its own)",
            "Route/s: spec.prefix: 10.1.0.0/24 with metric 0 is already the prefix of route \"r\" (expected another prefix or metric)",
            "IPPool/b: spec.cidr: 10.9.0.0/16 overlaps 10.0.0.0/8 of pool \"a\" (expected ranges that share no address)",
        ]
    );
    assert_eq!(check_set(&set[4..5]), []);
}

#[test]
fn default_names_are_names() {
    for (cidr, name) in
        [("10.100.0.0/16", "pool-10.100.0.0-16"), ("fd00:10::/64", "pool-fd00-10-64"), ("::/0", "pool--0")]
    {
        let found = IpPool::default_name(&cidr.parse().unwrap());
        assert_eq!(found, name);
        assert_eq!(api::check_dns_name(&found), Ok(()));
    }
    let found = Route::default_name(&"0.0.0.0/0".parse().unwrap());
    assert_eq!(found, "route-0.0.0.0-0");
}
