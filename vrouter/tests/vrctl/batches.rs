//! Many questions at a time: `explain --batch` and `policy test`, from files.

use std::fs;

use serde_json::{Value, json};

use crate::policy::with_resources;
use crate::{good, vrctl};

#[test]
fn a_file_of_packets_is_answered_line_by_line() {
    let server = with_resources("batch");
    let lines = "\
{\"from\": \"x/b\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": 80}
{\"from\": \"192.0.2.1\", \"to\": \"x/a\", \"proto\": 6, \"dport\": 80}

{\"from\": \"x/b\", \"to\": \"10.0.0.1\", \"proto\": \"icmp\"}
";
    fs::write(server.directory.join("batch"), lines).expect("the directory is ours");
    let out = good(&server, "explain --resources resources --batch batch");
    let allowed: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["allowed"].clone())
        .collect();
    assert_eq!(allowed, [json!(true), json!(false), json!(false)]);
}

/// A question that has no answer says why in its place, and those behind it are answered.
#[test]
fn a_bad_line_of_a_batch_stops_no_other() {
    let server = with_resources("batch-bad");
    let ask = |to: &str, rest: &str| format!("{{\"from\": \"x/b\", \"to\": \"{to}\", {rest}}}\n");
    let tcp = "\"proto\": \"tcp\", \"dport\"";
    let cases = [
        (ask("x/c", &format!("{tcp}: 1")), "\"x/c\" is neither an address, nor"),
        (ask("x/a", "\"proto\": \"tcp\""), "dport: is missing"),
        (ask("x/a", "\"proto\": \"tpc\", \"dport\": 1"), "proto: \"tpc\": a number from 0 to 255"),
        (ask("x/a", "\"proto\": \"gre\", \"dport\": 1"), "dport: gre has no ports"),
        (ask("x/a", "\"proto\": \"udplite\", \"sport\": 1"), "sport: udplite has no ports"),
        (ask("x/a", "\"proto\": \"icmp\", \"sport\": 1"), "sport: ICMP has no ports"),
        (ask("x/a", "\"proto\": \"icmp\", \"icmp_code\": 1"), "icmp_code: is given without icmp_type"),
        (ask("x/a", &format!("{tcp}: 1, \"icmp_type\": 8")), "icmp_type: given for another protocol"),
        (ask("x/a", &format!("{tcp}: 80, \"colour\": 1")), "colour: unknown field"),
        (ask("x/a", "\"proto\": \"icmp\", \"icmp_type\": 256"), "icmp_type: found 256"),
        ("no JSON\n".to_owned(), "expected"),
    ];
    let mut lines: String = cases.iter().map(|(line, _)| line.as_str()).collect();
    lines += &ask("x/a", &format!("{tcp}: 80, \"sport\": 7"));
    lines += &ask("x/a", "\"proto\": \"udplite\"");
    fs::write(server.directory.join("batch"), lines).expect("the directory is ours");
    let run = vrctl(&server, "explain --resources resources --batch batch");
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err.lines().count(), 1);
    assert!(
        run.err.starts_with("vrctl: 11 of 13 packets have no answer; the first: batch:1: \"x/c\""),
        "{}",
        run.err
    );
    let answers: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 13);
    for (number, (answer, (line, error))) in answers.iter().zip(&cases).enumerate() {
        let told = answer["error"].as_str().unwrap_or_else(|| panic!("{line}: {answer}"));
        assert!(
            told.starts_with(&format!("batch:{}: ", number + 1)) && told.contains(error),
            "{line}: {told}"
        );
    }
    assert_eq!((&answers[11]["allowed"], &answers[12]["allowed"]), (&json!(true), &json!(false)));
}

/// Source ports, ICMP types and codes of a batch reach the rules.
#[test]
fn fields_of_a_batch_are_what_rules_see() {
    let server = with_resources("batch-fields");
    let policy = "{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: b, namespace: x}, \
                  spec: {selector: '!has(app)', types: [Ingress], ingress: [\
                  {action: Allow, protocol: ICMP, icmp: {type: 3, code: 4}}, \
                  {action: Allow, protocol: UDP, source: {ports: [123]}, destination: {ports: [123]}}]}}";
    fs::write(server.directory.join("resources/b.yaml"), policy).expect("the directory is ours");
    let cases = [
        ("\"proto\": \"icmp\", \"icmp_type\": 3, \"icmp_code\": 4", true),
        ("\"proto\": \"icmp\", \"icmp_type\": 3, \"icmp_code\": 3", false),
        ("\"proto\": \"icmp\", \"icmp_type\": 3", false),
        ("\"proto\": \"icmp\"", false),
        ("\"proto\": 17, \"sport\": 123, \"dport\": 123", true),
        ("\"proto\": 17, \"sport\": 124, \"dport\": 123", false),
        ("\"proto\": 17, \"dport\": 123", false),
    ];
    let lines = cases.map(|(rest, _)| format!("{{\"from\": \"x/a\", \"to\": \"x/b\", {rest}}}\n")).concat();
    fs::write(server.directory.join("batch"), lines).expect("the directory is ours");
    let out = good(&server, "explain --resources resources --batch batch");
    for (line, (rest, expected)) in out.lines().zip(cases) {
        let answer: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(answer["allowed"], json!(expected), "{rest}");
    }
    assert_eq!(out.lines().count(), cases.len());
}

#[test]
fn cases_are_compared() {
    let server = with_resources("policy-test");
    let case = |port: u16, expect: &str| {
        format!(
            "{{\"from\": \"x/b\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": {port}, \"expect\": {expect}}}\n"
        )
    };
    let good_cases =
        [case(80, "true"), case(81, "\"deny\""), case(81, "{\"ingress\": {\"tier\": \"default\"}}")];
    fs::write(server.directory.join("cases"), good_cases.concat()).expect("the directory is ours");
    assert_eq!(good(&server, "policy test cases --resources resources"), "3 cases, 0 wrong\n");
    fs::write(server.directory.join("cases"), case(80, "false")).expect("the directory is ours");
    let run = vrctl(&server, "policy test cases --resources resources");
    assert_eq!(run.code, Some(1));
    assert!(run.out.starts_with("cases:1: x/b to x/a: allowed: expected false, found true\n"), "{}", run.out);
    fs::write(server.directory.join("cases"), "{}").expect("the directory is ours");
    let run = vrctl(&server, "policy test cases --resources resources");
    assert_eq!((run.code, run.err.as_str()), (Some(1), "vrctl: cases:1: from: is missing\n"));
}

/// A case that no answer could fail is no case.
#[test]
fn cases_that_say_nothing_are_refused() {
    let server = with_resources("cases-empty");
    let told = |expect: &str| {
        let case = format!(
            "{{\"from\": \"x/b\", \"to\": \"x/a\", \"proto\": \"tcp\", \"dport\": 80, \"expect\": {expect}}}\n"
        );
        fs::write(server.directory.join("cases"), case).expect("the directory is ours");
        vrctl(&server, "policy test cases --resources resources")
    };
    for (expect, error) in [
        ("{}", "expect: says nothing"),
        ("{\"ingress\": {}}", "expect.ingress: says nothing"),
        ("{\"forward\": [{}]}", "expect.forward[0]: says nothing"),
        ("{\"ingres\": {\"tier\": \"default\"}}", "expect.ingres: unknown field"),
        ("{\"ingress\": {\"teir\": \"default\"}}", "expect.ingress.teir: unknown field"),
        ("{\"ingress\": null}", "expect.ingress: found null"),
        ("{\"allowed\": \"yes\"}", "expect.allowed: found \"yes\""),
        ("{\"egress\": {\"verdict\": \"allow\"}}", "expect.egress.verdict: found \"allow\""),
        ("{\"egress\": {\"tier\": 1}}", "expect.egress.tier: found 1"),
        ("{\"forward\": {}}", "expect.forward: found {}"),
        ("1", "expect: found 1"),
        ("\"pass\"", "expect: found \"pass\""),
    ] {
        let run = told(expect);
        assert_eq!(run.code, Some(1), "{expect}");
        assert!(run.err.starts_with(&format!("vrctl: cases:1: {error}")), "{expect}: {}", run.err);
    }
    for expect in [
        "true",
        "\"ALLOW\"",
        "{\"allowed\": true}",
        "{\"ingress\": {\"verdict\": \"Allow\", \"tier\": \"default\", \"policy\": \"x/knp.default.web\"}}",
        "{\"egress\": {\"tier\": null, \"policy\": \"kns.x\", \"rule\": \"profile kns.x egress[0]\"}}",
        "{\"forward\": []}",
    ] {
        let run = told(expect);
        assert_eq!((run.code, run.out.as_str()), (Some(0), "1 cases, 0 wrong\n"), "{expect}: {}", run.err);
    }
    for expect in ["\"Deny\"", "{\"ingress\": {\"tier\": null}}", "{\"forward\": [{\"tier\": \"default\"}]}"]
    {
        let run = told(expect);
        assert_eq!(
            (run.code, run.out.ends_with("1 cases, 1 wrong\n")),
            (Some(1), true),
            "{expect}: {}",
            run.err
        );
    }
    fs::write(server.directory.join("cases"), "\n").expect("the directory is ours");
    let run = vrctl(&server, "policy test cases --resources resources");
    assert_eq!((run.code, run.err.as_str()), (Some(1), "vrctl: cases: there is no case\n"));
}
