//! `bench`: what forwarding costs on this machine, beside the kernel's own, in half a minute.
//!
//! ```text
//!  memory   the packet path between ports in memory: no kernel, no device, no rights
//!  veth     AF_XDP between two veth pairs, in turns with the kernel's ip_forward; as root, in
//!           namespaces of its own: no device, route or setting of the node is touched
//!  role     the programs inside those namespaces: this one, started again
//! ```
//!
//! It is a look, not a measurement to publish: the generator sends by AF_XDP from user space, about
//! a million packets a second. `bench/` has the comparisons with a generator in the kernel and with
//! other routers.

mod cores;
mod memory;
mod role;
mod veth;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::Format;
use crate::failure::Failure;

pub(crate) use role::{Role, run as run_role};

#[derive(Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(crate) role: Option<RoleCommand>,
    /// Length of each measurement in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = crate::cli::parse_seconds, default_value = "1")]
    pub(crate) duration: Duration,
    /// Alternations with the kernel.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) rounds: u16,
    /// Core of the router; the last one that this process may use, if absent.
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Without namespaces and devices.
    #[arg(long)]
    pub(crate) memory_only: bool,
}

#[derive(Subcommand)]
pub(crate) enum RoleCommand {
    /// A part of a measurement, started by it.
    #[command(hide = true)]
    Role(Role),
}

/// Median, least and most of some rates.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut rates: Vec<f64>) -> Option<Self> {
        rates.sort_unstable_by(f64::total_cmp);
        let (least, most) = (*rates.first()?, *rates.last()?);
        Some(Spread { median: rates[rates.len() / 2], least, most })
    }

    fn json(&self) -> Value {
        json!({ "packets_per_second": self.median, "min": self.least, "max": self.most })
    }

    fn text(&self) -> String {
        let millions = |rate: f64| rate / 1e6;
        format!(
            "{:.2} Mpps ({:.2} to {:.2})",
            millions(self.median),
            millions(self.least),
            millions(self.most)
        )
    }
}

/// Measures and prints.
pub(crate) fn bench(arguments: &BenchArguments, format: Format) -> Result<(), Failure> {
    let cores = cores::Cores::choose(arguments.core)?;
    let core = cores.router;
    let in_memory = memory::measure(core, arguments.duration)?;
    let over_veth = if arguments.memory_only {
        Err("not asked for".to_owned())
    } else {
        veth::measure(cores, arguments.rounds, arguments.duration)
    };
    let mut out = io::stdout().lock();
    if matches!(format, Format::Json | Format::Yaml) {
        let value = as_json(core, &in_memory, &over_veth);
        let text = if matches!(format, Format::Json) {
            value.to_string()
        } else {
            serde_yaml_ng::to_string(&value).map_err(|error| error.to_string())?
        };
        return Ok(writeln!(out, "{}", text.trim_end())?);
    }
    writeln!(out, "64-byte packets, one core ({core}), medians (least to most)\n")?;
    writeln!(out, "the packet path without a kernel, ports in memory")?;
    for (name, rate) in &in_memory {
        writeln!(out, "  {name:24}{:>8.1} ns  {}", 1e9 / rate.median, rate.text())?;
    }
    writeln!(out, "\nveth to veth, in namespaces of its own")?;
    match &over_veth {
        Err(why) => writeln!(out, "  SKIPPED: {why}")?,
        Ok(found) => {
            for (name, rate) in [("kernel ip_forward", &found.kernel), ("vRouter, AF_XDP", &found.vrouter)] {
                writeln!(out, "  {name:24}{:>8.1} ns  {}", 1e9 / rate.median, rate.text())?;
            }
            let ratio = found.vrouter.median / found.kernel.median;
            writeln!(out, "  ratio {ratio:.2}; {:.2} Mpps were offered", found.offered / 1e6)?;
            if found.offered < 1.05 * found.kernel.median.max(found.vrouter.median) {
                writeln!(out, "  the generator was the limit: the router may be able to do more")?;
            }
        }
    }
    Ok(())
}

fn as_json(core: usize, in_memory: &[(&str, Spread)], over_veth: &Result<veth::Found, String>) -> Value {
    let memory: serde_json::Map<String, Value> =
        in_memory.iter().map(|(name, rate)| ((*name).to_owned(), rate.json())).collect();
    let veth = match over_veth {
        Err(why) => json!({ "skipped": why }),
        Ok(found) => json!({
            "kernel": found.kernel.json(), "vrouter": found.vrouter.json(),
            "ratio": found.vrouter.median / found.kernel.median,
            "offered_packets_per_second": found.offered,
        }),
    };
    json!({ "core": core, "frame_size": 64, "memory": memory, "veth": veth })
}
