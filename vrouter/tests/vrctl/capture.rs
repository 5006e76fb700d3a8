//! `trace` and `capture`: text, JSON lines, and pcapng files that another parser understands.

use pcap_parser::pcapng::{InterfaceDescriptionBlock, OptionCode};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, PcapBlockOwned, PcapNGSlice};

use crate::mock::Server;
use crate::{answers, command, good, vrctl};

#[test]
fn trace_as_text() {
    let server = Server::start("trace");
    let run = vrctl(&server, "trace --count 2 --src 10.0.0.1 --dst 10.0.0.0/8 --proto icmp");
    assert_eq!(
        run.out,
        "\
00:00:01.000000007 tap-web 98 bytes 10.0.0.1 > 10.0.0.2 icmp
  parse   ipv4 icmp
  lookup  10.0.0.2/32 pod
  output
  forward out=tap-db route=10.0.0.2/32
00:00:01.000001000 eth1 60 bytes not IP
  parse  ethertype 0
  drop reason=unknown_ethertype
"
    );
    assert_eq!(run.err, "vrctl: 3 matching packets were missed: the trace ring was full\n");
    assert_eq!(run.code, Some(0));
    assert_eq!(
        server.requests(),
        ["TraceRequest { filter: Some(PacketFilter { src: \"10.0.0.1/32\", dst: \"10.0.0.0/8\", \
          protocol: Some(1), port: \"\", src_port: None, dst_port: None, drops_only: false }), count: 2 }"]
    );
}

#[test]
fn trace_as_json_is_one_object_a_line() {
    let server = Server::start("trace-json");
    let out = good(&server, "trace --count 1 --port tap-web -o json");
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["verdict"], "forward");
    assert_eq!(lines[0]["stages"][1]["note"], "10.0.0.2/32 pod");
    assert!(lines[0]["head"].as_str().is_some_and(|head| head.starts_with("020000000002")));
}

#[test]
fn trace_ends_by_time_and_says_when_nothing_came() {
    let server = Server::start("trace-time");
    let run = vrctl(&server, "trace --port none --timeout 0.2");
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err, "vrctl: no packet matched\n");
    let run = vrctl(&server, "trace --timeout 0.5 --dport 80 --sport 1 --drops-only");
    assert_eq!(run.code, Some(0));
    assert!(server.requests()[1].contains("src_port: Some(1), dst_port: Some(80), drops_only: true"));
}

/// One packet of a capture file, as the other parser sees it.
#[derive(Debug, PartialEq)]
struct Seen {
    port: String,
    nanoseconds: u64,
    original_len: u32,
    data: Vec<u8>,
    comment: String,
    flags: Option<u32>,
    missed: Option<u64>,
}

fn option<'a>(options: &'a [pcap_parser::PcapNGOption<'_>], code: OptionCode) -> Option<&'a [u8]> {
    let found = options.iter().find(|option| option.code == code)?;
    found.as_bytes().ok()
}

fn if_name(block: &InterfaceDescriptionBlock<'_>) -> String {
    let name = option(&block.options, OptionCode::IfName).expect("each interface has a name");
    String::from_utf8(name.to_vec()).expect("names are UTF-8")
}

fn read_back(file: &[u8]) -> (Vec<String>, Vec<Seen>) {
    let (mut ports, mut packets) = (Vec::new(), Vec::new());
    let blocks = PcapNGSlice::from_slice(file).expect("it begins with a section header");
    for block in blocks {
        match block.expect("every block is whole") {
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {}
            PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
                assert_eq!(block.linktype, pcap_parser::Linktype::ETHERNET);
                assert_eq!(block.if_tsresol, 9);
                ports.push(if_name(&block));
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                let number = |code, wanted: usize| {
                    option(&block.options, code).map(|bytes| {
                        assert_eq!(bytes.len(), wanted);
                        let mut wide = [0; 8];
                        wide[..wanted].copy_from_slice(bytes);
                        u64::from_le_bytes(wide)
                    })
                };
                let comment = option(&block.options, OptionCode::Comment).expect("a comment");
                packets.push(Seen {
                    port: ports[block.if_id as usize].clone(),
                    nanoseconds: u64::from(block.ts_high) << 32 | u64::from(block.ts_low),
                    original_len: block.origlen,
                    data: block.packet_data().to_vec(),
                    comment: String::from_utf8(comment.to_vec()).expect("comments are UTF-8"),
                    flags: number(OptionCode(2), 4).map(|flags| flags as u32),
                    missed: number(OptionCode(4), 8),
                });
            }
            _ => panic!("a block of another kind"),
        }
    }
    (ports, packets)
}

#[test]
fn captures_are_read_back_by_another_parser() {
    let server = Server::start("capture");
    let run = vrctl(&server, "capture -w a.pcapng --count 3 --snaplen 128 --drops-only");
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.err, "vrctl: 3 packets of 2 ports, 5 matching ones missed: the capture ring was full\n");
    assert!(server.requests()[0].contains("drops_only: true"));
    assert!(server.requests()[0].contains("snaplen: 128, count: 3"));
    let file = std::fs::read(server.directory.join("a.pcapng")).expect("vrctl wrote it");
    let (ports, packets) = read_back(&file);
    assert_eq!(ports, ["tap-web", "eth1"]);
    let seen = |port: &str, nanoseconds: u64, comment: &str, flags| Seen {
        port: port.to_owned(),
        nanoseconds: 1_767_312_001_000_000_000 + nanoseconds,
        original_len: 98,
        data: answers::echo(),
        comment: comment.to_owned(),
        flags: Some(flags),
        missed: None,
    };
    assert_eq!(
        packets,
        [
            seen("tap-web", 7, "verdict=forward out=eth1", 1),
            seen("eth1", 8, "verdict=forward", 2),
            Seen {
                data: answers::echo()[..13].to_vec(),
                missed: Some(5),
                ..seen("tap-web", 1_000_000_009, "verdict=drop reason=no_route", 1)
            },
        ]
    );
}

#[test]
fn captures_to_stdout_end_by_time() {
    let server = Server::start("capture-time");
    let output =
        command(&server, "capture -w - --timeout 0.5").output().expect("vrctl is built with the tests");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(read_back(&output.stdout).1.len(), 3);
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let server = Server::start("capture-file");
    let run = vrctl(&server, "capture -w none/a.pcapng --count 1");
    assert_eq!(run.code, Some(1));
    assert_eq!(run.err, "vrctl: none/a.pcapng: No such file or directory (os error 2)\n");
}
