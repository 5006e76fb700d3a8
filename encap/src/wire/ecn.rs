//! The ECN field: the low two bits of the IPv4 TOS byte and of the IPv6 traffic class (RFC 3168 §5).
//!
//! ```text
//!    0   1   2   3   4   5   6   7
//!  +---+---+---+---+---+---+---+---+     00 Not-ECT   the transport does not use ECN
//!  |         DSCP          |  ECN  |     01 ECT(1)    10 ECT(0)   it does
//!  +---+---+---+---+---+---+---+---+     11 CE        congestion was met on the way
//! ```

/// An ECN codepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// The transport does not use ECN.
    NotEct = 0b00,
    /// ECN-capable, codepoint 1 (L4S, RFC 9331).
    Ect1 = 0b01,
    /// ECN-capable, codepoint 0.
    Ect0 = 0b10,
    /// Congestion experienced.
    Ce = 0b11,
}

impl Ecn {
    /// The mask of the ECN bits in a TOS or traffic class byte.
    pub const MASK: u8 = 0b11;

    /// The ECN field of a TOS or traffic class byte.
    #[inline]
    pub const fn from_tos(tos: u8) -> Ecn {
        match tos & Ecn::MASK {
            0b00 => Ecn::NotEct,
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            _ => Ecn::Ce,
        }
    }

    /// The two bits.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// `tos` with its ECN field replaced by this one and its DSCP kept.
    #[inline]
    pub const fn in_tos(self, tos: u8) -> u8 {
        tos & !Ecn::MASK | self.bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tos_byte_splits_and_joins_without_loss() {
        for tos in 0..=255u8 {
            assert_eq!(Ecn::from_tos(tos).in_tos(tos), tos);
            assert_eq!(Ecn::from_tos(tos).bits(), tos & 3);
            assert_eq!(Ecn::Ce.in_tos(tos), tos | 3);
        }
    }
}
