//! `vrctl`: what an operator asks of a running router, over its Unix socket.
//! (Matches in a file of routes need no router.)
//!
//! ```text
//!  cli       the verbs and their arguments
//!  connect   the socket, and why there is none
//!  show      status, show ...                    resources  apply, get, delete
//!  routes    show routes, route get              offline    route get in a file of routes
//!  pods      pod attach, pod detach              trace      trace
//!  capture   capture, with pcapng                output     table, wide, json, yaml
//!  policy    explain, from files, without a router     batch      questions by the line
//!  cases     policy test, from files                   ask        explain, policy diff: of a router
//!  rules     show policy                         flows      show flows, show denials
//!  bench     bench: a router of its own, beside the kernel
//! ```
//!
//! Exit status: 0; 1 when the router refuses or cannot be reached, with the reason on stderr; 2 when
//! the command line is wrong.

mod ask;
mod batch;
mod bench;
mod capture;
mod cases;
mod cli;
mod connect;
mod failure;
mod filter;
mod flows;
mod offline;
mod output;
mod packet_line;
mod pods;
mod policy;
mod resources;
mod routes;
mod rules;
mod show;
mod stream;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use cli::{Cli, PodVerb, PolicyVerb, RouteVerb, Verb, WorkersVerb};
use failure::Failure;

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
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::from(error)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(Failure::OutputClosed) => ExitCode::SUCCESS,
        Err(Failure::Message(message)) => {
            eprintln!("vrctl: {message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let format = cli.output;
    if let Verb::Completions { shell } = cli.verb {
        // Into memory first: the generator panics where its output is closed.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "vrctl", &mut script);
        return Ok(std::io::Write::write_all(&mut std::io::stdout(), &script)?);
    }
    // Verbs that need no router.
    let verb = match cli.verb {
        Verb::Route { verb: RouteVerb::Get { address, routes: Some(routes), batch, .. } } => {
            return offline::route(&routes, address, batch.as_deref(), format);
        }
        Verb::Explain(mut arguments) => match arguments.resources.take() {
            Some(directory) => return policy::explain(&directory, arguments, format),
            None => Verb::Explain(arguments),
        },
        Verb::Policy { verb: PolicyVerb::Test { cases, resources, offline } } => {
            return cases::test(&cases, &resources, offline);
        }
        Verb::Bench(arguments) => {
            return match &arguments.role {
                Some(bench::RoleCommand::Role(role)) => bench::run_role(role),
                None => bench::bench(&arguments, format),
            };
        }
        other => other,
    };
    let mut client = connect::connect(&cli.api).await?;
    match verb {
        Verb::Status => show::status(&mut client, format).await,
        Verb::Show { what } => show::show(&mut client, what, format).await,
        Verb::Route { verb: RouteVerb::Get { address: Some(address), vrf, .. } } => {
            routes::get(&mut client, address, vrf.unwrap_or_default(), format).await
        }
        Verb::Pod { verb: PodVerb::Attach(pod) } => pods::attach(&mut client, pod, format).await,
        Verb::Pod { verb: PodVerb::Detach { name } } => pods::detach(&mut client, name).await,
        Verb::Workers { verb: WorkersVerb::Set { count } } => {
            show::set_workers(&mut client, count, format).await
        }
        Verb::Apply { file, dry_run } => resources::apply(&mut client, &file, dry_run, format).await,
        Verb::Get { kind, name } => resources::get(&mut client, kind, name, format).await,
        Verb::Delete { kind, name, file } => resources::delete(&mut client, kind.zip(name), file).await,
        Verb::Trace(arguments) => trace::trace(&mut client, arguments, format).await,
        Verb::Capture(arguments) => capture::capture(&mut client, arguments).await,
        Verb::Explain(arguments) => ask::explain(&mut client, arguments, format).await,
        Verb::Policy { verb: PolicyVerb::Diff { file, deletions, count } } => {
            ask::diff(&mut client, file.as_deref(), deletions, count, format).await
        }
        // What needs no router is done; the command line asks for an address where there are no routes.
        Verb::Route { .. } | Verb::Completions { .. } | Verb::Policy { .. } | Verb::Bench(_) => Ok(()),
    }
}
