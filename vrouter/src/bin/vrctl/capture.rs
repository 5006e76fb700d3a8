//! `capture`: packets into a pcapng file, each with its verdict.
//!
//! ```text
//!  section header            once
//!  interface description     once a port, before its first packet: if_name, nanoseconds, Ethernet
//!  enhanced packet           epb_flags (in or out), epb_dropcount, and the comment
//!                            "verdict=forward out=eth1" or "verdict=drop reason=no_route"
//! ```
//!
//! Source: the pcapng draft (draft-ietf-opsawg-pcapng), sections 4.1 to 4.3 and 3.5.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::{DataLink, Endianness, PcapError};
use vrouter::rpc::Word;
use vrouter::rpc::v1::{CaptureRequest, CapturedPacket, Direction, VerdictKind};

use crate::cli::CaptureArguments;
use crate::connect::Client;
use crate::failure::Failure;
use crate::stream::{Event, follow};

pub(crate) async fn capture(client: &mut Client, arguments: CaptureArguments) -> Result<(), Failure> {
    let request = CaptureRequest {
        filter: Some(arguments.filter.into()),
        snaplen: arguments.snaplen,
        count: arguments.count,
    };
    let stream = client.capture(request).await?.into_inner();
    // The file is made only when the router has agreed.
    let out: Box<dyn Write> = match arguments.write.as_str() {
        "-" => Box::new(io::stdout()),
        file => Box::new(File::create(file).map_err(|error| format!("{file}: {error}"))?),
    };
    let mut file = CaptureFile::new(BufWriter::new(out), arguments.snaplen)?;
    follow(stream, arguments.timeout, |event| match event {
        Event::Item(packet) => file.write(&packet),
        Event::Pause => file.flush(),
    })
    .await?;
    file.flush()?;
    eprintln!(
        "vrctl: {} packets of {} ports{}",
        file.packets,
        file.interfaces.len(),
        match file.missed {
            0 => String::new(),
            missed => format!(", {missed} matching ones missed: the capture ring was full"),
        }
    );
    Ok(())
}

/// A pcapng file in the making.
struct CaptureFile<W: Write> {
    writer: PcapNgWriter<W>,
    snaplen: u32,
    /// Interface numbers by port.
    interfaces: BTreeMap<String, u32>,
    packets: u64,
    missed: u64,
}

impl<W: Write> CaptureFile<W> {
    fn new(out: W, snaplen: u32) -> Result<Self, Failure> {
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                "vrctl ",
                env!("CARGO_PKG_VERSION")
            )))],
            ..SectionHeaderBlock::default()
        };
        let writer = PcapNgWriter::with_section_header(out, section).map_err(failure)?;
        Ok(Self { writer, snaplen, interfaces: BTreeMap::new(), packets: 0, missed: 0 })
    }

    fn interface(&mut self, port: &str) -> Result<u32, Failure> {
        if let Some(number) = self.interfaces.get(port) {
            return Ok(*number);
        }
        let number = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: self.snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(port)),
                // Powers of ten: nanoseconds.
                InterfaceDescriptionOption::IfTsResol(9),
            ],
        };
        self.writer.write_pcapng_block(block).map_err(failure)?;
        self.interfaces.insert(port.to_owned(), number);
        Ok(number)
    }

    fn write(&mut self, packet: &CapturedPacket) -> Result<(), Failure> {
        let interface_id = self.interface(&packet.port)?;
        let mut options = vec![EnhancedPacketOption::Comment(Cow::Owned(comment(packet)))];
        match packet.direction() {
            Direction::Rx => options.push(EnhancedPacketOption::Flags(1)),
            Direction::Tx => options.push(EnhancedPacketOption::Flags(2)),
            Direction::Unspecified => {}
        }
        if packet.missed > 0 {
            options.push(EnhancedPacketOption::DropCount(packet.missed));
        }
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(packet.timestamp_ns),
            original_len: packet.original_len,
            data: Cow::Borrowed(&packet.data),
            options,
        };
        self.writer.write_pcapng_block(block).map_err(failure)?;
        self.packets += 1;
        self.missed += packet.missed;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.writer.get_mut().flush()?)
    }
}

/// `verdict=forward out=eth1,eth2` or `verdict=drop reason=ttl_exceeded`.
fn comment(packet: &CapturedPacket) -> String {
    let mut out = format!("verdict={}", VerdictKind::word_of(packet.verdict));
    if !packet.reason.is_empty() {
        out.push_str(" reason=");
        out.push_str(&packet.reason);
    }
    if !packet.out_ports.is_empty() {
        out.push_str(" out=");
        out.push_str(&packet.out_ports.join(","));
    }
    out
}

fn failure(error: PcapError) -> Failure {
    match error {
        PcapError::IoError(error) => Failure::from(error),
        other => Failure::Message(format!("the packet cannot be written: {other}")),
    }
}
