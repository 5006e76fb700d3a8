//! The verbs that change: pods and resources.

use crate::mock::Server;
use crate::{good, vrctl, vrctl_with_stdin};

const GOOD: &str = "\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: blue}
spec: {cidr: 10.100.0.0/16, ipipMode: Never}
---
apiVersion: vrouter.io/v1
kind: Route
metadata: {name: node2}
spec: {prefix: 10.100.169.128/26, via: 172.16.20.253}
";

const BAD: &str = "\
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: red}
spec: {cidr: 10.0.0.1/8, natOutgoing: true}
";

#[test]
fn attach_and_detach() {
    let server = Server::start("pods");
    let table = good(
        &server,
        "pod attach --netns web --name default/web --address 10.100.36.103 --address fd00:10:36::103 \
         --attach veth --label app=web --label note=a=b",
    );
    assert_eq!(
        table,
        "NAME         ADDRESSES                      ATTACH  PORT     STATE  REASON\n\
         default/web  10.100.36.103,fd00:10:36::103  tap     tap-web  ready  -\n"
    );
    let asked = server.requests().remove(0);
    let netns = server.directory.join("web");
    for part in [
        format!("netns: {:?}", netns.display().to_string()),
        "name: \"default/web\"".to_owned(),
        "interface: \"eth0\"".to_owned(),
        "addresses: [\"10.100.36.103\", \"fd00:10:36::103\"]".to_owned(),
        "attach: Veth".to_owned(),
        "\"app\": \"web\"".to_owned(),
        "\"note\": \"a=b\"".to_owned(),
    ] {
        assert!(asked.contains(&part), "{part} in {asked}");
    }
    assert_eq!(good(&server, "pod detach default/web"), "pod default/web detached\n");
    for (verb, code, message) in [
        ("pod detach a/b", 1, "vrctl: there is no pod a/b\n"),
        ("pod attach --netns /n --name a/b --address 11.0.0.1", 1, "vrctl: 11.0.0.1 is outside every pool\n"),
        ("pod attach --netns /n --name a/b", 2, "--address <IP>"),
        ("pod attach --netns /n --name a/b --address 1 --attach memif", 2, "[possible values: tap, veth]"),
        ("pod attach --netns /n --name a/b --address 1 --label x", 2, "a label is KEY=VALUE"),
    ] {
        let run = vrctl(&server, verb);
        assert_eq!(run.code, Some(code), "{verb}: {}", run.err);
        assert!(run.err.contains(message), "{verb}: {}", run.err);
    }
}

#[test]
fn apply_says_what_became_of_each_object() {
    let server = Server::start("apply");
    std::fs::write(server.directory.join("good.yaml"), GOOD).expect("the directory is ours");
    assert_eq!(good(&server, "apply -f good.yaml"), "IPPool/blue created\nRoute/node2 created\n");
    let dry = vrctl_with_stdin(&server, "apply --dry-run -f -", GOOD);
    assert_eq!(dry.out, "IPPool/blue created (dry run)\nRoute/node2 created (dry run)\n");
    assert!(server.requests()[1].contains("dry_run: true"));
    let bad = vrctl_with_stdin(&server, "apply -f -", &format!("{GOOD}{BAD}"));
    assert_eq!(bad.code, Some(1));
    assert_eq!(bad.out, "IPPool/blue skipped\nRoute/node2 skipped\nIPPool/red refused\n");
    assert_eq!(
        bad.err,
        "vrctl: refused, nothing was applied\n\
         document 3: IPPool/red: spec.cidr: 10.0.0.1/8 has bits set behind the prefix (expected 10.0.0.0/8)\n\
         document 3: IPPool/red: spec.natOutgoing: true is not supported by this release (expected false)\n"
    );
    let json = vrctl_with_stdin(&server, "apply -o json -f -", BAD);
    let reply: serde_json::Value = serde_json::from_str(&json.out).expect("vrctl writes JSON");
    assert_eq!(json.code, Some(1));
    assert_eq!(reply["results"][0]["outcome"], "refused");
    assert_eq!(reply["results"][0]["problems"][1]["path"], "spec.natOutgoing");
    let none = vrctl(&server, "apply -f none.yaml");
    assert_eq!(none.code, Some(1));
    assert_eq!(none.err, "vrctl: none.yaml: No such file or directory (os error 2)\n");
}

#[test]
fn delete_by_name_and_by_file() {
    let server = Server::start("delete");
    assert_eq!(good(&server, "delete ippool blue"), "ippool/blue deleted\n");
    let file = format!("{GOOD}---\n{}", GOOD.replace("blue", "busy").replace("node2", "node3"));
    let run = vrctl_with_stdin(&server, "delete -f -", &file);
    assert_eq!(run.code, Some(1));
    assert_eq!(run.out, "IPPool/blue deleted\nRoute/node2 deleted\nRoute/node3 deleted\n");
    assert_eq!(run.err, "vrctl: IPPool/busy: 2 pods have its addresses\n");
    let run = vrctl_with_stdin(&server, "delete -f -", "kind: BGPPeer\n");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("kind BGPPeer is not supported by this release"), "{}", run.err);
    for verb in ["delete", "delete ippool", "delete ippool a -f b"] {
        assert_eq!(vrctl(&server, verb).code, Some(2), "{verb}");
    }
}

#[test]
fn workers_are_set() {
    let server = Server::start("workers");
    assert_eq!(good(&server, "workers set 2"), "Workers:      2 of 2\nQueues moved: 3\n");
    let refused = vrctl(&server, "workers set 3");
    assert_eq!((refused.code, refused.err.as_str()), (Some(1), "vrctl: there can be 1 to 2 workers here\n"));
    assert_eq!(vrctl(&server, "workers set 0").code, Some(2));
}
