//! Frames that no honest station sends, from public captures: extension headers and
//! fragments made to evade, overlaps, truncations, nested tunnels, split handshakes.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use pcap_file::pcap::PcapReader;

/// Every frame of the captures, from the Ethernet header on, in order.
///
/// Read from `tests/data/odd-frames.pcap.gz` of the source tree.
///
/// # Panics
/// Where the file is missing or damaged: a test without its data has failed.
pub fn odd_frames() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/odd-frames.pcap.gz");
    let packed = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("the captures are packed by gzip");
    let mut reader = PcapReader::new(&bytes[..]).expect("the captures are a pcap file");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        frames.push(packet.expect("a whole record").data.into_owned());
    }
    frames
}
