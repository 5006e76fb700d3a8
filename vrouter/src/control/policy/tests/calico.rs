//! What Calico's reference says, case by case.

use acl::model::Family;
use acl::{Action, Headers, Note, ProgramId, RuleId, Verdict};
use api::{Resource, read};

use super::super::{EndpointKey, PolicyWorld, Query, Questions};

const BASE: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: x, labels: {team: red}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {team: blue}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: y, labels: {kind: machine}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: web}},
 spec: {nodeName: n, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: x, labels: {app: db}},
 spec: {nodeName: n}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: y, labels: {app: web}},
 spec: {nodeName: n, serviceAccountName: robot}, status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1'}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: far, labels: {role: far}},
 spec: {nets: [192.0.2.0/24]}}
";

fn resources(text: &str) -> Vec<Resource> {
    read(text)
        .into_iter()
        .map(|object| object.outcome.unwrap_or_else(|problems| panic!("{problems:#?}")))
        .collect()
}

fn world(more: &str) -> PolicyWorld {
    let mut world = PolicyWorld::new();
    resources(BASE).iter().for_each(|resource| world.apply(resource));
    add(&mut world, more);
    world
}

fn add(world: &mut PolicyWorld, text: &str) {
    if !text.trim().is_empty() {
        resources(text).iter().for_each(|resource| world.apply(resource));
    }
    world.publish();
    world.settle();
}

/// Whether TCP to a port passes, and the rule that says so at the destination.
fn asked(world: &PolicyWorld, from: &str, to: &str, port: u16) -> (bool, String) {
    let transport = Some((40_000, port));
    let query = Query {
        from: from.to_owned(),
        to: to.to_owned(),
        protocol: 6,
        transport,
        entering: None,
        leaving: None,
    };
    let answer = Questions::new(world).ask(&query).expect("both ends are known");
    (answer.allowed, answer.ingress.rule.unwrap_or_default())
}

fn passes(world: &PolicyWorld, from: &str, to: &str, port: u16) -> bool {
    asked(world, from, to, port).0
}

/// A policy on x/web's ingress.
fn policy(kind: &str, name: &str, head: &str, rule: &str) -> String {
    format!(
        "---\n{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: {name}, namespace: {}}}, \
         spec: {{{head}, selector: \"app == 'web' && projectcalico.org/namespace == 'x'\", types: [Ingress], \
         ingress: [{rule}]}}}}\n",
        if kind.contains("Global") { "''" } else { "x" }
    )
}

fn one(kind: &str, rule: &str) -> PolicyWorld {
    world(&policy(kind, "p", "order: 1", rule))
}

#[test]
fn policies_are_asked_by_order_then_name_and_without_an_order_last() {
    let allow = "{action: Allow}";
    let deny = "{action: Deny}";
    for (first, second, expected) in [
        (("b", "order: 1", allow), ("a", "order: 2", deny), true),
        (("b", "order: 1", allow), ("a", "order: 1", deny), false),
        (("a", "tier: default", allow), ("b", "order: 9e9", deny), false),
        (("a", "order: -1.5", allow), ("b", "order: -1", deny), true),
        (("b", "tier: default", allow), ("a", "tier: default", deny), false),
    ] {
        let text =
            [first, second].map(|(name, head, rule)| policy("NetworkPolicy", name, head, rule)).concat();
        assert_eq!(passes(&world(&text), "x/db", "x/web", 80), expected, "{text}");
    }
}

#[test]
fn tiers_pass_or_end() {
    let tier = |default: &str| {
        format!(
            "---\n{{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {{name: t}}, spec: {{order: 5, defaultAction: {default}}}}}\n"
        )
    };
    let rule = "{action: Allow, source: {nets: [192.0.2.0/24]}}";
    let ends = world(&(tier("Deny") + &policy("NetworkPolicy", "p", "tier: t", rule)));
    assert_eq!(asked(&ends, "x/db", "x/web", 80), (false, "tier t ingress default".to_owned()));
    assert!(passes(&ends, "192.0.2.1", "x/web", 80));
    let passing = world(&(tier("Pass") + &policy("NetworkPolicy", "p", "tier: t", rule)));
    assert_eq!(asked(&passing, "x/db", "x/web", 80), (true, "profile kns.x ingress[0]".to_owned()));
    let passed = world(&(tier("Deny") + &policy("NetworkPolicy", "p", "tier: t", "{action: Pass}")));
    assert!(passes(&passed, "x/db", "x/web", 80));
    // A policy of a tier that nobody has defined does not fail open.
    let undefined = world(&policy("NetworkPolicy", "p", "tier: nowhere", rule));
    assert!(!passes(&undefined, "x/db", "x/web", 80));
}

#[test]
fn staged_policies_are_noted_and_not_enforced() {
    let world = world(&policy("StagedNetworkPolicy", "s", "order: 1", "{action: Deny}"));
    assert!(passes(&world, "x/db", "x/web", 80));
    let program = world.programs(&EndpointKey::workload("x", "web")).expect("a pod").ingress;
    let mut headers = Headers::new();
    headers.set(0, false, (0, 0), 6, Some((1, 80)));
    let mut noted = Vec::new();
    world.engine().program(program).expect("compiled").notes(&headers, 0, &mut |note| noted.push(note));
    let [Note::Staged(rule)] = noted[..] else { panic!("{noted:?}") };
    let name = world.names().name(rule).expect("a name").to_string();
    assert_eq!(name, "tier default StagedNetworkPolicy x/s ingress[0]");
}

#[test]
fn selectors_of_rules_keep_to_their_namespaces() {
    let from = |rule: &str, kind: &str, ends: [(&str, bool); 4]| {
        let world = one(kind, &format!("{{action: Allow, source: {{{rule}}}}}"));
        for (end, expected) in ends {
            assert_eq!(passes(&world, end, "x/web", 80), expected, "{kind} {rule} from {end}");
        }
    };
    let ends = |db, other, set, stranger| {
        [("x/db", db), ("y/web", other), ("192.0.2.7", set), ("203.0.113.1", stranger)]
    };
    from("selector: all()", "NetworkPolicy", ends(true, false, false, false));
    from("selector: all()", "GlobalNetworkPolicy", ends(true, true, true, false));
    from("notSelector: app == 'web'", "NetworkPolicy", ends(true, false, false, false));
    from("notSelector: app == 'web'", "GlobalNetworkPolicy", ends(true, false, true, true));
    from("namespaceSelector: team == 'blue'", "NetworkPolicy", ends(false, true, false, false));
    from("namespaceSelector: all()", "NetworkPolicy", ends(true, true, false, false));
    from("namespaceSelector: global()", "NetworkPolicy", ends(false, false, true, false));
    from(
        "namespaceSelector: global(), selector: has(nothing)",
        "NetworkPolicy",
        ends(false, false, false, false),
    );
    from("serviceAccounts: {names: [robot]}", "NetworkPolicy", ends(false, false, false, false));
    from("serviceAccounts: {names: [robot]}", "GlobalNetworkPolicy", ends(false, true, false, false));
    let machines = "serviceAccounts: {selector: kind == 'machine'}, namespaceSelector: all()";
    from(machines, "NetworkPolicy", ends(false, true, false, false));
    // Without names and selector, service accounts say nothing: not even the namespace.
    from("serviceAccounts: {}", "NetworkPolicy", ends(true, true, true, true));
    from("serviceAccounts: {selector: ''}", "NetworkPolicy", ends(true, true, true, true));
    // all() of accounts is no condition; beside it the namespace counts.
    from("serviceAccounts: {selector: all()}", "NetworkPolicy", ends(true, false, false, false));
    from("serviceAccounts: {selector: all()}", "GlobalNetworkPolicy", ends(true, true, true, false));
    // all() of namespaces is having one, however deep it stands.
    from("namespaceSelector: all() && team == 'blue'", "NetworkPolicy", ends(false, true, false, false));
    from("namespaceSelector: '!all()'", "NetworkPolicy", ends(false, false, true, false));
    from("namespaceSelector: all() || has(x)", "GlobalNetworkPolicy", ends(true, true, false, false));
    from("notNets: [10.0.0.0/8]", "NetworkPolicy", ends(false, false, true, true));
    from("nets: [0.0.0.0/0], notNets: [192.0.2.0/24]", "NetworkPolicy", ends(true, true, false, true));
}

/// Whom policies name: what the syncer of Calico replaces in their selectors, and of which kinds.
#[test]
fn all_of_a_global_policy_is_all_that_has_a_namespace_or_account() {
    let bare = "---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: bare, namespace: x}, \
                spec: {orchestrator: cni, ipNetworks: [10.0.0.9/32]}}\n---\n\
                {apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h}, \
                spec: {node: n, interfaceName: eth0}}\n";
    let named = |kind: &str, spec: &str| {
        let text = format!(
            "{bare}---\n{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: p, namespace: {}}}, \
             spec: {{{spec}, ingress: [{{action: Deny}}]}}}}\n",
            if kind.contains("Global") { "''" } else { "x" }
        );
        let world = world(&text);
        let tiers = world.tiers();
        let policy = tiers.iter().flat_map(|tier| &tier.policies).next().expect("a policy");
        policy.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let global = |spec: &str| named("GlobalNetworkPolicy", spec);
    assert_eq!(global("selector: all()"), "x/bare x/db x/web y/web h");
    assert_eq!(global("namespaceSelector: all()"), "x/bare x/db x/web y/web");
    assert_eq!(global("selector: all(), namespaceSelector: '!has(nothing)'"), "x/bare x/db x/web y/web");
    assert_eq!(global("namespaceSelector: all() && team == 'blue'"), "y/web");
    assert_eq!(global("serviceAccountSelector: all()"), "x/db x/web y/web");
    assert_eq!(global("serviceAccountSelector: all() && kind == 'machine'"), "y/web");
    // Nothing of a policy of a namespace is replaced.
    assert_eq!(named("NetworkPolicy", "serviceAccountSelector: all()"), "x/bare x/db x/web");
}

/// A rule of one version's prefixes, negated ones too, says nothing of the other version: Felix leaves it
/// out of that version's tables.
#[test]
fn prefixes_hold_a_rule_to_their_ip_version() {
    let dual = "---\n{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: web}}, \
                spec: {nodeName: n}, status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::2'}]}}\n";
    let allow_rest = ", {action: Allow}";
    for (rules, v4, v6) in [
        ("{action: Allow, source: {notNets: [192.168.0.0/16]}}", true, false),
        ("{action: Allow, destination: {notNets: [192.168.0.0/16]}}", true, false),
        ("{action: Allow, source: {notNets: ['2001:db8::/32']}}", false, true),
        ("{action: Allow, ipVersion: 4, source: {notNets: [192.168.0.0/16]}}", true, false),
        (&format!("{{action: Deny, source: {{notNets: [192.168.0.0/16]}}}}{allow_rest}"), false, true),
        (&format!("{{action: Deny, destination: {{notNets: ['2001:db8::/32']}}}}{allow_rest}"), true, false),
        // One list says the version for both ends.
        ("{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {notNets: [11.0.0.0/8]}}", true, false),
    ] {
        let world = world(&(dual.to_owned() + &policy("NetworkPolicy", "p", "order: 1", rules)));
        assert_eq!(passes(&world, "10.0.1.1", "10.0.0.1", 80), v4, "{rules}");
        assert_eq!(passes(&world, "fd00::1", "fd00::2", 80), v6, "{rules}");
    }
}

#[test]
fn named_ports_are_those_of_each_pod() {
    let mut world = one("NetworkPolicy", "{action: Allow, protocol: TCP, destination: {ports: [http, 443]}}");
    for (port, expected) in [(8080, true), (443, true), (80, false)] {
        assert_eq!(passes(&world, "x/db", "x/web", port), expected, "{port}");
    }
    let moved = "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: x, labels: {app: web}}, spec: {nodeName: n, \
                 containers: [{name: c, ports: [{name: http, containerPort: 80}]}]}, status: {podIP: 10.0.0.1}}";
    add(&mut world, moved);
    assert!(passes(&world, "x/db", "x/web", 80) && !passes(&world, "x/db", "x/web", 8080));
}

#[test]
fn services_are_their_endpoints() {
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
                 metadata: {name: s-1, namespace: y, labels: {kubernetes.io/service-name: s}}, \
                 endpoints: [{addresses: [192.0.2.9]}], ports: [{port: 53, protocol: TCP}]}\n---\n";
    let egress = "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: e, namespace: x}, \
                  spec: {types: [Egress], egress: [{action: Allow, destination: {services: {name: s, namespace: y}}}]}}";
    let mut world = world("");
    add(&mut world, egress);
    assert!(!passes(&world, "x/db", "192.0.2.9", 53));
    add(&mut world, slice.trim_end_matches("---\n"));
    for (to, port, expected) in [("192.0.2.9", 53, true), ("192.0.2.9", 54, false), ("192.0.2.8", 53, false)]
    {
        assert_eq!(passes(&world, "x/db", to, port), expected, "{to} {port}");
    }
}

#[test]
fn labels_that_change_are_followed() {
    let rule = "{action: Allow, source: {namespaceSelector: team == 'green'}}";
    let mut world = one("NetworkPolicy", rule);
    assert!(!passes(&world, "y/web", "x/web", 80));
    add(&mut world, "{apiVersion: v1, kind: Namespace, metadata: {name: y, labels: {team: green}}}");
    assert!(passes(&world, "y/web", "x/web", 80));
    // A pod cannot give itself what only its namespace gives.
    let forged = "{apiVersion: v1, kind: Pod, metadata: {name: db, namespace: x, labels: {pcns.team: green}}, \
                  spec: {nodeName: n}, status: {podIP: 10.0.0.2}}";
    add(&mut world, forged);
    assert!(!passes(&world, "x/db", "x/web", 80));
    let gone = resources(&policy("NetworkPolicy", "p", "order: 1", rule));
    world.remove(&gone[0]);
    add(&mut world, "");
    assert!(passes(&world, "x/db", "x/web", 80));
}

#[test]
fn a_pod_without_policy_has_its_namespaces_profile_and_one_without_profiles_is_denied() {
    let bare = "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: bare, namespace: x}, \
                spec: {orchestrator: cni, ipNetworks: [10.0.0.9/32]}}";
    let world = world(bare);
    assert_eq!(asked(&world, "y/web", "x/web", 80), (true, "profile kns.x ingress[0]".to_owned()));
    assert_eq!(asked(&world, "y/web", "x/bare", 80), (false, "no profile ingress".to_owned()));
}

fn says(world: &PolicyWorld, program: Option<ProgramId>, source: [u8; 4], port: u16) -> Option<bool> {
    let class = world.engine().trie(Family::V4).lookup4(u32::from_be_bytes(source));
    let mut headers = Headers::new();
    headers.set(0, false, (class, class), 6, Some((1, port)));
    let mut verdicts = [Verdict { action: Action::Deny, rule: RuleId::NONE }; 64];
    let decided = world.engine().program(program?).expect("compiled").decide(&headers, 1, &mut verdicts);
    (decided.open == 0).then_some(decided.allowed == 1)
}

#[test]
fn host_endpoints_have_their_stages() {
    let host = "
{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h, labels: {host: h}},
 spec: {node: n, interfaceName: eth0, expectedIPs: [198.51.100.1]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: nat},
 spec: {selector: has(host), preDNAT: true, applyOnForward: true, ingress: [{action: Deny, source: {nets: [192.0.2.0/24]}}]}}
---
{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: forward},
 spec: {selector: has(host), applyOnForward: true, types: [Ingress], ingress: [{action: Allow, source: {nets: [203.0.113.0/24]}}]}}
";
    let world = world(host);
    let programs = world.host_programs("h").expect("a host endpoint");
    let (inside, outside, neither) = ([203, 0, 113, 5], [192, 0, 2, 5], [10, 9, 9, 9]);
    // Pre-DNAT: denies what it names, leaves the rest open; failsafe ports pass.
    assert_eq!(says(&world, programs.pre_dnat, outside, 80), Some(false));
    assert_eq!(says(&world, programs.pre_dnat, outside, 22), Some(true));
    assert_eq!(says(&world, programs.pre_dnat, neither, 80), None);
    // Forward: the tier's end denies; no failsafe ports. Nothing applies to egress.
    assert_eq!(says(&world, programs.forward[0], inside, 80), Some(true));
    assert_eq!(says(&world, programs.forward[0], neither, 22), Some(false));
    assert_eq!(programs.forward[1], None);
    // Normal: the same policy, failsafe ports before it; egress has neither policy nor profile.
    assert_eq!(says(&world, Some(programs.normal[0]), neither, 22), Some(true));
    assert_eq!(says(&world, Some(programs.normal[0]), neither, 80), Some(false));
    assert_eq!(says(&world, Some(programs.normal[1]), neither, 80), Some(false));
    assert_eq!(programs.untracked, [None, None]);
}
