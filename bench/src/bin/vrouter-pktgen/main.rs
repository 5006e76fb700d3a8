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
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use circuit::Circuit;
use clap::Parser;
use cli::{Amount, Arguments, Command, Ends, Output, SearchOptions, Traffic};
use endpoint::{Direction, PortName, Ports};
use measure::Load;
use report::{Outcome, Report, SearchReport};
use search::{Goal, Trial};

/// Shares of the best rate found at which a search looks at the latency.
const LOADS: [f64; 3] = [0.1, 0.5, 0.9];

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
    let settings = how.settings(traffic.frames()?.mean_size())?;
    let (mut circuit, load) = open(ports, ends, traffic)?;
    let frame_size = load.frames.mean_size();
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
        Ok::<_, &str>(Trial { asked: rate, rate: achieved, duration, sent: sent.packets, lost })
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

/// The file that a plot goes to, made before anything is sent: what is in its way is said at once. An empty
/// one is removed again where nothing is drawn.
struct PlotFile {
    path: PathBuf,
    is_new: bool,
}

impl PlotFile {
    fn make(path: &Path) -> Result<Self, String> {
        let is_new = !path.exists();
        let opened = File::options().create(true).append(true).open(path);
        opened.map_err(|error| format!("--plot {}: {error}", path.display()))?;
        Ok(PlotFile { path: path.to_owned(), is_new })
    }

    fn write(mut self, text: &str) -> Result<(), String> {
        self.is_new = false;
        std::fs::write(&self.path, text).map_err(|error| format!("--plot {}: {error}", self.path.display()))
    }
}

impl Drop for PlotFile {
    fn drop(&mut self) {
        if self.is_new {
            // What the run failed with matters more.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn run_and_tell(arguments: &Arguments) -> Result<(), String> {
    if arguments.plot.is_some() && matches!(arguments.command, Command::Tx { .. }) {
        return Err("--plot: tx receives nothing to draw".to_owned());
    }
    let plot = arguments.plot.as_deref().map(PlotFile::make).transpose()?;
    let outcome = run(arguments)?;
    match arguments.output {
        Output::Text => print!("{}", outcome.text()),
        Output::Json => println!("{}", outcome.json()),
    }
    plot.map_or(Ok(()), |plot| plot.write(&outcome.svg()?))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run_and_tell(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
