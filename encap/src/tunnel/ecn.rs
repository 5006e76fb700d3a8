//! ECN through tunnels (RFC 6040, normal mode).
//!
//! ```text
//!   encapsulate                    decapsulate: inner \ outer   Not-ECT   ECT(0)   ECT(1)   CE
//!   inner -> outer, unchanged                   Not-ECT         Not-ECT   Not-ECT  Not-ECT  drop
//!   (§4.1)                                      ECT(0)          ECT(0)    ECT(0)   ECT(1)   CE
//!                                               ECT(1)          ECT(1)    ECT(1)   ECT(1)   CE
//!                                  (§4.2)       CE              CE        CE       CE       CE
//! ```

use core::fmt;

use crate::wire::Ecn;

/// The packet must be dropped: congestion was met, but its transport would not understand the mark (RFC 6040 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DropEct;

impl fmt::Display for DropEct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("congestion experienced around a packet whose transport does not use ECN")
    }
}

impl core::error::Error for DropEct {}

/// The outer ECN field for an inner packet with this TOS or traffic class byte.
#[inline]
pub const fn encapsulate(inner_tos: u8) -> Ecn {
    Ecn::from_tos(inner_tos)
}

/// The inner packet's new ECN field.
///
/// # Errors
/// [`DropEct`] for CE around Not-ECT.
#[inline]
pub const fn decapsulate(outer: Ecn, inner: Ecn) -> Result<Ecn, DropEct> {
    match (inner, outer) {
        (Ecn::NotEct, Ecn::Ce) => Err(DropEct),
        (Ecn::NotEct, _) => Ok(Ecn::NotEct),
        (Ecn::Ect0 | Ecn::Ect1, Ecn::Ce) => Ok(Ecn::Ce),
        (Ecn::Ect0, Ecn::Ect1) => Ok(Ecn::Ect1),
        (inner, _) => Ok(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ecn::{Ce, Ect0, Ect1, NotEct};

    #[test]
    fn rfc6040_4_1_normal_mode_copies_the_inner_field() {
        for tos in 0..=255 {
            assert_eq!(encapsulate(tos), Ecn::from_tos(tos));
        }
    }

    #[test]
    fn rfc6040_4_2_figure_4() {
        let outer = [NotEct, Ect0, Ect1, Ce];
        let table = [
            (NotEct, [Ok(NotEct), Ok(NotEct), Ok(NotEct), Err(DropEct)]),
            (Ect0, [Ok(Ect0), Ok(Ect0), Ok(Ect1), Ok(Ce)]),
            (Ect1, [Ok(Ect1), Ok(Ect1), Ok(Ect1), Ok(Ce)]),
            (Ce, [Ok(Ce), Ok(Ce), Ok(Ce), Ok(Ce)]),
        ];
        for (inner, row) in table {
            for (outer, expected) in outer.into_iter().zip(row) {
                assert_eq!(decapsulate(outer, inner), expected, "outer {outer:?}, inner {inner:?}");
            }
        }
    }
}
