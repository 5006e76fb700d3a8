//! The command line.

use core::net::IpAddr;
use core::time::Duration;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use encap::MacAddr;
use ipnet::IpNet;

use crate::addresses::{Addresses, Ports};
use crate::endpoint::{Endpoint, PortName};
use crate::flow::Flows;
use crate::frame::{Frames, Sizes};
use crate::measure::Load;
use crate::rate::Rate;
use crate::search::{Method, Settings};

const AFTER_HELP: &str = "\
Begin here: two ends of a wire inside this program need no device and no rights.
  vrouter-pktgen loop --port memory:wire --count 1000000

Through a router, from its one side to its other (as root; eth1 and eth2 lead to it):
  vrouter-pktgen loop --tx af_xdp:eth1 --rx af_xdp:eth2 --src 10.0.0.2-10.0.0.200 --dst 10.1.0.2 \\
      --address 10.0.0.2/24 --next-hop 10.0.0.1 --rate 500k --duration 10

The highest rates at which it loses nothing, and at most 0.5 %; with a plot of all trials:
  vrouter-pktgen search --tx af_xdp:eth1 --rx af_xdp:eth2 --dst 10.1.0.2 \\
      --dst-mac 02:00:00:00:00:01 --duration 5 --plot search.svg

One side alone: send to a machine, and look at what arrives there
  vrouter-pktgen tx --port af_xdp:eth1 --dst 10.1.0.2 --dst-mac 02:00:00:00:00:01 --rate 1.5M
  vrouter-pktgen rx --port af_xdp:eth2 --duration 12 -o json

Ports are af_xdp:DEVICE, memory:NAME (within this program) and pcap:FILE. A device under af_xdp is
all ours while the program runs: the host's own traffic on it stops.
bench/pktgen.schema.json describes the JSON output, bench/README.md the fields.";

/// Packet generator and analyser: sends numbered UDP packets and says what became of them.
#[derive(Parser)]
#[command(name = "vrouter-pktgen", version, about, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Output
    #[arg(short, long, value_enum, default_value_t = Output::Text, global = true)]
    pub(crate) output: Output,
    /// Write a plot as SVG: of latencies, or of a search's trials
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) plot: Option<PathBuf>,
    /// Packet frames in all
    #[arg(long, default_value_t = 16384, global = true)]
    pub(crate) frames: u32,
}

/// Form of the report.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Send packets
    Tx {
        /// Where to send
        #[arg(long, value_name = "KIND:NAME")]
        port: PortName,
        /// What to send
        #[command(flatten)]
        traffic: Traffic,
        /// How much
        #[command(flatten)]
        amount: Amount,
    },
    /// Receive packets: loss, order, duplicates, latency
    Rx {
        /// Where to receive
        #[arg(long, value_name = "KIND:NAME")]
        port: PortName,
        /// Stop after so many seconds; 10 by default, a file is read to its end
        #[arg(long, value_parser = seconds)]
        duration: Option<Duration>,
        /// Stop after so many packets
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Send and receive: throughput, loss, latency
    Loop {
        /// Where
        #[command(flatten)]
        ends: Ends,
        /// What to send
        #[command(flatten)]
        traffic: Traffic,
        /// How much
        #[command(flatten)]
        amount: Amount,
    },
    /// Search for the highest rate without loss (NDR) and with little loss (PDR)
    Search {
        /// Where
        #[command(flatten)]
        ends: Ends,
        /// What to send
        #[command(flatten)]
        traffic: Traffic,
        /// How
        #[command(flatten)]
        search: SearchOptions,
    },
}

/// The ports of a round trip.
#[derive(Args)]
#[command(group(ArgGroup::new("ways").required(true).args(["port", "tx"])))]
pub(crate) struct Ends {
    /// Where to send and receive: something behind it sends the packets back
    #[arg(long, value_name = "KIND:NAME", conflicts_with_all = ["tx", "rx"])]
    pub(crate) port: Option<PortName>,
    /// Where to send
    #[arg(long, value_name = "KIND:NAME", requires = "rx")]
    pub(crate) tx: Option<PortName>,
    /// Where to receive
    #[arg(long, value_name = "KIND:NAME", requires = "tx")]
    pub(crate) rx: Option<PortName>,
    /// How long to wait for packets under way after the last was sent, in seconds
    #[arg(long, value_parser = seconds, default_value = "0.2")]
    pub(crate) drain: Duration,
}

/// When to stop sending, and how fast to send.
#[derive(Args)]
pub(crate) struct Amount {
    /// Packets or bits a second, such as 250k, 1.5M, 800Mbps; as fast as possible without it
    #[arg(long)]
    rate: Option<Rate>,
    /// Stop after so many packets
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop after so many seconds; 10 where neither this nor --count is given
    #[arg(long, value_parser = seconds)]
    duration: Option<Duration>,
}

/// How a search is done.
#[derive(Args)]
pub(crate) struct SearchOptions {
    /// Trials of growing length (mlr), or bisection from the highest rate in full length (rfc2544)
    #[arg(long, value_enum, default_value_t = Method::Mlr)]
    method: Method,
    /// The share of lost packets that PDR allows, in per cent
    #[arg(long, default_value_t = 0.5, value_parser = percent)]
    pub(crate) partial: f64,
    /// How close the bounds are at the end, in per cent of the rate
    #[arg(long, default_value_t = 0.5, value_parser = percent)]
    width: f64,
    /// The lowest rate that is tried
    #[arg(long, default_value = "1k")]
    min_rate: Rate,
    /// The highest rate that is tried; by default what the generator is able to
    #[arg(long)]
    max_rate: Option<Rate>,
    /// Length of the trials that decide, in seconds
    #[arg(long, value_parser = seconds, default_value = "5")]
    pub(crate) duration: Duration,
    /// Length of the first trials of mlr, in seconds; 0.5 by default, or --duration where that is less
    #[arg(long, value_parser = seconds)]
    first_duration: Option<Duration>,
}

/// What the packets are.
#[derive(Args)]
pub(crate) struct Traffic {
    /// Source addresses: ADDRESS, FIRST-LAST or PREFIX, IPv4 or IPv6; 198.18.0.1 or 2001:2::1 by default
    #[arg(long)]
    src: Option<Addresses>,
    /// Destination addresses; 198.19.0.1 by default
    #[arg(long, conflicts_with = "dst_prefixes")]
    dst: Option<Addresses>,
    /// A file of prefixes, one a line, plain or gzip: one destination is drawn from each
    #[arg(long, value_name = "FILE")]
    dst_prefixes: Option<PathBuf>,
    /// UDP source ports: PORT or FIRST-LAST
    #[arg(long, default_value = "1024")]
    src_ports: Ports,
    /// UDP destination ports
    #[arg(long, default_value = "9")]
    dst_ports: Ports,
    /// A file of flows, one a line: SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT
    #[arg(long, value_name = "FILE", conflicts_with_all = ["src", "dst", "dst_prefixes", "src_ports", "dst_ports"])]
    trace: Option<PathBuf>,
    /// Draw flows by Zipf's law with this exponent (1 is usual) instead of in turn
    #[arg(long, value_name = "EXPONENT", value_parser = exponent)]
    zipf: Option<f64>,
    /// Frame sizes in bytes, FCS included, up to 1518, in turn: 64, 64,1518 or imix; by default the least:
    /// 64, IPv6 84
    #[arg(long, value_name = "SIZES")]
    size: Option<Sizes>,
    /// MAC address to send to
    #[arg(long, conflicts_with = "next_hop")]
    dst_mac: Option<MacAddr>,
    /// Router whose MAC address is asked for by ARP or neighbour discovery
    #[arg(long, requires = "address")]
    next_hop: Option<IpAddr>,
    /// Our own address on the port, for --next-hop, such as 10.0.0.2/24
    #[arg(long, requires = "next_hop")]
    address: Option<IpNet>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let parsed = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    parsed
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "expected a number of seconds above 0, such as 0.5".to_owned())
}

fn exponent(text: &str) -> Result<f64, String> {
    let parsed = text.parse::<f64>().ok().filter(|exponent| *exponent > 0.0 && exponent.is_finite());
    parsed.ok_or_else(|| "expected a positive number, such as 1".to_owned())
}

/// A share, given in per cent.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(value) if value > 0.0 && value < 50.0 => Ok(value),
        _ => Err("expected per cent, above 0 and below 50".to_owned()),
    }
}

/// The first trial of a search is at the highest rate; where none is given, this is beyond every port.
const BEYOND_ALL: f64 = 1e9;
/// Length of the first trials where none is given.
const FIRST_DURATION: Duration = Duration::from_millis(500);

impl SearchOptions {
    /// What the search is to keep to, with frames of this mean size.
    ///
    /// # Errors
    /// What of the options does not fit together.
    pub(crate) fn settings(&self, frame_size: f64) -> Result<Settings, String> {
        let first_duration = match (self.first_duration, self.method) {
            (Some(_), Method::Rfc2544) => {
                return Err(
                    "--first-duration: every trial of rfc2544 has the full length, --duration".to_owned()
                );
            }
            (Some(first), Method::Mlr) if first > self.duration => {
                return Err(format!(
                    "--first-duration must not be above --duration: {} s are above {} s",
                    first.as_secs_f64(),
                    self.duration.as_secs_f64()
                ));
            }
            (given, _) => given.unwrap_or(FIRST_DURATION.min(self.duration)),
        };
        let min = self.min_rate.packets(frame_size);
        let max = self.max_rate.map_or(BEYOND_ALL, |rate| rate.packets(frame_size));
        if min >= max {
            return Err(format!(
                "--min-rate must be below --max-rate: {min:.0} packets a second are not below {max:.0}"
            ));
        }
        let width = self.width / 100.0;
        Ok(Settings { method: self.method, min, max, duration: self.duration, first_duration, width })
    }
}

impl Traffic {
    /// The frames to send.
    ///
    /// # Errors
    /// What of the options does not fit together.
    pub(crate) fn frames(&self) -> Result<Frames, String> {
        let flows = match &self.trace {
            Some(path) => Flows::of_trace(path)?,
            None => {
                let destinations = match (&self.dst_prefixes, &self.dst) {
                    (Some(path), _) => Some(Addresses::of_prefixes(path)?),
                    (None, dst) => dst.clone(),
                };
                let v6 = |given: &Option<Addresses>| given.as_ref().is_some_and(|given| !given.is_ipv4());
                let default = |v4: &str, v6_text: &str| {
                    let v6 = v6(&destinations) || v6(&self.src);
                    if v6 { v6_text } else { v4 }.parse::<Addresses>()
                };
                let source = self.src.clone().map_or_else(|| default("198.18.0.1", "2001:2::1"), Ok)?;
                let fallback = default("198.19.0.1", "2001:2:0:1::1")?;
                let destination = destinations.clone().unwrap_or(fallback);
                Flows::of_ranges(source, destination, self.src_ports, self.dst_ports)?
            }
        };
        let flows = match self.zipf {
            Some(exponent) => flows.by_zipf(exponent)?,
            None => flows,
        };
        Frames::new(flows, self.size.clone())
    }

    /// Destination and source MAC address on an endpoint.
    ///
    /// # Errors
    /// None is given where one is needed, or nobody answers.
    pub(crate) fn macs(&self, endpoint: &mut Endpoint, needed: bool) -> Result<(MacAddr, MacAddr), String> {
        let destination = match (self.dst_mac, self.next_hop, self.address) {
            (Some(mac), ..) => mac,
            (None, Some(next_hop), Some(own)) => {
                endpoint.resolve((own.addr(), own.prefix_len()), next_hop)?
            }
            _ if needed => return Err("where to? give --dst-mac, or --next-hop with --address".to_owned()),
            _ => endpoint.mac(),
        };
        Ok((destination, endpoint.mac()))
    }
}

impl Amount {
    /// The load of these frames.
    pub(crate) fn load(&self, frames: Frames, macs: (MacAddr, MacAddr)) -> Load {
        let duration = match (self.duration, self.count) {
            (None, None) => Some(Duration::from_secs(10)),
            (duration, _) => duration,
        };
        let rate = self.rate.map(|rate| rate.packets(frames.mean_size()));
        Load { frames, macs, rate, count: self.count, duration }
    }

    /// Whether the number of packets is bounded by more than time.
    pub(crate) fn is_bounded(&self) -> bool {
        self.rate.is_some() || self.count.is_some()
    }
}
