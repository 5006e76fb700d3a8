//! TCP headers (RFC 9293 §3.1).
//!
//! ```text
//!    0               4       8               16                              32
//!   +---------------------------------------+--------------------------------+
//!   |              source port              |        destination port        |   0
//!   |                            sequence number                             |   4
//!   |                         acknowledgment number                          |   8
//!   +---------------+-------+---------------+--------------------------------+
//!   |  data offset  |  rsv  |     flags     |             window             |  12
//!   +---------------+-------+---------------+--------------------------------+
//!   |               checksum                |         urgent pointer         |  16
//!   |                     options, padded to 32 bits ..                      |  20
//! ```

use super::field::{get16, get32, put16, put32};
use crate::ParseError;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Where the checksum lies in the header.
pub const CHECKSUM_OFFSET: usize = field::CHECKSUM;

/// The flags byte.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Hand the data up at once.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

mod field {
    pub(super) const SRC_PORT: usize = 0;
    pub(super) const DST_PORT: usize = 2;
    pub(super) const SEQ: usize = 4;
    pub(super) const ACK: usize = 8;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const CHECKSUM: usize = 16;
}

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Tcp<T> {
    /// A view of `buffer`, the payload of an IP packet.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] when the header does not fit, [`ParseError::BadLength`] for a data offset below 5.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let len = buffer.as_ref().len();
        if len < MIN_HEADER_LEN {
            return Err(ParseError::Truncated);
        }
        let view = Tcp { buffer };
        match view.header_len() {
            header if header < MIN_HEADER_LEN => Err(ParseError::BadLength),
            header if header > len => Err(ParseError::Truncated),
            _ => Ok(view),
        }
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

    /// The sequence number of the first data byte, or of the SYN.
    #[inline]
    pub fn seq(&self) -> u32 {
        get32(self.buffer.as_ref(), field::SEQ)
    }

    /// The next sequence number expected, when [`flags::ACK`] is set.
    #[inline]
    pub fn ack(&self) -> u32 {
        get32(self.buffer.as_ref(), field::ACK)
    }

    /// Bytes of the header with its options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.buffer.as_ref()[field::DATA_OFFSET] >> 4) * 4
    }

    /// The flags, of [`flags`].
    #[inline]
    pub fn flags(&self) -> u8 {
        self.buffer.as_ref()[field::FLAGS]
    }

    /// The window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        get16(self.buffer.as_ref(), field::WINDOW)
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.buffer.as_ref(), field::CHECKSUM)
    }

    /// The options, 0 to 40 bytes.
    #[inline]
    pub fn options(&self) -> &[u8] {
        self.buffer.as_ref().get(MIN_HEADER_LEN..self.header_len()).unwrap_or(&[])
    }

    /// The data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        self.buffer.as_ref().get(self.header_len()..).unwrap_or(&[])
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Tcp<T> {
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

    /// Sets the sequence number.
    #[inline]
    pub fn set_seq(&mut self, seq: u32) {
        put32(self.buffer.as_mut(), field::SEQ, seq);
    }

    /// Sets the flags, of [`flags`].
    #[inline]
    pub fn set_flags(&mut self, flags: u8) {
        self.buffer.as_mut()[field::FLAGS] = flags;
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
        let mut bytes: Vec<u8> = (0..26).collect();
        bytes[12] = 0x60;
        bytes[13] = flags::SYN | flags::ACK;
        let mut tcp = Tcp::new_checked(&mut bytes[..]).unwrap();
        tcp.set_src_port(443);
        tcp.set_dst_port(50000);
        tcp.set_checksum(0xbeef);
        tcp.set_seq(0x0405_0607);
        tcp.set_flags(flags::SYN | flags::ACK);
        assert_eq!((tcp.src_port(), tcp.dst_port(), tcp.checksum()), (443, 50000, 0xbeef));
        assert_eq!((tcp.seq(), tcp.ack()), (0x0405_0607, 0x0809_0a0b));
        assert_eq!((tcp.flags(), tcp.window()), (0x12, 0x0e0f));
        assert_eq!(
            (tcp.header_len(), tcp.options(), tcp.payload()),
            (24, &[20, 21, 22, 23][..], &[24, 25][..])
        );
        assert_eq!(Tcp::new_checked(&bytes[..19]).unwrap_err(), ParseError::Truncated);
        assert_eq!(Tcp::new_checked(&bytes[..23]).unwrap_err(), ParseError::Truncated);
        bytes[12] = 0x40;
        assert_eq!(Tcp::new_checked(&bytes).unwrap_err(), ParseError::BadLength);
    }
}
