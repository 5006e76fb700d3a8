//! Sending and receiving.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;

use encap::MacAddr;
use vrouter::clock;
use vrouter::ids::Timestamp;

use crate::endpoint::Endpoint;
use crate::frame::{FCS, Frames};
use crate::report::{Received, Report, Sent};
use crate::stamp::Stamp;
use crate::tally::Tally;

/// Packets sent at a time.
const BATCH: u64 = 64;
/// No path is that slow: such a time is that of another clock.
const LONGEST_LATENCY: Duration = Duration::from_secs(3600);

/// What to send, how fast, how long.
#[derive(Clone)]
pub(crate) struct Load {
    /// The packets.
    pub(crate) frames: Frames,
    /// Destination and source MAC address.
    pub(crate) macs: (MacAddr, MacAddr),
    /// Packets a second; `None`: as fast as the port takes them.
    pub(crate) rate: Option<f64>,
    /// Packets in all.
    pub(crate) count: Option<u64>,
    /// Time in all.
    pub(crate) duration: Option<Duration>,
}

/// Sends.
pub(crate) fn transmit(endpoint: &mut Endpoint, load: &Load) -> Report {
    let sent = send(endpoint, load, |_| ());
    Report { flows: Some(load.frames.flows.count()), sent: Some(sent), received: None }
}

/// Receives for a time, until `count` packets have come, or to the end of a file.
pub(crate) fn receive(endpoint: &mut Endpoint, duration: Option<Duration>, count: Option<u64>) -> Report {
    let start = clock::now();
    let received = collect(endpoint, |tally, _| {
        duration.is_some_and(|duration| clock::now().since(start) >= duration)
            || count.is_some_and(|count| tally.packets >= count)
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
        let sent = send(from, load, |_| ());
        done.store(true, Relaxed);
        (sent, receiver.join().expect("the receiver does not panic"))
    });
    Report { flows: Some(load.frames.flows.count()), sent: Some(sent), received: Some(received) }
}

/// Sends and receives on one port, behind which something sends the packets back.
pub(crate) fn reflection(endpoint: &mut Endpoint, load: &Load, drain: Duration) -> Report {
    let mut collector = Collector::new(endpoint);
    let sent = send(endpoint, load, |endpoint| {
        collector.take(endpoint);
    });
    let mut last = clock::now();
    while clock::now().since(last) < drain && !endpoint.has_ended() {
        if collector.take(endpoint) > 0 {
            last = clock::now();
        }
    }
    let received = Some(collector.finish(endpoint));
    Report { flows: Some(load.frames.flows.count()), sent: Some(sent), received }
}

/// Takes everything that is on its way, so that it does not count in what comes next, until nothing
/// came for a time. Where something comes for ever, it ends after ten times as long.
pub(crate) fn discard(endpoint: &mut Endpoint, quiet: Duration) {
    let start = clock::now();
    let mut last = start;
    loop {
        let now = clock::now();
        if endpoint.receive(now, |_, _| ()) > 0 {
            last = now;
        }
        if now.since(last) >= quiet || now.since(start) >= 10 * quiet {
            return;
        }
    }
}

/// Sends; calls `between` over and over meanwhile.
fn send(endpoint: &mut Endpoint, load: &Load, mut between: impl FnMut(&mut Endpoint)) -> Sent {
    let lost_before = endpoint.kernel_losses().1;
    let start = clock::now();
    let mut sent = Sent::default();
    let mut sequence = 0;
    loop {
        between(endpoint);
        let now = clock::now();
        let elapsed = now.since(start);
        if load.duration.is_some_and(|duration| elapsed >= duration) || endpoint.has_ended() {
            break;
        }
        let due = load.rate.map_or(u64::MAX, |rate| (elapsed.as_secs_f64() * rate) as u64);
        let batch = due.min(load.count.unwrap_or(u64::MAX)).saturating_sub(sequence).min(BATCH);
        if load.count.is_some_and(|count| sequence >= count) {
            break;
        }
        if batch == 0 {
            core::hint::spin_loop();
            continue;
        }
        let first = sequence;
        let (packets, bytes) = endpoint.send(batch as usize, now, |out| {
            let len = load.frames.write(out, load.macs, &Stamp { sequence, sent_ns: now.0 });
            let flow = load.frames.flows.number_of_packet(sequence);
            sequence += 1;
            (len, flow)
        });
        sent.packets += packets;
        sent.bytes += bytes + packets * FCS as u64;
        let refused = sequence - first - packets;
        if refused > 0 {
            // Whoever empties the port may need this core.
            sent.refused += refused;
            std::thread::yield_now();
        }
    }
    sent.seconds = clock::now().since(start).as_secs_f64();
    sent.kernel_lost = endpoint.kernel_losses().1 - lost_before;
    sent
}

/// What comes in, as it comes.
struct Collector {
    tally: Tally,
    first_to_last: Option<(Timestamp, Timestamp)>,
    lost_before: u64,
}

impl Collector {
    fn new(endpoint: &Endpoint) -> Self {
        Collector { tally: Tally::new(), first_to_last: None, lost_before: endpoint.kernel_losses().0 }
    }

    /// Takes what is there; returns how many frames that was.
    fn take(&mut self, endpoint: &mut Endpoint) -> usize {
        let Collector { tally, first_to_last, .. } = self;
        endpoint.receive(clock::now(), |frame, at| match Stamp::find(frame) {
            Some((stamp, flow)) => {
                tally.take(stamp.sequence, flow);
                tally.bytes += (frame.len() + FCS) as u64;
                // The time of receiving is read before a burst, so it may be a little earlier.
                if at.abs_diff(stamp.sent_ns) < LONGEST_LATENCY.as_nanos() as u64 {
                    tally.latency.add(at.saturating_sub(stamp.sent_ns));
                }
                let at = Timestamp(at);
                *first_to_last = Some((first_to_last.map_or(at, |(first, _)| first), at));
            }
            None => tally.foreign += 1,
        })
    }

    fn finish(self, endpoint: &Endpoint) -> Received {
        let seconds = self.first_to_last.map_or(0.0, |(first, last)| last.since(first).as_secs_f64());
        Received { tally: self.tally, seconds, kernel_lost: endpoint.kernel_losses().0 - self.lost_before }
    }
}

fn collect(endpoint: &mut Endpoint, mut ended: impl FnMut(&Tally, usize) -> bool) -> Received {
    let mut collector = Collector::new(endpoint);
    loop {
        let moved = collector.take(endpoint);
        if ended(&collector.tally, moved) || endpoint.has_ended() {
            return collector.finish(endpoint);
        }
    }
}
