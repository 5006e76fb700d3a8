//! The packets scapy made: `generate.py` prints them, `vectors.txt` keeps them.

/// One packet a line, in hex behind its name.
pub(crate) const VECTORS: &str = include_str!("vectors.txt");

fn unhex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Every vector by name; `None` stands for "drop".
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Option<Vec<u8>>)> {
    VECTORS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, text)| (name, (text != "drop").then(|| unhex(text))))
}

/// The packet of that name.
#[allow(dead_code, reason = "not every test asks by name")]
pub(crate) fn vector(name: &str) -> Vec<u8> {
    all()
        .find(|(other, _)| *other == name)
        .and_then(|(_, bytes)| bytes)
        .unwrap_or_else(|| panic!("no vector named {name}"))
}
