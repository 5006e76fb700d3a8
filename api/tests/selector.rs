//! The selector language against Calico's own cases (`tests/data/ORIGIN.md`).

use std::collections::BTreeMap;

use api::Selector;
use api::selector::{Token, tokenize};
use serde_json::Value;

fn cases() -> Value {
    serde_json::from_str(include_str!("data/calico-selector.json")).expect("the file is JSON")
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list")
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().expect("labels");
    pairs.iter().map(|(key, value)| (key.clone(), value.as_str().expect("a value").to_owned())).collect()
}

#[test]
fn labels_that_match_and_labels_that_do_not() {
    let cases = cases();
    let cases = list(&cases, "match");
    assert_eq!(cases.len(), 58);
    for case in cases {
        let text = case["sel"].as_str().expect("a selector");
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let canonical: Selector = selector.to_string().parse().expect("canonical text is a selector");
        for (key, expected) in [("match", true), ("nomatch", false)] {
            for given in list(case, key) {
                assert_eq!(selector.matches(&labels(given)), expected, "{text} on {given}");
                assert_eq!(canonical.matches(&labels(given)), expected, "{canonical} on {given}");
            }
        }
    }
}

#[test]
fn texts_that_are_no_selector() {
    let cases = cases();
    let cases = list(&cases, "invalid");
    assert_eq!(cases.len(), 26);
    for case in cases {
        let text = case.as_str().expect("a text");
        assert!(text.parse::<Selector>().is_err(), "{text}");
    }
}

#[test]
fn canonical_forms_and_unique_ids() {
    let cases = cases();
    let cases = list(&cases, "canonical");
    assert_eq!(cases.len(), 17);
    for case in cases {
        let [input, canonical, uid] =
            ["input", "canonical", "uid"].map(|key| case[key].as_str().expect("a text"));
        let selector: Selector = input.parse().expect("a selector");
        assert_eq!(selector.to_string(), canonical);
        if !uid.is_empty() {
            assert_eq!(selector.unique_id(), uid);
        }
    }
}

/// A token by its name in the file, and its value.
fn named<'a>(token: &Token<'a>) -> (&'static str, Option<&'a str>) {
    match *token {
        Token::Label(key) => ("TokLabel", Some(key)),
        Token::String(text) => ("TokStringLiteral", Some(text)),
        Token::LeftBrace => ("TokLBrace", None),
        Token::RightBrace => ("TokRBrace", None),
        Token::Comma => ("TokComma", None),
        Token::Equal => ("TokEq", None),
        Token::NotEqual => ("TokNe", None),
        Token::In => ("TokIn", None),
        Token::NotIn => ("TokNotIn", None),
        Token::Not => ("TokNot", None),
        Token::Contains => ("TokContains", None),
        Token::StartsWith => ("TokStartsWith", None),
        Token::EndsWith => ("TokEndsWith", None),
        Token::All => ("TokAll", None),
        Token::Global => ("TokGlobal", None),
        Token::Has(key) => ("TokHas", Some(key)),
        Token::LeftParen => ("TokLParen", None),
        Token::RightParen => ("TokRParen", None),
        Token::And => ("TokAnd", None),
        Token::Or => ("TokOr", None),
        _ => ("TokEOF", None),
    }
}

#[test]
fn token_streams() {
    let cases = cases();
    let cases = list(&cases, "tokens");
    assert_eq!(cases.len(), 33);
    let longest = "a".repeat(512);
    for case in cases {
        // One case repeats a letter 512 times, which the file says in words.
        let input = match case["input"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("{longest} == \"value\""),
        };
        let expected: Vec<(&str, Option<&str>)> = list(case, "tokens")
            .iter()
            .map(|pair| {
                let value = if pair[1].is_object() { Some(longest.as_str()) } else { pair[1].as_str() };
                (pair[0].as_str().expect("a name"), value)
            })
            .collect();
        let tokens = tokenize(&input).unwrap_or_else(|error| panic!("{input}: {error}"));
        assert_eq!(tokens.iter().map(named).collect::<Vec<_>>(), expected, "{input}");
    }
}

#[test]
fn what_only_an_attacker_would_write() {
    assert!(format!("{} == 'x'", "a".repeat(513)).parse::<Selector>().is_err());
    assert!(format!("{}all(){}", "(".repeat(100_000), ")".repeat(100_000)).parse::<Selector>().is_err());
    let nots = format!("{}all()", "!".repeat(100_001)).parse::<Selector>().expect("a selector");
    assert_eq!(nots.to_string(), "!all()");
    for text in ["a == 'é", "é", "a é", "has(é)", "a in {'é'", "a starts é", "a == '\u{0}'é"] {
        assert!(text.parse::<Selector>().is_err(), "{text}");
    }
}

#[test]
fn lists_may_be_empty_or_end_in_a_comma() {
    let absent = BTreeMap::new();
    assert!(!"a in {}".parse::<Selector>().expect("a selector").matches(&absent));
    assert!("a not in {}".parse::<Selector>().expect("a selector").matches(&absent));
    assert_eq!("a in {'x',}".parse::<Selector>().expect("a selector").to_string(), "a in {\"x\"}");
}
