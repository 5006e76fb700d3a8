//! Changes against a world made anew: after each of many random ones, every answer is the same.

use std::collections::BTreeMap;

use api::Resource;

use super::super::{PolicyWorld, Query, Questions};

/// A small generator of numbers (xorshift64*), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const PODS: usize = 8;
const SELECTORS: [&str; 9] = [
    "all()",
    "app == 'a'",
    "app in {'a', 'b'}",
    "app == 'a' && role == 'x'",
    "app != 'c'",
    "has(role)",
    "role == 'x' || app == 'c'",
    "!(app == 'b')",
    "kind == 'set'",
];

fn resource(text: &str) -> Resource {
    let object = api::read(text).pop().expect("a text has an object");
    object.outcome.unwrap_or_else(|problems| panic!("{problems:?}: {text}"))
}

fn namespace(at: usize) -> &'static str {
    ["red", "blue"][at % 2]
}

fn pod(dice: &mut Dice, at: usize) -> Resource {
    let role = dice.of(&["", ", role: x", ", role: y"]);
    resource(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p{at}, namespace: {}, labels: {{app: {}{role}}}}},\n \
         spec: {{nodeName: n}}, status: {{podIP: 10.0.0.{}}}}}",
        namespace(at),
        dice.of(&["a", "b", "c"]),
        at + 1
    ))
}

fn set(dice: &mut Dice, at: usize) -> Resource {
    resource(&format!(
        "{{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet,\n metadata: {{name: s{at}, labels: {{kind: \
         {}, app: {}}}}}, spec: {{nets: [10.0.0.{}/31]}}}}",
        dice.of(&["set", "other"]),
        dice.of(&["a", "b"]),
        dice.below(4) * 2
    ))
}

fn policy(dice: &mut Dice, at: usize) -> Resource {
    let (kind, place) = match dice.below(2) {
        0 => ("GlobalNetworkPolicy", String::new()),
        _ => ("NetworkPolicy", format!(", namespace: {}", namespace(at))),
    };
    let rule = |dice: &mut Dice, side: &str| {
        let (action, selector) = (dice.of(&["Allow", "Allow", "Deny", "Pass"]), dice.of(&SELECTORS));
        format!(
            "{{action: {action}, protocol: TCP, {side}: {{selector: \"{selector}\"}}}}, {{action: {}}}",
            dice.of(&["Allow", "Deny"])
        )
    };
    resource(&format!(
        "{{apiVersion: projectcalico.org/v3, kind: {kind}, metadata: {{name: q{at}{place}}},\n spec: {{selector: \
         \"{}\", order: {}, types: [Ingress, Egress], ingress: [{}], egress: [{}]}}}}",
        dice.of(&SELECTORS),
        dice.below(3),
        rule(dice, "source"),
        rule(dice, "destination"),
    ))
}

fn settled(world: &mut PolicyWorld) {
    world.publish();
    world.settle();
}

#[test]
fn a_changed_world_is_the_same_as_a_new_one() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut world = PolicyWorld::new();
    let mut current: BTreeMap<String, Resource> = BTreeMap::new();
    let (mut asked, mut allowed) = (0, 0);
    for step in 0..400 {
        for _ in 0..1 + dice.below(3) {
            let at = dice.below(PODS);
            let (name, new) = match dice.below(5) {
                0 | 1 => (format!("pod {at}"), pod(&mut dice, at)),
                2 => (format!("set {}", at % 3), set(&mut dice, at % 3)),
                _ => (format!("policy {at}"), policy(&mut dice, at)),
            };
            // A policy of another kind is another resource.
            let old = current.remove(&name);
            let same = old.as_ref().is_some_and(|old| old.kind() == new.kind());
            if let Some(old) = old.filter(|_| !same || dice.below(3) == 0) {
                world.remove(&old);
            }
            if dice.below(5) > 0 || same {
                world.apply(&new);
                current.insert(name, new);
            }
        }
        settled(&mut world);
        let mut fresh = PolicyWorld::new();
        current.values().for_each(|resource| fresh.apply(resource));
        settled(&mut fresh);
        let (one, other) = (Questions::new(&world), Questions::new(&fresh));
        for pair in 0..PODS * PODS {
            let address = |at: usize| format!("10.0.0.{}", at + 1);
            let (from, to) = (address(pair / PODS), address(pair % PODS));
            let protocol = if dice.below(3) == 0 { 17 } else { 6 };
            let transport = Some((1000, 80));
            let query = Query { from, to, protocol, transport, entering: None, leaving: None };
            let answer = one.ask(&query).expect("addresses are known");
            assert_eq!(other.ask(&query).expect("addresses are known"), answer, "step {step}: {query:?}");
            asked += 1;
            allowed += usize::from(answer.allowed);
        }
    }
    assert!(allowed > asked / 20 && allowed < asked * 19 / 20, "{allowed} of {asked}");
}
