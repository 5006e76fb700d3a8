//! Sending, receiving, and the report about both.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;

use encap::MacAddr;
use serde_json::{Value, json};
use vrouter::clock;
use vrouter::ids::Timestamp;

use crate::endpoint::Endpoint;
use crate::flow::Flows;
use crate::stamp::Stamp;
use crate::tally::Tally;

/// Packets sent at a time.
const BATCH: u64 = 64;
/// Bytes of the frame check sequence, which no port shows.
const FCS: u64 = 4;

/// What to send, how fast, how long.
pub(crate) struct Load {
    /// The packets.
    pub(crate) flows: Flows,
    /// Destination and source MAC address.
    pub(crate) macs: (MacAddr, MacAddr),
    /// Packets a second; `None`: as fast as the port takes them.
    pub(crate) rate: Option<u64>,
    /// Packets in all.
    pub(crate) count: Option<u64>,
    /// Time in all.
    pub(crate) duration: Option<Duration>,
}

/// What a sender did.
struct Sent {
    packets: u64,
    bytes: u64,
    refused: u64,
    seconds: f64,
    kernel_lost: u64,
}

/// What a receiver saw.
struct Received {
    tally: Tally,
    seconds: f64,
    kernel_lost: u64,
}

/// The outcome of a run.
pub(crate) struct Report {
    flows: Option<u64>,
    sent: Option<Sent>,
    received: Option<Received>,
}

/// Sends.
pub(crate) fn transmit(endpoint: &mut Endpoint, load: &Load) -> Report {
    let sent = send(endpoint, load);
    Report { flows: Some(load.flows.count()), sent: Some(sent), received: None }
}

/// Receives for a time, or until `count` packets have come.
pub(crate) fn receive(endpoint: &mut Endpoint, duration: Duration, count: Option<u64>) -> Report {
    let start = clock::now();
    let received = collect(endpoint, |tally, _| {
        clock::now().since(start) >= duration || count.is_some_and(|count| tally.packets >= count)
    });
    Report { flows: None, sent: None, received: Some(received) }
}

/// Sends on one port while it receives on another.
pub(crate) fn round(from: &mut Endpoint, to: &mut Endpoint, load: &Load, drain: Duration) -> Report {
    let done = AtomicBool::new(false);
    let (sent, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let mut last = clock::now();
            collect(to, |_, moved| {
                let now = clock::now();
                if moved > 0 || !done.load(Relaxed) {
                    last = now;
                }
                now.since(last) >= drain
            })
        });
        let sent = send(from, load);
        done.store(true, Relaxed);
        (sent, receiver.join().expect("the receiver does not panic"))
    });
    Report { flows: Some(load.flows.count()), sent: Some(sent), received: Some(received) }
}

fn send(endpoint: &mut Endpoint, load: &Load) -> Sent {
    let start = clock::now();
    let mut sent = Sent { packets: 0, bytes: 0, refused: 0, seconds: 0.0, kernel_lost: 0 };
    let mut sequence = 0;
    loop {
        let now = clock::now();
        let elapsed = now.since(start);
        if load.duration.is_some_and(|duration| elapsed >= duration) {
            break;
        }
        let due =
            load.rate.map_or(u64::MAX, |rate| (elapsed.as_nanos() * u128::from(rate) / 1_000_000_000) as u64);
        let batch = due.min(load.count.unwrap_or(u64::MAX)).saturating_sub(sequence).min(BATCH);
        if load.count.is_some_and(|count| sequence >= count) {
            break;
        }
        if batch == 0 {
            core::hint::spin_loop();
            continue;
        }
        let first = sequence;
        let (packets, bytes) = endpoint.send(batch as usize, |out| {
            let len = load.flows.write(out, load.macs, &Stamp { sequence, sent_ns: now.0 });
            sequence += 1;
            len
        });
        sent.packets += packets;
        sent.bytes += bytes + packets * FCS;
        let refused = sequence - first - packets;
        if refused > 0 {
            // Whoever empties the port may need this core.
            sent.refused += refused;
            std::thread::yield_now();
        }
    }
    sent.seconds = clock::now().since(start).as_secs_f64();
    sent.kernel_lost = endpoint.kernel_losses().1;
    sent
}

fn collect(endpoint: &mut Endpoint, mut ended: impl FnMut(&Tally, usize) -> bool) -> Received {
    let mut tally = Tally::new();
    let mut first_to_last: Option<(Timestamp, Timestamp)> = None;
    loop {
        let now = clock::now();
        let before = tally.packets;
        let moved = endpoint.receive(|frame| match Stamp::find(frame) {
            Some(stamp) => {
                tally.take(stamp.sequence);
                tally.bytes += frame.len() as u64 + FCS;
                tally.latency.add(now.0.saturating_sub(stamp.sent_ns));
            }
            None => tally.foreign += 1,
        });
        if tally.packets > before {
            first_to_last = Some((first_to_last.map_or(now, |(first, _)| first), now));
        }
        if ended(&tally, moved) {
            break;
        }
    }
    let seconds = first_to_last.map_or(0.0, |(first, last)| last.since(first).as_secs_f64());
    let kernel_lost = endpoint.kernel_losses().0;
    Received { tally, seconds, kernel_lost }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

impl Report {
    /// Packets that were sent and did not arrive, where both sides are known.
    fn lost(&self) -> Option<u64> {
        let (sent, received) = (self.sent.as_ref()?, self.received.as_ref()?);
        Some(sent.packets.saturating_sub(received.tally.packets - received.tally.duplicates))
    }

    /// The report as JSON; `bench/README.md` explains the fields.
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
            let latency = &tally.latency;
            report["received"] = json!({
                "packets": tally.packets, "bytes": tally.bytes, "seconds": seconds,
                "packets_per_second": per_second(tally.packets, *seconds),
                "bits_per_second": per_second(tally.bytes * 8, *seconds),
                "missing": tally.missing(), "duplicates": tally.duplicates, "reordered": tally.reordered,
                "foreign": tally.foreign, "kernel_lost": kernel_lost,
                "latency_ns": {
                    "min": latency.least(), "p50": latency.quantile(0.5), "p90": latency.quantile(0.9),
                    "p99": latency.quantile(0.99), "p999": latency.quantile(0.999), "max": latency.most(),
                },
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
                "sent       {} packets in {:.3} s: {:.0} a second",
                sent.packets, sent.seconds, rate
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
                "           {} missing in sequence, {} duplicates, {} reordered, {} foreign, {kernel_lost} lost by the kernel",
                tally.missing(),
                tally.duplicates,
                tally.reordered,
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
