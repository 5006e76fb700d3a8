//! What routes come down to, by way of which others, and why some do not.

use serde_json::{Value, json};

use crate::node::{Router, Site, until};

fn route(name: &str, prefix: &str, via: &str) -> String {
    format!(
        "---\napiVersion: vrouter.io/v1\nkind: Route\nmetadata:\n  name: {name}\nspec:\n  prefix: {prefix}\n  via: {via}\n"
    )
}

fn apply(router: &Router, routes: &[(&str, &str, &str)]) {
    let text: String = routes.iter().map(|(name, prefix, via)| route(name, prefix, via)).collect();
    let applied = router.apply(&text, "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
}

/// The one route to a prefix.
fn only(router: &Router, prefix: &str) -> Value {
    let routes = router.json(&format!("show routes {prefix}"));
    assert_eq!(routes.as_array().map(Vec::len), Some(1), "{routes:#}");
    routes[0].clone()
}

#[test]
fn a_route_tells_the_way_to_its_neighbor_or_what_is_wrong() {
    let router = Site::new("way").start("");
    apply(&router, &[("far", "198.51.100.0/24", "192.0.2.9")]);
    let far = only(&router, "198.51.100.0/24");
    assert_eq!((&far["selected"], &far["active"]), (&json!(true), &json!(false)));
    assert_eq!(far["reason"], "no route to 192.0.2.9");
    assert_eq!(far["next_hops"][0]["problem"], "no route to 192.0.2.9");
    let decision = router.json("route get 198.51.100.7");
    assert_eq!(
        (&decision["verdict"], &decision["drop_reason"]),
        (&json!("drop"), &json!("next-hop-unresolved"))
    );

    apply(&router, &[("middle", "192.0.2.0/24", "172.16.20.2")]);
    until("the neighbor is known", || only(&router, "198.51.100.0/24")["active"] == true);
    let far = only(&router, "198.51.100.0/24");
    assert_eq!(far["reason"], "");
    let hop = &far["next_hops"][0];
    assert_eq!((&hop["gateway"], &hop["address"]), (&json!("192.0.2.9"), &json!("172.16.20.2")));
    assert_eq!((&hop["port"], &hop["weight"]), (&json!("eth1"), &json!(1)));
    let way = json!([{ "address": "192.0.2.9", "prefix": "192.0.2.0/24", "source": "api" }]);
    assert_eq!(hop["way"], way);
    let decision = router.json("route get 198.51.100.7");
    assert_eq!((&decision["verdict"], &decision["neighbor"]), (&json!("forward"), &json!("172.16.20.2")));
    assert_eq!(decision["next_hops"][0]["way"], way);
    let text = router.vrctl("route get 198.51.100.7").out;
    assert!(text.contains("Way:           192.0.2.9 by 192.0.2.0/24 api\n"), "{text}");

    let groups = router.json("show nexthops");
    let by_way = groups.as_array().unwrap().iter().filter(|group| group["next_hops"][0]["way"] == way);
    let by_way: Vec<&Value> = by_way.collect();
    assert_eq!(by_way.len(), 1, "{groups:#}");
    assert_eq!((&by_way[0]["id"], &by_way[0]["routes"]), (&far["group"], &json!(1)));
    assert_eq!(by_way[0]["next_hops"][0]["share"], 1.0);

    // Two routes that lead to each other are no way, and harm no other.
    apply(&router, &[("x", "203.0.113.0/25", "203.0.113.129"), ("y", "203.0.113.128/25", "203.0.113.1")]);
    for (prefix, end) in [("203.0.113.0/25", "203.0.113.129"), ("203.0.113.128/25", "203.0.113.1")] {
        let looped = only(&router, prefix);
        assert_eq!(looped["active"], false);
        assert_eq!(looped["reason"], format!("loop: the way to {end} leads through {end}"));
    }
    assert_eq!(router.json("route get 198.51.100.7")["verdict"], "forward");
    let unresolved = router.vrctl("show routes 203.0.113.0/24 --longer").out;
    assert_eq!(unresolved.matches("unresolved").count(), 2, "{unresolved}");
}

#[test]
fn next_hops_share_flows_by_weight() {
    let multipath = "[[route]]\nprefix = \"198.51.100.0/24\"\n\
        via = [\"172.16.20.2\", { address = \"172.16.20.3\", weight = 3 }]\n";
    let router = Site::new("weights").start(multipath);
    let shares = |hops: &Value| {
        let hops = hops.as_array().unwrap().iter();
        let told = |hop: &Value| json!([hop["gateway"], hop["weight"], hop["share"]]);
        Value::from(hops.map(told).collect::<Vec<_>>())
    };
    let of_config = json!([["172.16.20.2", 1, 0.25], ["172.16.20.3", 3, 0.75]]);
    let shown = only(&router, "198.51.100.0/24");
    assert_eq!(shares(&shown["next_hops"]), of_config);
    assert_eq!(shares(&router.json("route get 198.51.100.7")["next_hops"]), of_config);
    let group = |shown: &Value| {
        let groups = router.json("show nexthops");
        groups.as_array().unwrap().iter().find(|group| group["id"] == shown["group"]).unwrap().clone()
    };
    assert_eq!(shares(&group(&shown)["next_hops"]), of_config);
    let text = router.vrctl("show nexthops").out;
    assert!(text.contains("172.16.20.3 dev eth1 weight 3"), "{text}");
    assert!(text.contains("25.0%, 75.0%"), "{text}");

    // The same by the API, read back as it was given.
    let via = "[{address: 172.16.20.2, weight: 2}, 172.16.20.3, {address: 172.16.20.4}]";
    apply(&router, &[("three", "203.0.113.0/24", via)]);
    let shown = only(&router, "203.0.113.0/24");
    let of_api = json!([["172.16.20.2", 2, 0.5], ["172.16.20.3", 1, 0.25], ["172.16.20.4", 1, 0.25]]);
    assert_eq!(shares(&shown["next_hops"]), of_api);
    let given = router.json("get route three");
    let via = json!([{ "address": "172.16.20.2", "weight": 2 }, "172.16.20.3", "172.16.20.4"]);
    assert_eq!(given["spec"]["via"], via, "{given:#}");
    apply(&router, &[("three", "203.0.113.0/24", "172.16.20.3")]);
    let shown = only(&router, "203.0.113.0/24");
    assert_eq!(shares(&shown["next_hops"]), json!([["172.16.20.3", 1, 1.0]]));
    // All of a resource or nothing.
    let wrong = router.apply(&route("three", "203.0.113.0/24", "[{address: 172.16.20.2, weight: 300}]"), "");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("spec.via[0].weight: found 300"), "{}", wrong.err);
}

#[test]
fn a_vrf_has_routes_of_its_own() {
    let site = Site::new("vrf");
    let (node, far) = (&site.node, &site.far);
    node.ip(&format!("link add eth2 type veth peer name eth2 netns {}", far.path()));
    node.ip("link set eth2 up");
    far.ip("link set eth2 up");
    far.ip("addr add 172.16.20.2/24 dev eth2");
    let blue = "[[uplink]]\ndevice = \"eth2\"\nsharing = \"exclusive\"\naddresses = [\"172.16.20.1/24\"]\n\
        vrf = \"blue\"\n[[route]]\nname = \"blue\"\nprefix = \"10.100.169.128/26\"\nvia = \"172.16.20.2\"\nvrf = \"blue\"\n";
    let mut router = site.start(blue);
    // The same prefix by the same next hop, in the default VRF by a tunnel on eth1.
    let port = |vrf: &str| router.json(&format!("route get 10.100.169.130{vrf}"))["port"].clone();
    until("both are resolved", || port("") == "eth1" && port(" --vrf blue") == "eth2");
    let decision = router.json("route get 10.100.169.130 --vrf blue");
    assert_eq!((&decision["vrf"], &decision["encap"]), (&json!("blue"), &json!("none")));
    assert_eq!(router.json("route get 10.100.169.130")["encap"], "ipip");
    let shown = router.json("show routes 10.100.169.128/26 --vrf blue");
    assert_eq!((&shown[0]["vrf"], &shown[0]["name"]), (&json!("blue"), &json!("blue")));
    assert_eq!(only(&router, "10.100.169.128/26")["vrf"], "");
    let ports = router.json("show ports");
    let of_blue = ports.as_array().unwrap().iter().filter(|port| port["vrf"] == "blue");
    assert_eq!(of_blue.map(|port| &port["name"]).collect::<Vec<_>>(), ["eth2"]);
    // By the API too, and over a restart.
    let of = |vrf: &str| route("lab", "203.0.113.0/24", &format!("172.16.20.2\n  vrf: {vrf}"));
    assert_eq!(router.apply(&of("blue"), "").code, Some(0));
    let wrong = router.apply(&of("green"), "");
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("spec.vrf: no uplink is in VRF green"), "{}", wrong.err);
    let unknown = router.vrctl("show routes --vrf green");
    assert_eq!((unknown.code, unknown.err.as_str()), (Some(1), "vrctl: there is no VRF green\n"));
    assert_eq!(router.stop(), Some(0));
    router.start_again();
    let shown = router.json("show routes 203.0.113.0/24 --vrf blue");
    assert_eq!((&shown[0]["source"], &shown[0]["selected"]), (&json!("api"), &json!(true)));
    assert_eq!(router.json("show routes 203.0.113.0/24").as_array().map(Vec::len), Some(0));
}

#[test]
fn candidates_that_lost_say_by_what() {
    let router = Site::new("lost").start("");
    apply(&router, &[("link", "172.16.20.0/24", "172.16.20.2")]);
    let routes = router.json("show routes 172.16.20.0/24");
    assert_eq!(routes.as_array().map(Vec::len), Some(2));
    assert_eq!((&routes[0]["source"], &routes[0]["active"]), (&json!("connected"), &json!(true)));
    assert_eq!((&routes[1]["source"], &routes[1]["selected"]), (&json!("api"), &json!(false)));
    assert_eq!(routes[1]["reason"], "distance 1 against 0 of connected");
    let decision = router.json("route get 172.16.20.77");
    assert_eq!(decision["type"], "connected");
    assert_eq!(decision["candidates"][0]["reason"], "distance 1 against 0 of connected");
    let best = router.json("show routes 172.16.20.0/24 --best");
    assert_eq!(best.as_array().map(Vec::len), Some(1));
    // In ascending order, whatever order they came in.
    let all = router.json("show routes");
    let prefixes = all.as_array().unwrap().iter().map(|route| route["prefix"].as_str().unwrap());
    let nets: Vec<ipnet::IpNet> = prefixes.map(|prefix| prefix.parse().unwrap()).collect();
    assert!(nets.is_sorted(), "{nets:?}");
}

#[test]
fn each_of_several_next_hops_has_a_verdict() {
    let site = Site::new("verdicts");
    site.far.ip("addr add 172.16.20.200/24 dev eth1");
    let router = site.start("");
    // Nobody answers for .100 and .101.
    apply(
        &router,
        &[
            ("half", "198.51.100.0/24", "[172.16.20.100, 172.16.20.200]"),
            ("none", "203.0.113.0/24", "[172.16.20.100, 172.16.20.101]"),
        ],
    );
    let decision = || router.json("route get 198.51.100.7");
    let verdict_by = |decision: &Value, neighbor: &str| {
        let hops = decision["hops"].as_array().unwrap().iter();
        hops.clone().find(|hop| hop["neighbor"] == neighbor).unwrap()["verdict"].clone()
    };
    until("one neighbor answers and the other failed", || {
        let decision = decision();
        verdict_by(&decision, "172.16.20.100") == "drop"
            && verdict_by(&decision, "172.16.20.200") == "forward"
    });
    let half = decision();
    assert_eq!((&half["verdict"], &half["drop_reason"]), (&json!("forward"), &json!("")));
    assert_eq!((&half["port"], &half["neighbor"]), (&json!("eth1"), &json!("172.16.20.200")));
    let lost = &half["hops"][0];
    assert_eq!((&lost["drop_reason"], &lost["share"]), (&json!("neighbor-failed"), &json!(0.5)));
    assert_eq!((&lost["port"], &lost["mtu"]), (&json!("eth1"), &json!(1500)));
    let text = router.vrctl("route get 198.51.100.7").out;
    assert!(text.contains("forward, by 1 of 2 hops\n"), "{text}");
    assert!(text.contains("50.0% drop: neighbor-failed by eth1, mtu 1500, neighbor 172.16.20.100"), "{text}");
    until("both failed", || {
        let decision = router.json("route get 203.0.113.7");
        decision["verdict"] == "drop" && decision["drop_reason"] == "neighbor-failed"
    });
}

#[test]
fn sources_have_one_name_each_and_others_are_refused() {
    let more = "[[route]]\nname = \"c\"\nprefix = \"192.0.2.0/24\"\nvia = \"172.16.20.2\"\n";
    let router = Site::new("sources").start(more);
    apply(&router, &[("far", "198.51.100.0/24", "192.0.2.9"), ("link", "172.16.20.0/24", "172.16.20.2")]);
    assert_eq!(only(&router, "198.51.100.0/24")["next_hops"][0]["way"][0]["source"], "config");
    for source in ["config", "api", "connected", "block", "bgp"] {
        let shown = router.json(&format!("show routes --source {source}"));
        let shown = shown.as_array().unwrap();
        assert!(shown.iter().all(|route| route["source"] == source), "{shown:?}");
        assert_eq!(shown.is_empty(), source == "bgp", "{source}");
    }
    for unknown in ["static", "endpoint", "Config"] {
        let refused = router.refusal(&format!("show routes --source {unknown}"));
        let words = format!("there is no source \"{unknown}\" of routes; sources are connected, pod, config");
        assert!(refused.contains(&words) && refused.contains("block"), "{refused}");
    }
}

#[test]
fn route_resources_that_are_kept_out_come_with_their_prefix_and_say_by_what() {
    let router = Site::new("kept-out").start("");
    let with_metric =
        |name: &str, metric: u32| route(name, "192.0.2.0/24", &format!("172.16.20.2\n  metric: {metric}"));
    // More than a page of them, and a prefix behind.
    let mut text =
        with_metric("b", 5) + &with_metric("a", 900) + &route("z", "198.51.100.0/24", "172.16.20.2");
    for number in 0..300 {
        text += &with_metric(&format!("c{number:03}"), 6 + number);
    }
    let applied = router.apply(&text, "");
    assert_eq!(applied.code, Some(0), "{}", applied.err);
    let all = router.json("show routes --source api");
    let all = all.as_array().unwrap();
    let names: Vec<&str> = all.iter().map(|route| route["name"].as_str().unwrap()).collect();
    let numbered = (0..300).map(|number| format!("c{number:03}"));
    let expected: Vec<String> =
        ["b".to_owned()].into_iter().chain(numbered).chain(["a".to_owned(), "z".to_owned()]).collect();
    assert_eq!(names, expected);
    assert_eq!(all[1]["reason"], "metric 6 against 5 of route resource b");
    assert_eq!(all[301]["reason"], "metric 900 against 5 of route resource b");
    let chosen = all.iter().filter(|route| route["selected"] == true).count();
    assert_eq!(chosen, 2);
    assert_eq!(router.json("show routes 192.0.2.0/24").as_array().map(Vec::len), Some(302));
    let best = router.json("show routes --source api --best");
    assert_eq!(best.as_array().map(Vec::len), Some(2));

    let decision = router.json("route get 192.0.2.1");
    let told = decision["candidates"].as_array().unwrap();
    assert_eq!((told.len(), &decision["candidates_left_out"]), (128, &json!(173)));
    assert_eq!((&told[0]["name"], &told[0]["reason"]), (&json!("c000"), &all[1]["reason"]));
    assert!(router.vrctl("route get 192.0.2.1").out.contains("; and 173 more\n"));
}
