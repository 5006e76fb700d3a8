//! What can be changed: pods and resources.

use serde_json::{Value, json};

use crate::node::{Netns, Router, Site, until};

fn pool(name: &str, cidr: &str, ipip: &str) -> String {
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: {name}\n\
         spec:\n  cidr: {cidr}\n  ipipMode: {ipip}\n"
    )
}

fn route(name: &str, prefix: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: vrouter.io/v1\nkind: Route\nmetadata:\n  name: {name}\nspec:\n  prefix: {prefix}\n{rest}"
    )
}

/// Kind/name and outcome of each result of `apply -o json`.
fn outcomes(out: &str) -> Vec<(String, String)> {
    let reply: Value = serde_json::from_str(out).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let results = reply["results"].as_array().expect("results").iter();
    results.map(|r| (format!("{}/{}", text(&r["kind"]), text(&r["name"])), text(&r["outcome"]))).collect()
}

fn expect(results: &[(&str, &str)]) -> Vec<(String, String)> {
    results.iter().map(|(name, outcome)| ((*name).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn pods_come_and_go() {
    let (p1, p2) = (Netns::new("pod"), Netns::new("pod"));
    let router = Site::new("pods").start("");
    assert_eq!(router.json("show pods"), json!([]));
    let attach = |netns: &Netns, name: &str, rest: &str| {
        format!("pod attach --netns {} --name {name} {rest}", netns.path())
    };
    let attached = router.json(&attach(
        &p1,
        "default/a",
        "--address 10.100.36.103 --address fd00:10::a --label app=web",
    ));
    let attached = &attached[0];
    assert_eq!((&attached["state"], &attached["source"]), (&json!("ready"), &json!("api")));
    assert_eq!(attached["labels"], json!({"app": "web"}));
    assert_eq!(attached["addresses"], json!(["10.100.36.103", "fd00:10::a"]));
    let inside: Value = serde_json::from_str(&p1.ip("-j link show dev eth0")).unwrap();
    assert_eq!((&inside[0]["address"], &inside[0]["mtu"]), (&attached["mac"], &json!(1480)));
    router.json(&attach(
        &p2,
        "default/b",
        "--address 10.100.36.104/32 --address fd00:10::b/128 --attach veth",
    ));
    // When the verb has returned, packets flow: the very first ping is answered.
    assert!(p2.pings("10.100.36.103", 1));
    assert!(p2.pings("fd00:10::a", 1));
    assert!(p1.pings("10.100.36.104", 1));

    let taken = router.refusal(&attach(&p2, "default/c", "--address 10.100.36.104 --interface eth7"));
    assert!(taken.contains("10.100.36.104") && taken.contains("default/b"), "{taken}");
    let again = router.refusal(&attach(&p1, "default/a", "--address 10.100.36.105"));
    assert!(again.contains("pod default/a is attached already"), "{again}");
    let outside = router.refusal(&attach(&p1, "default/d", "--address 192.0.2.7 --interface eth7"));
    assert!(outside.contains("192.0.2.7") && outside.contains("pool"), "{outside}");
    let missing =
        router.refusal("pod attach --netns /run/netns/none --name default/e --address 10.100.36.106");
    assert!(missing.contains("/run/netns/none"), "{missing}");
    let wide = router.refusal(&attach(&p1, "default/f", "--address 10.100.36.0/24 --interface eth7"));
    assert!(wide.contains("10.100.36.0/32"), "{wide}");
    assert_eq!(router.json("show pods").as_array().unwrap().len(), 2);
    assert_eq!(p1.devices(), ["lo", "eth0"]);

    assert_eq!(router.vrctl("pod detach default/a").code, Some(0));
    assert_eq!(p1.devices(), ["lo"]);
    assert!(!p2.pings("10.100.36.103", 1));
    assert!(router.refusal("pod detach default/a").contains("there is no pod default/a"));

    // A pod that comes back counts from zero.
    router.json(&attach(&p1, "default/a", "--address 10.100.36.103"));
    let port = router.item("show ports", "name", "default/a");
    assert!(port["tx_packets"].as_u64().unwrap() == 0, "{port:#}");

    // Its namespace went first: it is noticed, and detaching still works.
    drop(p2);
    until("the pod is noticed to be gone", || {
        router.item("show pods", "name", "default/b")["state"] == "failed"
            || router.vrctl("pod detach default/b").code == Some(0)
    });
    router.vrctl("pod detach default/b");
    let pods = router.json("show pods");
    assert_eq!(pods.as_array().unwrap().len(), 1, "{pods:#}");
    assert_eq!(router.json("status")["ready"], true);
}

#[test]
fn resources_are_applied_whole_or_not_at_all() {
    let router = Site::new("apply").start("");
    let generation = |router: &Router| router.json("status")["generation"].as_u64().unwrap();
    let before = generation(&router);
    let text = pool("blue", "10.200.0.0/16", "Never") + &route("r1", "10.200.1.0/24", "  via: 172.16.20.2\n");

    let dry = router.apply(&text, "--dry-run -o json");
    assert_eq!(outcomes(&dry.out), expect(&[("IPPool/blue", "created"), ("Route/r1", "created")]));
    assert_eq!(generation(&router), before);
    assert!(router.refusal("get ippool blue").contains("there is no IPPool blue"));

    let done = router.apply(&text, "-o json");
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert!(generation(&router) > before);
    let found = router.item("show routes", "prefix", "10.200.1.0/24");
    assert_eq!((&found["source"], &found["name"]), (&json!("api"), &json!("r1")));
    assert_eq!(found["next_hops"][0]["encap"], "none");
    let again = router.apply(&text, "-o json");
    assert_eq!(outcomes(&again.out), expect(&[("IPPool/blue", "unchanged"), ("Route/r1", "unchanged")]));

    // The pool's mode is the way of its routes.
    let replaced = router.apply(&pool("blue", "10.200.0.0/16", "Always"), "-o json");
    assert_eq!(outcomes(&replaced.out), expect(&[("IPPool/blue", "replaced")]));
    let found = router.item("show routes", "prefix", "10.200.1.0/24");
    assert_eq!(found["next_hops"][0]["encap"], "ipip");

    // One wrong object, and nothing of the text is done.
    let bad = pool("red", "10.201.0.0/16", "Never") + &pool("green", "10.202.0.0/16", "Sometimes");
    let refused = router.apply(&bad, "-o json");
    assert_eq!(refused.code, Some(1));
    assert_eq!(outcomes(&refused.out), expect(&[("IPPool/red", "skipped"), ("IPPool/green", "refused")]));
    assert!(refused.err.contains("spec.ipipMode") && refused.err.contains("Sometimes"), "{}", refused.err);
    let overlap = router.apply(&pool("red", "10.200.128.0/17", "Never"), "");
    assert!(overlap.code == Some(1) && overlap.err.contains("overlaps"), "{overlap:?}");
    let twice =
        router.apply(&(pool("red", "10.201.0.0/16", "Never") + &pool("red", "10.202.0.0/16", "Never")), "");
    assert!(twice.code == Some(1) && twice.err.contains("twice"), "{twice:?}");
    assert!(router.refusal("get ippool red").contains("there is no IPPool red"));
    assert_eq!(router.json("get networkpolicy"), json!([]));
    assert!(router.refusal("get bgppeer").contains("not supported"));

    let pools = router.json("get ippool");
    let names: Vec<&Value> = pools.as_array().unwrap().iter().map(|pool| &pool["metadata"]["name"]).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert_eq!(router.json("get route r1")["spec"]["via"], "172.16.20.2");

    assert_eq!(router.vrctl("delete route r1").code, Some(0));
    let routes = router.json("show routes --within 10.200.0.0/16");
    assert_eq!(routes, json!([]));
    assert!(router.refusal("delete route r1").contains("there is no Route r1"));
    assert_eq!(router.vrctl("delete ippool blue").code, Some(0));
    let configured = router.json("get route")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let refused = router.refusal(&format!("delete route {configured}"));
    assert!(refused.contains("node1.toml"), "{refused}");
}

#[test]
fn a_pool_that_a_pod_needs_stays() {
    let p1 = Netns::new("pod");
    let router = Site::new("needed").start("");
    router.apply(&pool("blue", "10.200.0.0/16", "Never"), "");
    let attach = format!("pod attach --netns {} --name default/a --address 10.200.0.1", p1.path());
    router.json(&attach);
    let refused = router.refusal("delete ippool blue");
    assert!(refused.contains("default/a") && refused.contains("10.200.0.1"), "{refused}");
    let moved = router.apply(&pool("blue", "10.201.0.0/16", "Never"), "");
    assert!(moved.code == Some(1) && moved.err.contains("default/a"), "{moved:?}");
    assert!(p1.pings("169.254.1.1", 1));
    assert_eq!(router.vrctl("pod detach default/a").code, Some(0));
    assert_eq!(router.vrctl("delete ippool blue").code, Some(0));
}

#[test]
fn of_two_routes_to_a_prefix_the_lowest_metric_is_in_force() {
    let router = Site::new("metric").start("");
    let text = route("far", "192.0.2.0/24", "  via: 172.16.20.2\n  metric: 10\n")
        + &route("near", "192.0.2.0/24", "  type: blackhole\n  metric: 5\n");
    assert_eq!(router.apply(&text, "").code, Some(0));
    let by_name = |name: &str| router.item("show routes", "name", name);
    assert_eq!((&by_name("near")["selected"], &by_name("far")["selected"]), (&json!(true), &json!(false)));
    assert_eq!(router.json("route get 192.0.2.1")["drop_reason"], "blackhole");
    assert_eq!(router.vrctl("delete route near").code, Some(0));
    assert_eq!((&by_name("far")["selected"], &by_name("far")["source"]), (&json!(true), &json!("api")));
    assert_eq!(router.json("route get 192.0.2.1")["port"], "eth1");
    assert_eq!(router.vrctl("delete route far").code, Some(0));
    assert_eq!(router.json("route get 192.0.2.1")["drop_reason"], "no-route");
}

#[test]
fn policies_come_and_go_and_what_is_not_enforced_is_told() {
    let policy = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n\
                  metadata: { name: web, namespace: shop }\n\
                  spec: { types: [Ingress], ingress: [ { action: Allow, http: { methods: [GET] } } ] }\n";
    let router = Site::new("policies").start("");
    let applied = router.apply(policy, "-o json");
    assert_eq!(outcomes(&applied.out), expect(&[("NetworkPolicy/web", "created")]));
    assert_eq!(router.json("get networkpolicy shop/web")["metadata"]["namespace"], "shop");
    // A bare name is in namespace default.
    assert!(router.refusal("get networkpolicy web").contains("there is no NetworkPolicy web"));
    let told = router.json("status");
    let conditions = told["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|c| c["name"] == "NetworkPolicy shop/web").unwrap();
    assert_eq!(condition["ok"], json!(true));
    assert!(condition["message"].as_str().unwrap().contains("http"), "{condition}");
    let lost = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\n\
                metadata: { name: x.y }\nspec: { tier: x }\n";
    assert!(router.apply(lost, "").err.contains("tier"), "a tier that is not there");
    assert_eq!(router.vrctl("delete networkpolicy shop/web").code, Some(0));
    assert_eq!(router.json("get networkpolicy"), json!([]));
}

#[test]
fn under_fail_closed_what_cannot_be_enforced_is_refused() {
    let router = Site::new("closed").start("[policy]\nfail_closed = true\n");
    for what in [
        // A host endpoint of this node without a device of the router.
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: { name: h }\n\
         spec: { node: node1, interfaceName: eth9 }\n",
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: { name: p }\n\
         spec: { ingress: [ { action: Allow, http: { methods: [GET] } } ] }\n",
    ] {
        let refused = router.apply(what, "");
        assert_eq!(refused.code, Some(1), "{what}");
        assert!(refused.err.contains("is not enforced"), "{}", refused.err);
    }
}
