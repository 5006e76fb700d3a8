//! `vrouter-pktgen`: sends and receives numbered UDP packets on vRouter's own ports.

mod addresses;
mod capture;
mod circuit;
mod cli;
mod endpoint;
mod flow;
mod frame;
mod histogram;
mod measure;
mod plot;
mod rate;
mod report;
mod search;
mod stamp;
mod tally;

use core::time::Duration;
use std::process::ExitCode;

use circuit::Circuit;
use clap::Parser;
use cli::{Amount, Arguments, Command, Ends, Output, SearchOptions, Traffic};
use endpoint::{Direction, PortName, Ports};
use measure::Load;
use report::{Outcome, Report, SearchReport};
use search::{Goal, Settings, Trial};

/// Shares of the best rate found at which a search looks at the latency.
const LOADS: [f64; 3] = [0.1, 0.5, 0.9];
/// The first trial of a search is at the highest rate; where none is given, this is beyond every port.
const BEYOND_ALL: f64 = 1e9;

fn on_device(name: &PortName) -> bool {
    matches!(name, PortName::AfXdp(_))
}

fn transmit(
    ports: &mut Ports,
    port: &PortName,
    traffic: &Traffic,
    amount: &Amount,
) -> Result<Report, String> {
    if matches!(port, PortName::Pcap(_)) && !amount.is_bounded() {
        return Err("how many packets are to be in the file? give --count, or --rate".to_owned());
    }
    let frames = traffic.frames()?;
    let mut endpoint = ports.open(port, Direction::Send)?;
    let macs = traffic.macs(&mut endpoint, on_device(port))?;
    let report = measure::transmit(&mut endpoint, &amount.load(frames, macs));
    endpoint.close().map(|()| report)
}

fn receive(
    ports: &mut Ports,
    port: &PortName,
    duration: Option<Duration>,
    count: Option<u64>,
) -> Result<Report, String> {
    let is_file = matches!(port, PortName::Pcap(_));
    let duration = duration.or((!is_file).then_some(Duration::from_secs(10)));
    let mut endpoint = ports.open(port, Direction::Receive)?;
    let report = measure::receive(&mut endpoint, duration, count);
    endpoint.close().map(|()| report)
}

fn open(ports: &mut Ports, ends: &Ends, traffic: &Traffic) -> Result<(Circuit, Load), String> {
    let frames = traffic.frames()?;
    let mut circuit = Circuit::open(ports, ends)?;
    let needed = ends.port.as_ref().or(ends.tx.as_ref()).is_some_and(on_device);
    let macs = traffic.macs(circuit.sender(), needed)?;
    Ok((circuit, Load { frames, macs, rate: None, count: None, duration: None }))
}

fn search(
    ports: &mut Ports,
    ends: &Ends,
    traffic: &Traffic,
    how: &SearchOptions,
) -> Result<SearchReport, String> {
    let (mut circuit, load) = open(ports, ends, traffic)?;
    let frame_size = load.frames.mean_size();
    let settings = Settings {
        method: how.method,
        min: how.min_rate.packets(frame_size),
        max: how.max_rate.map_or(BEYOND_ALL, |rate| rate.packets(frame_size)),
        duration: how.duration,
        first_duration: how.first_duration.min(how.duration),
        width: how.width / 100.0,
    };
    if settings.min >= settings.max {
        return Err("--min-rate is below --max-rate".to_owned());
    }
    let mut run = |rate: f64, duration: Duration| {
        let load = Load { rate: Some(rate), duration: Some(duration), ..load.clone() };
        let report = circuit.run(&load, ends.drain);
        circuit.discard(ends.drain);
        report
    };
    let goals = [Goal { name: "ndr", loss: 0.0 }, Goal { name: "pdr", loss: how.partial / 100.0 }];
    let (found, trials) = search::search(&settings, &goals, |rate, duration| {
        let report = run(rate, duration);
        let (sent, lost) = report.sent.as_ref().zip(report.lost()).ok_or("a trial without a report")?;
        let achieved = sent.packets as f64 / sent.seconds.max(f64::MIN_POSITIVE);
        eprintln!(
            "  {achieved:12.0} packets a second for {:.2} s: {lost} of {} lost",
            sent.seconds, sent.packets
        );
        // The clock is read once a batch: what is sent differs a little from what was asked for.
        let rate = if achieved < rate * 0.98 { achieved } else { rate };
        Ok::<_, &str>(Trial { rate, duration, sent: sent.packets, lost })
    })?;
    let best = found.iter().find_map(|bounds| bounds.lower).map(|lower| lower.rate);
    let at_load = LOADS.iter().flat_map(|share| best.map(|best| (*share, run(best * share, how.duration))));
    let at_load = at_load.collect();
    Ok(SearchReport { flows: load.frames.flows.count(), frame_size, settings, found, trials, at_load })
}

fn run(arguments: &Arguments) -> Result<Outcome, String> {
    let mut ports = Ports::new(arguments.frames)?;
    let run_of = |report| Outcome::Run(Box::new(report));
    match &arguments.command {
        Command::Tx { port, traffic, amount } => transmit(&mut ports, port, traffic, amount).map(run_of),
        Command::Rx { port, duration, count } => receive(&mut ports, port, *duration, *count).map(run_of),
        Command::Loop { ends, traffic, amount } => {
            let (mut circuit, load) = open(&mut ports, ends, traffic)?;
            Ok(run_of(circuit.run(&amount.load(load.frames, load.macs), ends.drain)))
        }
        Command::Search { ends, traffic, search: how } => {
            let report = search(&mut ports, ends, traffic, how)?;
            Ok(Outcome::Search(Box::new(report)))
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = run(&arguments).and_then(|outcome| {
        match arguments.output {
            Output::Text => print!("{}", outcome.text()),
            Output::Json => println!("{}", outcome.json()),
        }
        let Some(path) = &arguments.plot else { return Ok(()) };
        std::fs::write(path, outcome.svg()?).map_err(|error| format!("{}: {error}", path.display()))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
