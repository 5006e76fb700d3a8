//! The tokens of a selector.

use super::SelectorError;

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Token<'a> {
    /// A label's key.
    Label(&'a str),
    /// A string, without its quotes.
    String(&'a str),
    /// `{`
    LeftBrace,
    /// `}`
    RightBrace,
    /// `,`
    Comma,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `!`
    Not,
    /// `contains`
    Contains,
    /// `starts with`
    StartsWith,
    /// `ends with`
    EndsWith,
    /// `all()`
    All,
    /// `global()`
    Global,
    /// `has(LABEL)`
    Has(&'a str),
    /// `(`
    LeftParen,
    /// `)`
    RightParen,
    /// `&&`
    And,
    /// `||`
    Or,
    /// The end of the text; always the last token.
    End,
}

const LONGEST_LABEL: usize = 512;

fn skip_space(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Splits a selector into its tokens.
pub fn tokenize(text: &str) -> Result<Vec<Token<'_>>, SelectorError> {
    let mut tokens = Vec::new();
    let mut rest = skip_space(text);
    while let Some(first) = rest.chars().next() {
        let (token, length) = match (first, tokens.last()) {
            ('(', _) => (Token::LeftParen, 1),
            (')', _) => (Token::RightParen, 1),
            ('{', _) => (Token::LeftBrace, 1),
            ('}', _) => (Token::RightBrace, 1),
            (',', _) => (Token::Comma, 1),
            ('"' | '\'', _) => {
                let length = rest[1..].find(first).ok_or(SelectorError::OpenString)?;
                (Token::String(&rest[1..=length]), length + 2)
            }
            ('!', _) if rest.starts_with("!=") => (Token::NotEqual, 2),
            ('!', _) => (Token::Not, 1),
            ('=', _) => (Token::Equal, double(rest, "==")?),
            ('&', _) => (Token::And, double(rest, "&&")?),
            ('|', _) => (Token::Or, double(rest, "||")?),
            (_, Some(Token::Label(label))) => operator(rest, label)?,
            _ => operand(rest, first)?,
        };
        tokens.push(token);
        rest = skip_space(&rest[length..]);
    }
    tokens.push(Token::End);
    Ok(tokens)
}

fn double(rest: &str, whole: &'static str) -> Result<usize, SelectorError> {
    if rest.starts_with(whole) { Ok(whole.len()) } else { Err(SelectorError::HalfOperator(whole)) }
}

/// The word behind a label; words are never labels there, so `contains contains "x"` is a test.
fn operator<'a>(rest: &'a str, label: &str) -> Result<(Token<'a>, usize), SelectorError> {
    let two = |first: &str, second: &str| {
        let tail = skip_space(rest.strip_prefix(first)?).strip_prefix(second)?;
        Some(rest.len() - tail.len())
    };
    let found = [
        (two("contains", ""), Token::Contains),
        (two("starts", "with"), Token::StartsWith),
        (two("ends", "with"), Token::EndsWith),
        (two("not", "in"), Token::NotIn),
        (two("in", ""), Token::In),
    ];
    found
        .into_iter()
        .find_map(|(length, token)| length.map(|length| (token, length)))
        .ok_or_else(|| SelectorError::NoOperator(label.to_owned()))
}

/// A call such as `has(LABEL)`, or a label.
fn operand(rest: &str, first: char) -> Result<(Token<'_>, usize), SelectorError> {
    let close = |tail: &str| -> Result<usize, SelectorError> {
        let tail = skip_space(tail);
        let after = tail.strip_prefix(')').ok_or_else(|| SelectorError::Unexpected {
            expected: "\")\"",
            found: tail.chars().next().map_or("the end".to_owned(), |c| format!("{c:?}")),
        })?;
        Ok(rest.len() - after.len())
    };
    if let Some(tail) = rest.strip_prefix("has(") {
        let tail = skip_space(tail);
        let key = label_at(tail)?;
        if key.is_empty() {
            return Err(SelectorError::Unexpected { expected: "a label", found: "\"has(\"".to_owned() });
        }
        return Ok((Token::Has(key), close(&tail[key.len()..])?));
    }
    if let Some(tail) = rest.strip_prefix("all(") {
        return Ok((Token::All, close(tail)?));
    }
    if let Some(tail) = rest.strip_prefix("global(") {
        return Ok((Token::Global, close(tail)?));
    }
    let label = label_at(rest)?;
    if label.is_empty() {
        Err(SelectorError::Character(first))
    } else {
        Ok((Token::Label(label), label.len()))
    }
}

fn label_at(text: &str) -> Result<&str, SelectorError> {
    let in_label = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let length = text.find(|c| !in_label(c)).unwrap_or(text.len());
    if length > LONGEST_LABEL { Err(SelectorError::LongLabel(length)) } else { Ok(&text[..length]) }
}
