//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fib::{AnyPrefix, PrefixError};
use ipnet::IpNet;

use crate::bench::BenchArguments;
use crate::filter::parse_protocol;

/// Asks and tells a running vRouter.
#[derive(Parser)]
#[command(name = "vrctl", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// The router's API socket.
    #[arg(
        long,
        global = true,
        env = "VRCTL_API",
        value_name = "unix:PATH",
        default_value = "unix:/run/vrouter/vrouter.sock",
        value_parser = parse_api
    )]
    pub(crate) api: PathBuf,
    /// Form of the output.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Forms of output.
#[derive(Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON; streams print one object a line.
    Json,
    /// YAML; streams print one document each.
    Yaml,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// The node in a few lines.
    Status,
    /// Lists of the router's parts.
    Show {
        #[command(subcommand)]
        what: Show,
    },
    /// Decisions of the forwarding table.
    Route {
        #[command(subcommand)]
        verb: RouteVerb,
    },
    /// Joins pods to the router and removes them.
    Pod {
        #[command(subcommand)]
        verb: PodVerb,
    },
    /// Creates or replaces resources: all of a file, or nothing of it.
    Apply {
        /// YAML or JSON; - reads stdin.
        #[arg(short, long, value_name = "FILE")]
        file: String,
        /// Judge only, change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Shows resources.
    Get {
        /// ippool or route.
        kind: String,
        /// One resource; all of the kind without it.
        name: Option<String>,
    },
    /// Removes resources.
    Delete {
        /// ippool or route.
        #[arg(requires = "name", required_unless_present = "file")]
        kind: Option<String>,
        name: Option<String>,
        /// Removes the resources that a file names; - reads stdin.
        #[arg(short, long, value_name = "FILE", conflicts_with = "kind")]
        file: Option<String>,
    },
    /// Follows matching packets through the stages.
    Trace(TraceArguments),
    /// Takes matching packets into a pcapng file, each with its verdict.
    Capture(CaptureArguments),
    /// What policy says of a packet, and why: in force on the router, or from resource files.
    Explain(ExplainArguments),
    /// Judges policies before they are in force.
    Policy {
        #[command(subcommand)]
        verb: PolicyVerb,
    },
    /// Forwarding threads.
    Workers {
        #[command(subcommand)]
        verb: WorkersVerb,
    },
    /// Measures forwarding on this machine beside the kernel's; no router is asked, no device touched.
    Bench(BenchArguments),
    /// Prints a completion script.
    Completions { shell: Shell },
}

/// A packet, or a file of packets.
#[derive(Args)]
pub(crate) struct ExplainArguments {
    /// Asks no router, but a directory of resources: YAML and JSON files.
    #[arg(long, value_name = "DIR")]
    pub(crate) resources: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) offline: OfflineArguments,
    /// Source: a pod, an address, or the node itself by an uplink or host endpoint of its.
    #[arg(long, value_name = "NS/POD|ADDR|NAME", required_unless_present = "batch")]
    pub(crate) from: Option<String>,
    /// Destination, as the source.
    #[arg(long, value_name = "NS/POD|ADDR|NAME", required_unless_present = "batch")]
    pub(crate) to: Option<String>,
    /// Protocol, by name or number.
    #[arg(long, value_parser = parse_protocol, required_unless_present = "batch")]
    pub(crate) proto: Option<u8>,
    /// Destination port.
    #[arg(long)]
    pub(crate) dport: Option<u16>,
    /// Source port; one that a client would be given, if absent.
    #[arg(long)]
    pub(crate) sport: Option<u16>,
    /// ICMP type; an echo request, if absent.
    #[arg(long)]
    pub(crate) icmp_type: Option<u8>,
    /// ICMP code.
    #[arg(long)]
    pub(crate) icmp_code: Option<u8>,
    /// The uplink, or its host endpoint, by which the packet enters the node, if addresses and routes do not say.
    #[arg(long = "in", value_name = "NAME")]
    pub(crate) entering: Option<String>,
    /// The uplink, or its host endpoint, by which it leaves.
    #[arg(long = "out", value_name = "NAME")]
    pub(crate) leaving: Option<String>,
    /// Packets as JSON, one a line; answers are printed the same way.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "to", "proto", "dport", "sport", "icmp_type", "icmp_code", "entering", "leaving"])]
    pub(crate) batch: Option<PathBuf>,
}

/// What a directory of resources does not say of the node that is asked.
#[derive(Args, Clone)]
pub(crate) struct OfflineArguments {
    /// With --resources: asks on this node, where there are host endpoints of several.
    #[arg(long, value_name = "NAME", requires = "resources")]
    pub(crate) node: Option<String>,
    /// With --resources: ports that no policy of host endpoints closes, such as tcp:22,udp:10.0.0.0/8:53, or
    /// none; Calico's defaults, if absent.
    #[arg(long, value_name = "PORTS", value_parser = parse_failsafe, requires = "resources")]
    pub(crate) failsafe_inbound: Option<FailsafePorts>,
    /// The same of other nodes' ports.
    #[arg(long, value_name = "PORTS", value_parser = parse_failsafe, requires = "resources")]
    pub(crate) failsafe_outbound: Option<FailsafePorts>,
}

/// Failsafe ports of the command line.
#[derive(Clone)]
pub(crate) struct FailsafePorts(pub(crate) Vec<api::FailsafePort>);

fn parse_failsafe(text: &str) -> Result<FailsafePorts, String> {
    match text {
        "none" => Ok(FailsafePorts(Vec::new())),
        ports => ports.split(',').map(str::parse).collect::<Result<_, _>>().map(FailsafePorts),
    }
}

#[derive(Subcommand)]
pub(crate) enum PolicyVerb {
    /// Compares what policy says with what each case expects; status 1 if any differs.
    Test {
        /// Cases as JSON, one a line: a packet and what to expect.
        cases: PathBuf,
        /// Directory of resources: YAML and JSON files.
        #[arg(long, value_name = "DIR")]
        resources: PathBuf,
        #[command(flatten)]
        offline: OfflineArguments,
    },
    /// Which open flows and recent denials would have another verdict if a file were applied.
    Diff {
        /// YAML or JSON; - reads stdin.
        #[arg(value_name = "FILE", required_unless_present = "deletions")]
        file: Option<String>,
        /// A resource that would be deleted; repeat for each.
        #[arg(long = "delete", value_name = "KIND/NAME")]
        deletions: Vec<String>,
        /// Lists at most so many differences; all are counted.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        count: u64,
    },
}

/// Conditions on headers; all must hold.
#[derive(Args)]
pub(crate) struct HeaderArguments {
    /// Only from or to this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Option<String>,
    /// Source prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    pub(crate) src: Option<IpNet>,
    /// Destination prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    pub(crate) dst: Option<IpNet>,
    /// IP protocol: tcp, udp, icmp, icmpv6, sctp or a number.
    #[arg(long, value_name = "PROTOCOL", value_parser = parse_protocol)]
    pub(crate) proto: Option<u8>,
    /// Source port.
    #[arg(long, value_name = "N")]
    pub(crate) sport: Option<u16>,
    /// Destination port.
    #[arg(long, value_name = "N")]
    pub(crate) dport: Option<u16>,
    /// Only where the name of a rule has this in it, such as a policy's name.
    #[arg(long, value_name = "TEXT")]
    pub(crate) rule: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum Show {
    /// Ports, their state and counters.
    Ports,
    /// Routes of all sources, with the reason why a route is not in use.
    Routes {
        /// Only routes to exactly this prefix.
        #[arg(value_parser = parse_net)]
        prefix: Option<IpNet>,
        /// Also routes to longer prefixes inside it.
        #[arg(long, requires = "prefix", conflicts_with = "within")]
        longer: bool,
        /// Only routes inside this prefix: as PREFIX --longer.
        #[arg(long, value_name = "PREFIX", conflicts_with = "prefix", value_parser = parse_net)]
        within: Option<IpNet>,
        /// Only routes of this source: config, api, pod, connected, block.
        #[arg(long)]
        source: Option<String>,
        /// Only the best of each prefix.
        #[arg(long, visible_alias = "best")]
        selected: bool,
        /// Routes of this VRF; the default one's without it.
        #[arg(long, value_name = "NAME")]
        vrf: Option<String>,
    },
    /// Next-hop groups: what routes share, and how flows are spread.
    Nexthops,
    /// Neighbours on the links.
    #[command(alias = "neighbours")]
    Neighbors,
    /// Dropped packets by reason and port.
    Drops {
        /// Also reasons without a packet.
        #[arg(long)]
        all: bool,
    },
    /// Forwarding threads.
    Workers,
    /// Packet memory.
    Memory,
    /// Tunnels and their peers.
    Tunnels,
    /// Attached pods.
    Pods,
    /// Tiers, policies and rules in the order in which they are asked, with what each counted.
    Policy {
        /// Only policies of this name.
        #[arg(value_name = "[NAMESPACE/]NAME")]
        name: Option<String>,
        /// Only this tier.
        #[arg(long)]
        tier: Option<String>,
        /// Only policies of this namespace.
        #[arg(short, long)]
        namespace: Option<String>,
        /// Only what applies to this pod or host endpoint.
        #[arg(long, value_name = "NAMESPACE/POD|HOST")]
        endpoint: Option<String>,
        /// Only rules that counted something.
        #[arg(long)]
        counted: bool,
    },
    /// Open flows, what each carried, and the rules that let it pass.
    Flows {
        #[command(flatten)]
        headers: HeaderArguments,
        /// Only flows that have come this far, such as tcp-established.
        #[arg(long)]
        phase: Option<String>,
        /// The conditions may hold for the answers instead.
        #[arg(long)]
        both_ways: bool,
        /// At most so many; 0: all.
        #[arg(long, value_name = "N", default_value_t = 0)]
        count: u64,
    },
    /// Packets that policy denied lately, and the rule that did.
    Denials {
        #[command(flatten)]
        headers: HeaderArguments,
        /// Also packets that Log rules matched.
        #[arg(long)]
        logged: bool,
        /// Goes on with what comes.
        #[arg(short, long)]
        follow: bool,
        /// The latest so many; 0: all that are kept.
        #[arg(long, value_name = "N", default_value_t = 0)]
        count: u64,
    },
}

#[derive(Subcommand)]
pub(crate) enum RouteVerb {
    /// Where a packet to an address would go now; with --routes, what matches in a file of routes.
    Get {
        #[arg(required_unless_present = "batch")]
        address: Option<IpAddr>,
        /// Asks no router but matches in these routes: PREFIX and, where there is one, NEXTHOP on a line, # begins a comment.
        #[arg(long, value_name = "FILE")]
        routes: Option<PathBuf>,
        /// Prints ADDRESS PREFIX NEXTHOP for each address of a file, one a line; - reads stdin.
        #[arg(long, value_name = "FILE", requires = "routes", conflicts_with = "address")]
        batch: Option<String>,
        /// In this VRF; in the default one without it.
        #[arg(long, value_name = "NAME", conflicts_with = "routes")]
        vrf: Option<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum WorkersVerb {
    /// Shares the queues of all ports among so many workers while packets flow, until the next start.
    Set {
        /// How many workers have queues from now on, up to one for each core that the router may use
        #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        count: u32,
    },
}

#[derive(Subcommand)]
pub(crate) enum PodVerb {
    /// Joins a pod; returns when its port and routes are in force.
    Attach(PodArguments),
    /// Removes a pod.
    Detach {
        #[arg(value_name = "NAMESPACE/NAME")]
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct PodArguments {
    /// The pod's network namespace.
    #[arg(long, value_name = "PATH")]
    pub(crate) netns: PathBuf,
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub(crate) name: String,
    /// An address of the pod; repeat for each.
    #[arg(long = "address", value_name = "IP", required = true)]
    pub(crate) addresses: Vec<String>,
    #[arg(long, value_enum, default_value = "tap")]
    pub(crate) attach: Attach,
    /// Name of the pod's device.
    #[arg(long, default_value = "eth0")]
    pub(crate) interface: String,
    /// A label; repeat for each.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    pub(crate) labels: Vec<(String, String)>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Attach {
    Tap,
    Veth,
}

/// Conditions on packets; all must hold, for the outer or the inner headers of a tunnelled packet.
#[derive(Args)]
pub(crate) struct FilterArguments {
    /// Source prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    pub(crate) src: Option<IpNet>,
    /// Destination prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = parse_net)]
    pub(crate) dst: Option<IpNet>,
    /// IP protocol: tcp, udp, icmp, icmpv6, sctp, ipip or a number.
    #[arg(long, value_name = "PROTOCOL", value_parser = parse_protocol)]
    pub(crate) proto: Option<u8>,
    /// Port of the router that packets come in by or leave by.
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
    /// Source port.
    #[arg(long, value_name = "N")]
    pub(crate) sport: Option<u16>,
    /// Destination port.
    #[arg(long, value_name = "N")]
    pub(crate) dport: Option<u16>,
    /// Only packets that are dropped.
    #[arg(long)]
    pub(crate) drops_only: bool,
}

#[derive(Args)]
pub(crate) struct TraceArguments {
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Ends after so many packets; 0: goes on.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) count: u64,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Args)]
pub(crate) struct CaptureArguments {
    /// The pcapng file; - writes to stdout.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: String,
    #[command(flatten)]
    pub(crate) filter: FilterArguments,
    /// Bytes to take of each packet; 0: all.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) snaplen: u32,
    /// Ends after so many packets; 0: goes on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) count: u64,
    /// Ends after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    pub(crate) timeout: Option<Duration>,
}

fn parse_api(text: &str) -> Result<PathBuf, String> {
    let path =
        text.strip_prefix("unix:").ok_or("it begins with unix:, such as unix:/run/vrouter/vrouter.sock")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        return Err("there is no path behind unix:".to_owned());
    }
    std::path::absolute(path).map_err(|error| error.to_string())
}

fn parse_net(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    // Checked here, as it says what is wrong with host bits.
    let prefix: AnyPrefix = text.parse().map_err(|error: PrefixError| error.to_string())?;
    prefix.to_string().parse().map_err(|error: ipnet::AddrParseError| error.to_string())
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is KEY=VALUE".to_owned()),
    }
}

pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "a number of seconds above 0".to_owned())
}
