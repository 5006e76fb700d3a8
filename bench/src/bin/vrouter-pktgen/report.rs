//! What came of it, for people and for programs.

use core::fmt::Write;

use serde_json::{Value, json};

use crate::plot::{self, Axis, Series};
use crate::search::{Bounds, Settings, Trial};
use crate::tally::Tally;

/// What a sender did.
#[derive(Default)]
pub(crate) struct Sent {
    /// Packets that the port took.
    pub(crate) packets: u64,
    /// Their bytes, FCS included.
    pub(crate) bytes: u64,
    /// Packets that the port did not take.
    pub(crate) refused: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
    /// Descriptors that the kernel refused.
    pub(crate) kernel_lost: u64,
}

/// What a receiver saw.
pub(crate) struct Received {
    /// Its packets.
    pub(crate) tally: Tally,
    /// From the first to the last.
    pub(crate) seconds: f64,
    /// Lost on the kernel's side of the port.
    pub(crate) kernel_lost: u64,
}

/// The outcome of a run.
pub(crate) struct Report {
    /// Different flows that were sent.
    pub(crate) flows: Option<u64>,
    /// The sender's side.
    pub(crate) sent: Option<Sent>,
    /// The receiver's side.
    pub(crate) received: Option<Received>,
}

/// The outcome of a search.
pub(crate) struct SearchReport {
    /// Different flows that were sent.
    pub(crate) flows: u64,
    /// Mean frame size in bytes, FCS included.
    pub(crate) frame_size: f64,
    /// How it was searched.
    pub(crate) settings: Settings,
    /// What was found, by goal.
    pub(crate) found: Vec<Bounds>,
    /// All trials, in their order.
    pub(crate) trials: Vec<Trial>,
    /// Runs at a share of the best rate found, for the latency there.
    pub(crate) at_load: Vec<(f64, Report)>,
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

impl Report {
    /// Packets that were sent and did not arrive, where both sides are known.
    pub(crate) fn lost(&self) -> Option<u64> {
        let (sent, received) = (self.sent.as_ref()?, self.received.as_ref()?);
        Some(sent.packets.saturating_sub(received.tally.packets - received.tally.duplicates))
    }

    /// The report as JSON; `bench/pktgen.schema.json` describes it.
    pub(crate) fn json(&self) -> Value {
        let mut report = json!({ "schema": 1 });
        if let Some(flows) = self.flows {
            report["flows"] = flows.into();
        }
        if let Some(sent) = &self.sent {
            report["sent"] = json!({
                "packets": sent.packets, "bytes": sent.bytes, "refused": sent.refused, "seconds": sent.seconds,
                "packets_per_second": per_second(sent.packets, sent.seconds),
                "bits_per_second": per_second(sent.bytes * 8, sent.seconds),
                "kernel_lost": sent.kernel_lost,
            });
        }
        if let Some(Received { tally, seconds, kernel_lost }) = &self.received {
            report["received"] = json!({
                "packets": tally.packets, "bytes": tally.bytes, "seconds": seconds,
                "packets_per_second": per_second(tally.packets, *seconds),
                "bits_per_second": per_second(tally.bytes * 8, *seconds),
                "missing": tally.missing(), "duplicates": tally.duplicates, "reordered": tally.reordered,
                "reordered_in_flow": tally.reordered_in_flow,
                "foreign": tally.foreign, "kernel_lost": kernel_lost,
                "latency_ns": latency(tally),
            });
        }
        if let Some(lost) = self.lost() {
            report["lost"] = lost.into();
        }
        report
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        if let Some(sent) = &self.sent {
            let rate = per_second(sent.packets, sent.seconds);
            let _ = writeln!(
                out,
                "sent       {} packets in {:.3} s: {rate:.0} a second",
                sent.packets, sent.seconds
            );
            if sent.refused > 0 {
                let _ = writeln!(out, "           {} refused by the port", sent.refused);
            }
        }
        if let Some(Received { tally, seconds, kernel_lost }) = &self.received {
            let rate = per_second(tally.packets, *seconds);
            let _ =
                writeln!(out, "received   {} packets in {seconds:.3} s: {rate:.0} a second", tally.packets);
            let _ = writeln!(
                out,
                "           {} missing in sequence, {} duplicates, {} reordered ({} within their flow), \
                 {} foreign, {kernel_lost} lost by the kernel",
                tally.missing(),
                tally.duplicates,
                tally.reordered,
                tally.reordered_in_flow,
                tally.foreign
            );
            let us = |ns: Option<u64>| ns.map_or("-".to_owned(), |ns| format!("{:.1}", ns as f64 / 1000.0));
            let at = |share| us(tally.latency.quantile(share));
            let _ = writeln!(
                out,
                "latency    min {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {} us",
                us(tally.latency.least()),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                us(tally.latency.most())
            );
        }
        if let (Some(lost), Some(sent)) = (self.lost(), &self.sent) {
            let share = 100.0 * lost as f64 / sent.packets.max(1) as f64;
            let _ = writeln!(out, "lost       {lost} of {} ({share:.4} %)", sent.packets);
        }
        out
    }
}

fn latency(tally: &Tally) -> Value {
    let latency = &tally.latency;
    json!({
        "min": latency.least(), "p50": latency.quantile(0.5), "p90": latency.quantile(0.9),
        "p99": latency.quantile(0.99), "p999": latency.quantile(0.999), "max": latency.most(),
        "histogram": latency.buckets().map(|(longest, count)| json!([longest, count])).collect::<Value>(),
    })
}

impl SearchReport {
    /// The report as JSON; `bench/pktgen.schema.json` describes it.
    pub(crate) fn json(&self) -> Value {
        let trial = |trial: &Trial| {
            json!({
                "packets_per_second": trial.rate, "seconds": trial.duration.as_secs_f64(),
                "sent": trial.sent, "lost": trial.lost, "loss_ratio": trial.loss(),
            })
        };
        let goals = self.found.iter().map(|bounds| {
            json!({
                "name": bounds.goal.name, "loss_ratio": bounds.goal.loss,
                "packets_per_second": bounds.lower.map(|lower| lower.rate),
                "bits_per_second": bounds.lower.map(|lower| lower.rate * self.frame_size * 8.0),
                "lower": bounds.lower.as_ref().map(trial), "upper": bounds.upper.as_ref().map(trial),
            })
        });
        let at_load =
            self.at_load.iter().map(|(share, report)| json!({ "share": share, "report": report.json() }));
        json!({
            "schema": 1, "flows": self.flows, "frame_size": self.frame_size,
            "method": self.settings.method.name(), "width": self.settings.width,
            "goals": goals.collect::<Value>(), "trials": self.trials.iter().map(trial).collect::<Value>(), "at_load": at_load.collect::<Value>(),
        })
    }

    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{} trials by {}, {} flows, frames of {:.0} bytes",
            self.trials.len(),
            self.settings.method.name(),
            self.flows,
            self.frame_size
        );
        for bounds in &self.found {
            let name = format!("{} ({} % lost)", bounds.goal.name.to_uppercase(), bounds.goal.loss * 100.0);
            let _ = match (&bounds.lower, &bounds.upper) {
                (Some(lower), Some(upper)) => writeln!(
                    out,
                    "{name:20}{:.0} packets a second, {:.3} Gbit/s; at {:.0} it is {:.3} %",
                    lower.rate,
                    lower.rate * self.frame_size * 8e-9,
                    upper.rate,
                    upper.loss() * 100.0
                ),
                (Some(lower), None) => {
                    writeln!(out, "{name:20}at least {:.0} packets a second: more was not sent", lower.rate)
                }
                (None, _) => {
                    writeln!(out, "{name:20}less than {:.0} packets a second", self.settings.min)
                }
            };
        }
        for (share, report) in &self.at_load {
            if let Some(received) = &report.received {
                let us =
                    |share| received.tally.latency.quantile(share).map_or(f64::NAN, |ns| ns as f64 / 1e3);
                let _ = writeln!(
                    out,
                    "latency at {:3.0} %    p50 {:.1}, p99 {:.1}, p99.9 {:.1} us",
                    share * 100.0,
                    us(0.5),
                    us(0.99),
                    us(0.999)
                );
            }
        }
        out
    }
}

/// What there is to print.
pub(crate) enum Outcome {
    /// Of tx, rx and loop.
    Run(Box<Report>),
    /// Of search.
    Search(Box<SearchReport>),
}

impl Outcome {
    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        match self {
            Outcome::Run(report) => report.json(),
            Outcome::Search(report) => report.json(),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        match self {
            Outcome::Run(report) => report.text(),
            Outcome::Search(report) => report.text(),
        }
    }

    /// As a plot.
    ///
    /// # Errors
    /// Nothing was received: there is nothing to draw.
    pub(crate) fn svg(&self) -> Result<String, String> {
        match self {
            Outcome::Run(report) => {
                let received = report.received.as_ref().ok_or("--plot: tx receives nothing to draw")?;
                Ok(draw_latencies(&[("packets".to_owned(), &received.tally)]))
            }
            Outcome::Search(report) => Ok(draw_trials(report)),
        }
    }
}

/// The share of packets that took longer than a time.
fn draw_latencies(tallies: &[(String, &Tally)]) -> String {
    let series: Vec<Series> = tallies
        .iter()
        .map(|(name, tally)| {
            let total: u64 = tally.latency.buckets().map(|(_, count)| count).sum();
            let mut left = total;
            let points = tally.latency.buckets().map(|(longest, count)| {
                let share = left as f64 / total as f64;
                left -= count;
                (longest as f64 / 1000.0, share)
            });
            Series { name: name.clone(), points: points.collect(), line: true }
        })
        .collect();
    let axis = |title: &str| Axis { title: title.to_owned(), logarithmic: true };
    plot::svg("latency", &axis("latency, us"), &axis("share of packets that took at least that"), &series)
}

/// Every trial: its rate and what it lost.
fn draw_trials(report: &SearchReport) -> String {
    let points = |lossy: bool| {
        let trials = report.trials.iter().filter(move |trial| (trial.lost > 0) == lossy);
        trials.map(|trial| (trial.rate, trial.loss() * 100.0)).collect()
    };
    let mut series = vec![
        Series { name: "trials without loss".to_owned(), points: points(false), line: false },
        Series { name: "trials with loss".to_owned(), points: points(true), line: false },
    ];
    let most = report.trials.iter().map(|trial| trial.loss() * 100.0).fold(0.0, f64::max);
    series.extend(report.found.iter().filter_map(|bounds| {
        let rate = bounds.lower?.rate;
        let name = format!("{} {rate:.0} packets a second", bounds.goal.name);
        Some(Series { name, points: vec![(rate, 0.0), (rate, most)], line: true })
    }));
    let axis = |title: &str| Axis { title: title.to_owned(), logarithmic: false };
    plot::svg("rate and loss", &axis("packets a second"), &axis("lost, %"), &series)
}
