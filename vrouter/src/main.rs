//! The `vrouter` program: `run`, `check` and `plan`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use vrouter::daemon;
use vrouter::daemon::plan::Demand;

/// Userspace router for pod networks.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the router of this node until SIGTERM
    Run {
        /// The configuration file
        #[arg(long)]
        config: PathBuf,
        /// Leave devices behind at the end, to be adopted by the next run
        #[arg(long)]
        keep: bool,
        /// Log as JSON, a line an event
        #[arg(long)]
        log_json: bool,
    },
    /// Say what each table takes of memory, by making tables of these sizes
    Plan {
        /// The configuration file
        #[arg(long)]
        config: PathBuf,
        /// Pods; those of the file without it
        #[arg(long)]
        pods: Option<u32>,
        /// Workers; those of the file without it
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
        workers: Option<u16>,
        /// Routes; those of the file without it
        #[arg(long)]
        routes: Option<u32>,
        /// Flows that are tracked at a time; those of the file without it
        #[arg(long)]
        flows: Option<u32>,
    },
    /// Explain what is wrong with a configuration on this machine
    Check {
        /// The configuration file
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    if vrouter::cpu_is_too_old() {
        // Nothing but words: whatever were to be put together might take what is missing.
        let _ = std::io::stderr().write_all(vrouter::CPU_TOO_OLD.as_bytes());
        return ExitCode::FAILURE;
    }
    obey()
}

/// Apart from `main`, so that nothing of it runs before the CPU is known to have its instructions.
#[inline(never)]
fn obey() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match arguments.command {
        Command::Check { config } => runtime.block_on(check(config)),
        Command::Plan { config, pods, workers, routes, flows } => plan(config, |demand| Demand {
            pods: pods.unwrap_or(demand.pods),
            workers: workers.unwrap_or(demand.workers),
            routes: routes.unwrap_or(demand.routes),
            flows: flows.unwrap_or(demand.flows),
        }),
        Command::Run { config, keep, log_json } => {
            let filter = EnvFilter::try_from_env("VROUTER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            let log = tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(std::io::stderr().is_terminal())
                .with_writer(std::io::stderr);
            if log_json {
                log.json().init()
            } else {
                log.with_target(false).init()
            }
            runtime.block_on(run(config, keep))
        }
    }
}

async fn check(path: PathBuf) -> ExitCode {
    match daemon::check::read_and_check(&path).await {
        Ok((config, warnings)) => {
            if !warnings.is_empty() {
                eprintln!("{warnings}");
            }
            println!(
                "{} is good: {} uplinks, {} pools, {} routes, {} pods; needs {} of {} frames",
                path.display(),
                config.uplinks.len(),
                config.pools.len(),
                config.routes.len(),
                config.pods.len(),
                daemon::check::frames_needed(&config),
                *config.memory.frames,
            );
            ExitCode::SUCCESS
        }
        Err(findings) => {
            eprintln!("{findings}");
            ExitCode::FAILURE
        }
    }
}

fn plan(path: PathBuf, demand: impl FnOnce(Demand) -> Demand) -> ExitCode {
    let config = match daemon::check::read(&path) {
        Ok((config, _)) => config,
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::FAILURE;
        }
    };
    let plan = match daemon::plan::plan(&config, demand(Demand::of(&config))) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    for part in &plan.parts {
        println!("{:>10.1} MiB  {}", mib(part.bytes), part.name);
    }
    println!("{:>10.1} MiB  in all, of {:.1} MiB available", mib(plan.total()), mib(plan.available));
    if plan.total() > plan.available {
        eprintln!("error: this does not fit");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn run(path: PathBuf, keep: bool) -> ExitCode {
    let config = match daemon::check::read_and_check(&path).await {
        Ok((config, warnings)) => {
            if !warnings.is_empty() {
                eprintln!("{warnings}");
            }
            config
        }
        Err(findings) => {
            eprintln!("{findings}");
            return ExitCode::FAILURE;
        }
    };
    match daemon::run(config, &path.display().to_string(), keep).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
