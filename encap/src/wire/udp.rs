//! UDP headers (RFC 768).
//!
//! ```text
//!    0               16               32
//!   +----------------+----------------+
//!   |  source port   |  dest. port    |
//!   |    length      |   checksum     |     length covers header and data; checksum 0: none (IPv4 only)
//!   +----------------+----------------+
//! ```

use super::field::{get16, put16};
use crate::ParseError;

/// Bytes of a UDP header.
pub const HEADER_LEN: usize = 8;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = field::CHECKSUM;

mod field {
    pub(super) const SRC_PORT: usize = 0;
    pub(super) const DST_PORT: usize = 2;
    pub(super) const LEN: usize = 4;
    pub(super) const CHECKSUM: usize = 6;
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Udp<T> {
    /// A view of `buffer`, the payload of an IP packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when header or datagram do not fit, [`ParseError::BadLength`] for a length below 8.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let view = Self::new_quoted(buffer)?;
        match usize::from(view.len()) {
            len if len < HEADER_LEN => Err(ParseError::BadLength),
            len if len > view.buffer.as_ref().len() => Err(ParseError::Truncated),
            _ => Ok(view),
        }
    }

    /// A view of a header whose data may be cut short or whose length is not known yet (a quoted or GSO packet).
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 8 bytes.
    #[inline]
    pub fn new_quoted(buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        Ok(Udp { buffer })
    }

    /// The source port.
    #[inline]
    pub fn src_port(&self) -> u16 {
        get16(self.buffer.as_ref(), field::SRC_PORT)
    }

    /// The destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        get16(self.buffer.as_ref(), field::DST_PORT)
    }

    /// Bytes of header and data.
    #[expect(clippy::len_without_is_empty, reason = "a wire field: never below the header's 8")]
    #[inline]
    pub fn len(&self) -> u16 {
        get16(self.buffer.as_ref(), field::LEN)
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// The data: ends where the length says, or where the buffer does.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.buffer.as_ref();
        let end = usize::from(self.len()).min(bytes.len());
        bytes.get(HEADER_LEN..end).unwrap_or(&[])
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Udp<T> {
    /// Sets the source port.
    #[inline]
    pub fn set_src_port(&mut self, port: u16) {
        put16(self.buffer.as_mut(), field::SRC_PORT, port);
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_dst_port(&mut self, port: u16) {
        put16(self.buffer.as_mut(), field::DST_PORT, port);
    }

    /// Sets the length of header and data in bytes.
    #[inline]
    pub fn set_len(&mut self, len: u16) {
        put16(self.buffer.as_mut(), field::LEN, len);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put16(self.buffer.as_mut(), field::CHECKSUM, checksum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_read_back_and_lengths_are_checked() {
        let mut bytes = [0u8; 12];
        assert_eq!(Udp::new_checked(&bytes).unwrap_err(), ParseError::BadLength);
        let mut udp = Udp::new_quoted(&mut bytes[..]).unwrap();
        udp.set_src_port(53);
        udp.set_dst_port(40000);
        udp.set_len(10);
        udp.set_checksum(0xbeef);
        let udp = Udp::new_checked(&bytes).unwrap();
        assert_eq!((udp.src_port(), udp.dst_port()), (53, 40000));
        assert_eq!((udp.len(), udp.checksum(), udp.payload().len()), (10, 0xbeef, 2));
        assert_eq!(Udp::new_checked(&bytes[..9]).unwrap_err(), ParseError::Truncated);
        assert_eq!(Udp::new_quoted(&bytes[..9]).unwrap().payload().len(), 1);
        assert_eq!(Udp::new_quoted(&bytes[..7]).unwrap_err(), ParseError::Truncated);
    }
}
