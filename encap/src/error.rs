//! Why bytes were refused.

use core::fmt;

/// The reason a parser refused some bytes: small enough to be counted per packet.
///
/// ```text
///   Truncated     fewer bytes than the header, or than its own length field, asks for
///   BadVersion    the IP version field is not the one expected here
///   BadLength     a length field contradicts itself (shorter than its header, or not representable)
///   BadChecksum   the checksum does not cover these bytes
///   Malformed     a field holds a value its specification forbids
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParseError {
    /// Fewer bytes than the header, or than its own length field, asks for.
    Truncated,
    /// The IP version field is not the one expected here.
    BadVersion,
    /// A length field contradicts itself: shorter than its own header, or not representable.
    BadLength,
    /// The checksum does not cover these bytes.
    BadChecksum,
    /// A field holds a value that its specification forbids here.
    Malformed,
}

impl ParseError {
    /// The reason in a few words.
    pub const fn as_str(self) -> &'static str {
        match self {
            ParseError::Truncated => "truncated",
            ParseError::BadVersion => "bad IP version",
            ParseError::BadLength => "bad length",
            ParseError::BadChecksum => "bad checksum",
            ParseError::Malformed => "malformed",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::error::Error for ParseError {}
