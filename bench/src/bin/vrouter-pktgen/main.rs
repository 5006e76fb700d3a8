//! `vrouter-pktgen`: sends and receives numbered UDP packets on vRouter's own ports.

mod endpoint;
mod flow;
mod measure;
mod stamp;
mod tally;

use core::net::IpAddr;
use core::time::Duration;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use encap::MacAddr;
use endpoint::{PortName, Ports};
use flow::{Addresses, Flows};
use ipnet::IpNet;
use measure::{Load, Report};

const AFTER_HELP: &str = "\
Examples:
  vrouter-pktgen tx --port af_xdp:eth1 --src 10.0.0.2 --dst 10.1.0.2 --address 10.0.0.2/24 \\
      --next-hop 10.0.0.1 --duration 10 --rate 500000
  vrouter-pktgen rx --port af_xdp:eth2 --duration 12 -o json
  vrouter-pktgen loop --tx af_xdp:eth1 --rx af_xdp:eth2 --src 10.0.0.2-10.0.0.200 --dst 10.1.0.2 \\
      --dst-mac 02:00:00:00:00:01 --duration 10
  vrouter-pktgen loop --tx memory:wire --rx memory:wire --count 1000000

A device under af_xdp is all ours while the program runs: the host's own traffic on it stops.
Fields of the JSON output are explained in bench/README.md.";

/// Packet generator: sends and receives numbered UDP packets and says what became of them.
#[derive(Parser)]
#[command(version, about, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Output
    #[arg(short, long, value_enum, default_value_t = Output::Text, global = true)]
    output: Output,
    /// Packet frames in all
    #[arg(long, default_value_t = 16384, global = true)]
    frames: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Send packets
    Tx {
        /// Where to send: af_xdp:DEVICE or memory:NAME
        #[arg(long)]
        port: PortName,
        #[command(flatten)]
        traffic: Traffic,
    },
    /// Receive packets: loss, order, duplicates, latency
    Rx {
        /// Where to receive: af_xdp:DEVICE or memory:NAME
        #[arg(long)]
        port: PortName,
        /// Stop after so many seconds
        #[arg(long, value_parser = seconds, default_value = "10")]
        duration: Duration,
        /// Stop after so many packets
        #[arg(long)]
        count: Option<u64>,
    },
    /// Send on one port and receive on another: throughput, loss, latency
    Loop {
        /// Where to send
        #[arg(long)]
        tx: PortName,
        /// Where to receive
        #[arg(long)]
        rx: PortName,
        /// How long to wait for packets under way after the last was sent, in seconds
        #[arg(long, value_parser = seconds, default_value = "0.2")]
        drain: Duration,
        #[command(flatten)]
        traffic: Traffic,
    },
}

#[derive(Args)]
struct Traffic {
    /// Source addresses: ADDRESS or FIRST-LAST, IPv4 or IPv6
    #[arg(long, default_value = "198.18.0.1")]
    src: Addresses,
    /// Destination addresses, of the same family
    #[arg(long, default_value = "198.19.0.1")]
    dst: Addresses,
    /// UDP source ports: PORT or FIRST-LAST
    #[arg(long, default_value = "1024")]
    src_ports: flow::Ports,
    /// UDP destination ports
    #[arg(long, default_value = "9")]
    dst_ports: flow::Ports,
    /// Frame size in bytes, FCS included, up to 1518; by default the least: 64, IPv6 84
    #[arg(long)]
    size: Option<usize>,
    /// Packets a second; as fast as possible without it
    #[arg(long)]
    rate: Option<u64>,
    /// Stop after so many packets
    #[arg(long)]
    count: Option<u64>,
    /// Stop after so many seconds; 10 where neither this nor --count is given
    #[arg(long, value_parser = seconds)]
    duration: Option<Duration>,
    /// MAC address to send to
    #[arg(long, conflicts_with = "next_hop")]
    dst_mac: Option<MacAddr>,
    /// Router whose MAC address is asked for by ARP or neighbour discovery
    #[arg(long, requires = "address")]
    next_hop: Option<IpAddr>,
    /// Our own address on the port, for --next-hop, such as 10.0.0.2/24
    #[arg(long)]
    address: Option<IpNet>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .map_err(|error| error.to_string())
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string()))
}

impl Traffic {
    fn load(&self, endpoint: &mut endpoint::Endpoint, needs_mac: bool) -> Result<Load, String> {
        let flows = Flows::new(self.src, self.dst, self.src_ports, self.dst_ports, self.size)?;
        if self.rate == Some(0) {
            return Err("--rate 0 would send nothing".to_owned());
        }
        let destination = match (self.dst_mac, self.next_hop, self.address) {
            (Some(mac), ..) => mac,
            (None, Some(next_hop), Some(own)) => {
                endpoint.resolve((own.addr(), own.prefix_len()), next_hop)?
            }
            _ if needs_mac => return Err("where to? give --dst-mac, or --next-hop with --address".to_owned()),
            _ => endpoint.mac,
        };
        let duration = match (self.duration, self.count) {
            (None, None) => Some(Duration::from_secs(10)),
            (duration, _) => duration,
        };
        Ok(Load { flows, macs: (destination, endpoint.mac), rate: self.rate, count: self.count, duration })
    }
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let mut ports = Ports::new(arguments.frames)?;
    let on_device = |name: &PortName| matches!(name, PortName::AfXdp(_));
    match &arguments.command {
        Command::Tx { port, traffic } => {
            let mut endpoint = ports.open(port)?;
            let load = traffic.load(&mut endpoint, on_device(port))?;
            Ok(measure::transmit(&mut endpoint, &load))
        }
        Command::Rx { port, duration, count } => {
            Ok(measure::receive(&mut ports.open(port)?, *duration, *count))
        }
        Command::Loop { tx, rx, drain, traffic } => {
            let (mut from, mut to) = (ports.open(tx)?, ports.open(rx)?);
            let load = traffic.load(&mut from, on_device(tx))?;
            Ok(measure::round(&mut from, &mut to, &load, *drain))
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            match arguments.output {
                Output::Text => print!("{}", report.text()),
                Output::Json => println!("{}", report.json()),
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
