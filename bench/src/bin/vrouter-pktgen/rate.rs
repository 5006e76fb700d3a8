//! Rates as they are given on the command line: `250000`, `250k`, `1.5M` packets a second, or
//! `800Mbps`, `2Gbps` with frames counted from the first byte to the FCS.

use core::str::FromStr;

/// How fast to send.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Rate {
    /// Packets a second.
    Packets(f64),
    /// Bits a second.
    Bits(f64),
}

impl Rate {
    /// Packets a second, of frames of this mean size in bytes.
    pub(crate) fn packets(self, frame_size: f64) -> f64 {
        match self {
            Rate::Packets(packets) => packets,
            Rate::Bits(bits) => bits / (8.0 * frame_size),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, bits) = match text.strip_suffix("bps").or_else(|| text.strip_suffix("bit/s")) {
            Some(number) => (number, true),
            None => (text.strip_suffix("pps").unwrap_or(text), false),
        };
        let factors = [('k', 1e3), ('K', 1e3), ('M', 1e6), ('G', 1e9)];
        let factor = factors.iter().find(|(unit, _)| number.ends_with(*unit));
        let (number, factor) =
            factor.map_or((number, 1.0), |(_, factor)| (&number[..number.len() - 1], *factor));
        match number.trim().parse::<f64>() {
            Ok(value) if value > 0.0 && value.is_finite() && bits => Ok(Rate::Bits(value * factor)),
            Ok(value) if value > 0.0 && value.is_finite() => Ok(Rate::Packets(value * factor)),
            _ => Err(format!("{text}: expected a rate above 0 such as 250k, 1.5M or 800Mbps")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_in_both_units() {
        for (text, expected) in [
            ("250000", Rate::Packets(250e3)),
            ("250k", Rate::Packets(250e3)),
            ("1.5Mpps", Rate::Packets(1.5e6)),
            ("800Mbps", Rate::Bits(8e8)),
            ("1Gbit/s", Rate::Bits(1e9)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["0", "-5", "fast", "", "nan", "inf", "k"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert_eq!(Rate::Bits(8e8).packets(100.0), 1e6);
    }
}
