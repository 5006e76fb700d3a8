//! VLAN tags (IEEE 802.1Q §9): what follows an ethertype of 0x8100 or 0x88a8.
//!
//! ```text
//!    0       3   4             16        32
//!   +-------+---+--------------+---------+------------
//!   |  PCP  |DEI|     VID      |  type   | payload ...
//!   +-------+---+--------------+---------+------------
//! ```

use super::field::{get16, put16};
use super::{EtherType, ethernet};
use crate::ParseError;

/// Bytes a tag adds to a frame.
pub const TAG_LEN: usize = 4;

mod field {
    pub(super) const TCI: usize = 0;
    pub(super) const TYPE: usize = 2;
}

/// One tag, seen from behind the ethertype that announced it.
#[derive(Clone, Copy, Debug)]
pub struct VlanTag<T> {
    buffer: T,
}

impl<T: AsRef<[u8]>> VlanTag<T> {
    /// A view of `buffer`, which starts with the tag control information.
    ///
    /// # Errors
    /// [`ParseError::Truncated`] below 4 bytes.
    #[inline]
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < TAG_LEN {
            return Err(ParseError::Truncated);
        }
        Ok(VlanTag { buffer })
    }

    /// The tag control information: PCP, DEI and VID together.
    #[inline]
    pub fn tci(&self) -> u16 {
        get16(self.buffer.as_ref(), field::TCI)
    }

    /// The VLAN, 0 to 4095; 0 means "no VLAN, priority only" and 4095 is reserved.
    #[inline]
    pub fn vid(&self) -> u16 {
        self.tci() & 0x0fff
    }

    /// The priority, 0 to 7.
    #[inline]
    pub fn priority(&self) -> u8 {
        (self.tci() >> 13) as u8
    }

    /// The frame may be dropped first.
    #[inline]
    pub fn drop_eligible(&self) -> bool {
        self.tci() & 0x1000 != 0
    }

    /// The type of what follows the tag.
    #[inline]
    pub fn ethertype(&self) -> EtherType {
        EtherType(get16(self.buffer.as_ref(), field::TYPE))
    }

    /// Everything after the tag.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer.as_ref()[TAG_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> VlanTag<T> {
    /// Sets the tag control information.
    #[inline]
    pub fn set_tci(&mut self, tci: u16) {
        put16(self.buffer.as_mut(), field::TCI, tci);
    }

    /// Sets the type of what follows.
    #[inline]
    pub fn set_ethertype(&mut self, ethertype: EtherType) {
        put16(self.buffer.as_mut(), field::TYPE, ethertype.0);
    }
}

/// The most tags [`strip`] looks behind: a service tag and a customer tag.
pub const MAX_TAGS: usize = 2;

/// The ethertype behind a frame's tags and the offset of what it announces; 14 and the plain type without tags.
///
/// # Errors
/// [`ParseError::Truncated`] when header or tags are cut short, [`ParseError::Malformed`] beyond [`MAX_TAGS`] tags.
#[inline]
pub fn strip(frame: &[u8]) -> Result<(EtherType, usize), ParseError> {
    let mut ethertype = ethernet::Ethernet::new_checked(frame)?.ethertype();
    let mut offset = ethernet::HEADER_LEN;
    for _ in 0..MAX_TAGS {
        if !matches!(ethertype, EtherType::VLAN | EtherType::QINQ) {
            return Ok((ethertype, offset));
        }
        let rest = frame.get(offset..).ok_or(ParseError::Truncated)?;
        ethertype = VlanTag::new_checked(rest)?.ethertype();
        offset += TAG_LEN;
    }
    match ethertype {
        EtherType::VLAN | EtherType::QINQ => Err(ParseError::Malformed),
        _ => Ok((ethertype, offset)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_share_the_tci() {
        let mut tag = VlanTag::new_checked([0u8; 5]).unwrap();
        tag.set_tci(0b1011_0000_0110_0100);
        tag.set_ethertype(EtherType::IPV4);
        assert_eq!((tag.priority(), tag.drop_eligible(), tag.vid()), (5, true, 100));
        assert_eq!(tag.ethertype(), EtherType::IPV4);
        assert_eq!(tag.payload().len(), 1);
        assert_eq!(VlanTag::new_checked([0u8; 3]).unwrap_err(), ParseError::Truncated);
    }

    #[test]
    fn strip_looks_behind_two_tags_and_refuses_three() {
        let mut frame = [0u8; 26];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        assert_eq!(strip(&frame), Ok((EtherType::IPV4, 14)));
        frame[12..14].copy_from_slice(&[0x81, 0x00]);
        frame[16..18].copy_from_slice(&[0x86, 0xdd]);
        assert_eq!(strip(&frame), Ok((EtherType::IPV6, 18)));
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);
        frame[16..18].copy_from_slice(&[0x81, 0x00]);
        frame[20..22].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(strip(&frame), Ok((EtherType::ARP, 22)));
        frame[20..22].copy_from_slice(&[0x81, 0x00]);
        assert_eq!(strip(&frame), Err(ParseError::Malformed));
        assert_eq!(strip(&frame[..17]), Err(ParseError::Truncated));
        assert_eq!(strip(&frame[..13]), Err(ParseError::Truncated));
    }
}
