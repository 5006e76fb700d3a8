//! Frames by hand, header by header.

use std::net::IpAddr;

pub(super) fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 0xa, 2, 0, 0, 0, 0, 0xb];
    frame.extend(kind.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 or IPv6 packet; `options` go behind the fixed header of IPv4.
pub(super) fn packet(src: &str, dst: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    match (src.parse().unwrap(), dst.parse().unwrap()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = 20 + options.len();
            let mut bytes = vec![0x40 | (len / 4) as u8, 0];
            bytes.extend(((len + payload.len()) as u16).to_be_bytes());
            bytes.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(options);
            bytes.extend(payload);
            bytes
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            assert!(options.is_empty());
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((payload.len() as u16).to_be_bytes());
            bytes.extend([protocol, 64]);
            bytes.extend(src.octets());
            bytes.extend(dst.octets());
            bytes.extend(payload);
            bytes
        }
        _ => panic!("addresses of one version"),
    }
}

pub(super) fn frame_with(src: &str, dst: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let kind = if src.contains(':') { 0x86dd } else { 0x0800 };
    ethernet(kind, &packet(src, dst, protocol, options, payload))
}

pub(super) fn frame(src: &str, dst: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(src, dst, protocol, &[], payload)
}

/// With the fragment field of IPv4: offset in units of 8 bytes, more fragments.
pub(super) fn fragment4(mut frame: Vec<u8>, offset: u16, more: bool) -> Vec<u8> {
    let field = offset | if more { 0x2000 } else { 0 };
    frame[20..22].copy_from_slice(&field.to_be_bytes());
    frame
}

/// An IPv6 fragment header in front of `payload`.
pub(super) fn fragment6(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![next, 0];
    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
    bytes.extend([0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// Any other IPv6 extension header of `units` times 8 bytes in front of `payload`.
pub(super) fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(units) * 8];
    bytes[0] = next;
    bytes[1] = units - 1;
    bytes.extend(payload);
    bytes
}

pub(super) fn udp(port: u16) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 16, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

pub(super) fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(quoted);
    bytes
}
