//! Selectors, and the labels that they are asked about.

use std::collections::BTreeMap;

use api::Selector;

/// Reads a selector and, behind a zero byte, labels as `key=value` lines.
///
/// The canonical form means the same, and but for double negations is canonical itself and has the same
/// name; a negated selector says the opposite, and a selector joined with itself the same.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (selector, labels) = text.split_once('\0').unwrap_or((text, ""));
    let labels: BTreeMap<String, String> = labels
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let Ok(selector) = selector.parse::<Selector>() else { return };
    let answer = selector.matches(&labels);
    let canonical = selector.to_string();
    let again: Selector = canonical.parse().unwrap_or_else(|error| panic!("{canonical:?}: {error}"));
    // Negations in a row cancel out where they are read, as in Calico; those that parentheses kept apart
    // are written in a row, as in Calico too, and cancel out when they are read again.
    if !canonical.contains("!!") {
        assert_eq!(again.to_string(), canonical);
        assert_eq!(again.unique_id(), selector.unique_id());
    }
    assert_eq!(again.matches(&labels), answer, "{canonical:?} {labels:?}");
    for (text, expected) in [
        (format!("!({canonical})"), !answer),
        (format!("({canonical}) && ({canonical})"), answer),
        (format!("({canonical}) || ({canonical})"), answer),
        (format!("({canonical}) && !({canonical})"), false),
    ] {
        // Selectors have a depth beyond which they are refused.
        if let Ok(joined) = text.parse::<Selector>() {
            assert_eq!(joined.matches(&labels), expected, "{text:?} {labels:?}");
        }
    }
}
