//! What the analyser makes of files whose packets were lost, doubled, swapped and delayed on purpose.

use std::fs::File;
use std::io::BufReader;
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use serde_json::Value;

use super::{Scratch, json, pktgen, refusal};

type Packet = (Duration, Vec<u8>);

fn read(path: &str) -> (PcapHeader, Vec<Packet>) {
    let mut reader = PcapReader::new(BufReader::new(File::open(path).unwrap())).unwrap();
    let header = reader.header();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        packets.push((packet.timestamp, packet.data.to_vec()));
    }
    (header, packets)
}

fn write(path: &str, header: PcapHeader, packets: &[Packet]) {
    let mut writer = PcapWriter::with_header(File::create(path).unwrap(), header).unwrap();
    for (at, bytes) in packets {
        writer.write_packet(&PcapPacket::new(*at, bytes.len() as u32, bytes)).unwrap();
    }
}

/// Sends `count` packets into a file, lets `path` do to them what a path does, analyses the result.
fn through(scratch: &Scratch, count: usize, options: &[&str], path: impl FnOnce(&mut Vec<Packet>)) -> Value {
    let (sent, arrived) = (scratch.file("sent.pcap"), scratch.file("arrived.pcap"));
    let (tx, rx) = (format!("pcap:{sent}"), format!("pcap:{arrived}"));
    let count_text = count.to_string();
    let found = json(pktgen(&["tx", "--port", &tx, "--count", &count_text]).args(options));
    assert_eq!(found["sent"]["packets"], count);
    let (header, mut packets) = read(&sent);
    assert_eq!(packets.len(), count);
    path(&mut packets);
    write(&arrived, header, &packets);
    json(&mut pktgen(&["rx", "--port", &rx]))["received"].clone()
}

#[test]
fn what_a_path_did_is_found_in_the_file() {
    let scratch = Scratch::new("files");
    let found = through(&scratch, 1000, &["--src", "10.0.0.1-10.0.0.4"], |packets| {
        // Backwards, so that the numbers ahead keep their places.
        packets.remove(700);
        packets.drain(600..610);
        packets.insert(500, packets[499].clone());
        packets.swap(300, 301); // two flows that overtake each other
        let late = packets.remove(200);
        packets.insert(204, late); // behind the next of its own flow
        packets.insert(100, (packets[100].0, vec![0xaa; 60]));
    });
    let expected = [
        ("packets", 990),
        ("missing", 11),
        ("duplicates", 1),
        ("reordered", 2),
        ("reordered_in_flow", 1),
        ("foreign", 1),
    ];
    for (field, count) in expected {
        assert_eq!(found[field], count, "{field} in {found}");
    }
}

#[test]
fn latency_is_the_time_between_stamp_and_capture() {
    let scratch = Scratch::new("latency");
    let found = through(&scratch, 1000, &[], |packets| {
        for (number, packet) in packets.iter_mut().enumerate() {
            packet.0 += Duration::from_micros(if number < 990 { 100 } else { 5000 });
        }
    });
    let latency = &found["latency_ns"];
    let near = |field: &str, exact: u64| {
        let value = latency[field].as_u64().unwrap();
        assert!(value >= exact && value <= exact + exact / 16, "{field}: {value}, not {exact}");
    };
    near("min", 100_000);
    near("p50", 100_000);
    near("p99", 100_000);
    near("p999", 5_000_000);
    assert_eq!(latency["max"], 5_000_000);
}

#[test]
fn a_clock_of_its_own_gives_no_latency() {
    let scratch = Scratch::new("clock");
    let found = through(&scratch, 10, &[], |packets| {
        packets.iter_mut().for_each(|packet| packet.0 += Duration::from_secs(1_700_000_000));
    });
    assert_eq!((&found["packets"], &found["latency_ns"]["p50"]), (&10.into(), &Value::Null));
}

#[test]
fn flows_come_from_prefixes_and_traces() {
    let scratch = Scratch::new("flows");
    let (prefixes, trace) = (scratch.file("prefixes"), scratch.file("trace"));
    std::fs::write(&prefixes, "192.0.2.0/24\n198.51.100.0/24\n203.0.113.0/24\n").unwrap();
    std::fs::write(&trace, "10.0.0.1 10.9.0.1 5 6\n10.0.0.2 10.9.0.2 7 8\n").unwrap();
    let destinations = |packets: &[Packet]| -> Vec<[u8; 3]> {
        packets.iter().map(|(_, bytes)| bytes[30..33].try_into().unwrap()).collect()
    };
    through(&scratch, 6, &["--dst-prefixes", &prefixes], |packets| {
        let nets = [[192, 0, 2], [198, 51, 100], [203, 0, 113]];
        assert_eq!(destinations(packets), [nets, nets].concat());
    });
    through(&scratch, 4, &["--trace", &trace, "--size", "100,200"], |packets| {
        let lengths: Vec<usize> = packets.iter().map(|(_, bytes)| bytes.len()).collect();
        assert_eq!(lengths, [96, 196, 196, 96], "each flow has both sizes");
        assert_eq!(packets[1].1[26..38], [10, 0, 0, 2, 10, 9, 0, 2, 0, 7, 0, 8]);
    });
    through(&scratch, 2000, &["--src-ports", "1-100", "--zipf", "1.2"], |packets| {
        let of_first = packets.iter().filter(|(_, bytes)| bytes[34..36] == [0, 1]).count();
        assert!((400..=800).contains(&of_first), "{of_first} of the most frequent flow");
    });
}

#[test]
fn files_of_other_kinds_are_refused() {
    let scratch = Scratch::new("kinds");
    let file = scratch.file("text");
    std::fs::write(&file, "no capture at all, but long enough").unwrap();
    assert!(refusal(&["rx", "--port", &format!("pcap:{file}")]).contains(&file));
    assert!(refusal(&["rx", "--port", "pcap:/nowhere"]).contains("/nowhere"));
}
