//! Reads a script from fuzz input: fixed-size fields until the bytes run out.

/// A cursor over the input.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    /// The next byte, if one is left.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A length of two bytes, little endian, at most `limit`, and as many bytes as there are of it.
    pub fn bytes(&mut self, limit: usize) -> Option<&'a [u8]> {
        let len = usize::from(u16::from_le_bytes([self.byte()?, self.byte()?])).min(limit).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(taken)
    }
}
