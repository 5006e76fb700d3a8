//! The API's messages, client and server, generated from `proto/vrouter.proto`.
//!
//! ```text
//!  vrctl, CNI plugin -- v1::router_client::RouterClient --> Unix socket
//!                                                             |
//!                     v1::router_server::RouterServer <-------+   (the service is a trait to implement)
//! ```
//!
//! Every message serialises: field names in snake case, values of enumerations as words, bytes in hex,
//! absent messages left out.

use serde::Serializer;

/// Generated messages and services of package `vrouter.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("vrouter.v1");
}

/// The words of an enumeration of the API, as in JSON and tables.
pub trait Word {
    /// The word of a value by its number; `unknown` for zero and for numbers of a later version.
    fn word_of(number: i32) -> &'static str;
}

include!(concat!(env!("OUT_DIR"), "/words.rs"));

/// Serialises the number of an enumeration's value as its word.
pub(crate) fn as_word<W: Word, S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(W::word_of(*number))
}

/// Serialises bytes as hexadecimal digits.
pub(crate) fn as_hex<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(bytes))
}

/// Two hexadecimal digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            out.extend(char::from_digit(u32::from(digit), 16));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_words_hex_and_no_nulls() {
        let port = v1::Port { kind: v1::PortKind::AfXdp.into(), role: 99, ..v1::Port::default() };
        let json = serde_json::to_value(&port).expect("messages have string keys");
        assert_eq!(json["kind"], "af_xdp");
        assert_eq!(json["role"], "unknown");
        assert_eq!(json.get("kernel"), None);
        assert_eq!(json["rx_packets"], 0);
        let record = v1::TraceRecord { head: vec![0, 0x1f, 0xee], ..v1::TraceRecord::default() };
        let json = serde_json::to_value(&record).expect("messages have string keys");
        assert_eq!(json["head"], "001fee");
        assert_eq!(json["verdict"], "unknown");
    }
}
