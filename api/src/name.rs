//! Syntax of names and labels, as Kubernetes and Calico have it (RFC 1123 section 2.1 for host names).

use thiserror::Error;

/// Why a name or label was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than the kind of name allows.
    #[error("has {found} characters, at most {most} are allowed")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        most: usize,
    },
    /// A character outside the allowed set.
    #[error("holds {0:?}, which is not allowed here")]
    Character(char),
    /// A part does not begin and end with a letter or digit.
    #[error("must begin and end with a letter or digit, and so must each part between dots")]
    Edge,
}

fn check_part(part: &str, most: usize, allowed: impl Fn(char) -> bool) -> Result<(), NameError> {
    if part.is_empty() {
        return Err(NameError::Empty);
    }
    if part.len() > most {
        return Err(NameError::TooLong { found: part.len(), most });
    }
    if let Some(c) = part.chars().find(|c| !allowed(*c)) {
        return Err(NameError::Character(c));
    }
    let edge_ok = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if edge_ok(part.chars().next()) && edge_ok(part.chars().last()) { Ok(()) } else { Err(NameError::Edge) }
}

fn lower(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// An RFC 1123 label: 1 to 63 of `a-z 0-9 -`, letter or digit at both ends. Namespaces are of this form.
pub fn check_dns_label(name: &str) -> Result<(), NameError> {
    check_part(name, 63, lower)
}

/// An RFC 1123 subdomain: labels joined by dots, at most 253 characters. Names of resources, pods and
/// nodes are of this form.
pub fn check_dns_name(name: &str) -> Result<(), NameError> {
    check_part(name, 253, |c| lower(c) || c == '.')?;
    name.split('.').try_for_each(|part| {
        if part.is_empty() { Err(NameError::Edge) } else { check_part(part, 253, lower) }
    })
}

/// A label's key: an optional DNS name and `/`, then 1 to 63 of `A-Z a-z 0-9 - _ .`.
pub fn check_label_key(key: &str) -> Result<(), NameError> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            check_dns_name(prefix)?;
            name
        }
        None => key,
    };
    check_part(name, 63, label_character)
}

/// A label's value: empty, or 1 to 63 of `A-Z a-z 0-9 - _ .` with a letter or digit at both ends.
pub fn check_label_value(value: &str) -> Result<(), NameError> {
    if value.is_empty() {
        return Ok(());
    }
    check_part(value, 63, label_character)
}

fn label_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        for good in ["a", "node1", "a.b-c.d", "10-0-0-0-8"] {
            assert_eq!(check_dns_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_dns_name(""), Err(NameError::Empty));
        assert_eq!(check_dns_name("A"), Err(NameError::Character('A')));
        assert_eq!(check_dns_name("-a"), Err(NameError::Edge));
        assert_eq!(check_dns_name("a..b"), Err(NameError::Edge));
        assert_eq!(check_dns_name("a.-b"), Err(NameError::Edge));
        assert_eq!(check_dns_label("a.b"), Err(NameError::Character('.')));
        assert_eq!(check_dns_label(&"a".repeat(64)), Err(NameError::TooLong { found: 64, most: 63 }));
    }

    #[test]
    fn labels() {
        for good in ["app", "projectcalico.org/namespace", "A_b.c-1"] {
            assert_eq!(check_label_key(good), Ok(()), "{good}");
        }
        assert_eq!(check_label_key("a/b/c"), Err(NameError::Character('/')));
        assert_eq!(check_label_key("/x"), Err(NameError::Empty));
        assert_eq!(check_label_value(""), Ok(()));
        assert_eq!(check_label_value("v1.0_x"), Ok(()));
        assert_eq!(check_label_value("a b"), Err(NameError::Character(' ')));
        assert_eq!(check_label_value("-a"), Err(NameError::Edge));
    }
}
