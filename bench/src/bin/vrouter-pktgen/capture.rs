//! Capture files as ports: packets are written to one, or read from one, with their times.
//!
//! Written files have nanoseconds of the monotonic clock, as the stamps have, so that latencies can
//! be computed from a file; a reader of such files shows dates of 1970. Files by others have other
//! clocks: of theirs, only the packets count, and there is no latency.

use core::time::Duration;
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, TsResolution};

/// A file that packets are read from.
pub(crate) struct Reader {
    packets: PcapReader<BufReader<File>>,
    ended: bool,
    /// Why reading ended before the file did.
    pub(crate) failure: Option<String>,
}

impl Reader {
    /// Opens a file of Ethernet frames.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let file = File::open(path).map_err(|error| format!("{place}: {error}"))?;
        let packets = PcapReader::new(BufReader::new(file)).map_err(|error| format!("{place}: {error}"))?;
        match packets.header().datalink {
            DataLink::ETHERNET => Ok(Reader { packets, ended: false, failure: None }),
            other => Err(format!("{place}: frames of kind {other:?}; Ethernet is expected")),
        }
    }

    /// Calls `take` with up to `most` packets and their times in nanoseconds; returns how many.
    pub(crate) fn receive(&mut self, most: usize, mut take: impl FnMut(&[u8], u64)) -> usize {
        for received in 0..most {
            match self.packets.next_packet() {
                Some(Ok(packet)) => take(&packet.data, packet.timestamp.as_nanos() as u64),
                Some(Err(error)) => {
                    self.ended = true;
                    self.failure = Some(error.to_string());
                    return received;
                }
                None => {
                    self.ended = true;
                    return received;
                }
            }
        }
        most
    }

    /// Whether there is nothing left.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}

/// A file that packets are written to.
pub(crate) struct Writer {
    packets: PcapWriter<BufWriter<File>>,
    buffer: Vec<u8>,
    /// Why packets could not be written.
    pub(crate) failure: Option<String>,
}

impl Writer {
    /// Makes a file, in place of one that may be there.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn create(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let file = File::create(path).map_err(|error| format!("{place}: {error}"))?;
        let header = PcapHeader {
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            ..PcapHeader::default()
        };
        let packets = PcapWriter::with_header(BufWriter::new(file), header);
        let packets = packets.map_err(|error| format!("{place}: {error}"))?;
        Ok(Writer { packets, buffer: vec![0; 2048], failure: None })
    }

    /// Writes `count` packets of time `at`; returns how many, with their bytes.
    pub(crate) fn send(
        &mut self,
        count: usize,
        at: u64,
        mut write: impl FnMut(&mut [u8]) -> (usize, u64),
    ) -> (u64, u64) {
        let (mut packets, mut bytes) = (0, 0);
        for _ in 0..count {
            let (len, _) = write(&mut self.buffer);
            let packet = PcapPacket::new(Duration::from_nanos(at), len as u32, &self.buffer[..len]);
            if let Err(error) = self.packets.write_packet(&packet) {
                self.failure = Some(error.to_string());
                break;
            }
            packets += 1;
            bytes += len as u64;
        }
        (packets, bytes)
    }

    /// Writes what is not written yet.
    ///
    /// # Errors
    /// Why packets could not be written, now or before.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.failure {
            Some(why) => Err(why),
            None => self.packets.into_writer().flush().map_err(|error| error.to_string()),
        }
    }
}
