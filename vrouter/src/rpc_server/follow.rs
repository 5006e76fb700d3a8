//! Traces and captures under way.
//!
//! ```text
//!   workers --records--> drain task (every 5 ms, while somebody follows)
//!                          | by slot
//!                          +--> follower 0 --bounded queue--> stream of a client
//!                          '--> follower 1 ...
//! ```
//!
//! Each follower has a filter in a slot of its own, so that one never sees what only
//! another asked for. A follower ends when it has all it wanted or its client went
//! away; its filter is taken out of force before the slot is given to another.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Mutex, mpsc};
use tonic::Status;

use crate::clock;
use crate::control::Event;
use crate::daemon::Node;
use crate::ids::{TRACE_SLOTS, Timestamp};
use crate::pipeline::trace::Record;
use crate::rpc::v1;
use crate::rpc_server::{capture, error, trace};
use crate::tables::TraceFilter;

/// How often records are taken from the workers: each has 256 of them.
const PERIOD: Duration = Duration::from_millis(5);
/// Items that wait for a slow client.
const QUEUE: usize = 1024;

/// Where a follower's packets go.
pub(super) enum Sink {
    Trace(mpsc::Sender<Result<v1::TraceRecord, Status>>),
    Capture(mpsc::Sender<Result<v1::CapturedPacket, Status>>, u32),
}

impl Sink {
    fn is_closed(&self) -> bool {
        match self {
            Sink::Trace(sender) => sender.is_closed(),
            Sink::Capture(sender, _) => sender.is_closed(),
        }
    }

    /// Sends a record on; `false` where the client is too slow.
    fn send(&self, node: &Node, record: &Record, timestamp_ns: u64, missed: u64) -> bool {
        match self {
            Sink::Trace(sender) => {
                sender.try_send(Ok(trace::show(node, record, timestamp_ns, missed))).is_ok()
            }
            Sink::Capture(sender, snaplen) => {
                sender.try_send(Ok(capture::show(node, record, timestamp_ns, missed, *snaplen))).is_ok()
            }
        }
    }
}

/// A queue for a stream's items.
pub(super) fn queue<T>() -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
    mpsc::channel(QUEUE)
}

struct Follower {
    filter: TraceFilter,
    sink: Sink,
    /// Packets still wanted; `None`: without end.
    left: Option<u64>,
    since: Timestamp,
    /// The workers' count of lost packets when the follower was last told.
    lost: u64,
    /// Packets that its client was too slow for, since it was last told.
    refused: u64,
}

/// All followers, by slot.
#[derive(Default)]
pub(super) struct Followers {
    slots: [Option<Follower>; TRACE_SLOTS],
    draining: bool,
}

impl Followers {
    fn filters(&self) -> Vec<TraceFilter> {
        self.slots.iter().flatten().map(|follower| follower.filter.clone()).collect()
    }
}

/// Begins to follow; `count`: how many packets, 0 for no end.
pub(super) async fn begin(
    followers: &Arc<Mutex<Followers>>,
    node: &Arc<Mutex<Node>>,
    mut filter: TraceFilter,
    count: u64,
    sink: Sink,
) -> Result<(), Status> {
    let mut all = followers.lock().await;
    let mut locked = node.lock().await;
    let slot = all.slots.iter().position(Option::is_none).ok_or_else(|| {
        Status::failed_precondition(format!("{TRACE_SLOTS} traces and captures are under way: end one first"))
    })?;
    filter.slot = slot as u8;
    all.slots[slot] = Some(Follower {
        filter,
        sink,
        left: (count > 0).then_some(count),
        since: clock::now(),
        lost: lost(&locked, slot),
        refused: 0,
    });
    if let Err(error) = put_in_force(&all, &mut locked) {
        all.slots[slot] = None;
        return Err(error);
    }
    drop(locked);
    if !all.draining {
        all.draining = true;
        tokio::spawn(drain(followers.clone(), node.clone()));
    }
    Ok(())
}

fn put_in_force(all: &Followers, node: &mut Node) -> Result<(), Status> {
    let committed = node.router.apply(Event::SetTrace(all.filters())).and_then(|()| node.router.commit());
    committed.map(drop).map_err(|refused| error::status(&refused.into()))
}

/// Packets that the filter in `slot` may have wanted and that were lost.
fn lost(node: &Node, slot: usize) -> u64 {
    node.router.workers().iter().map(|worker| worker.counters.run.trace_lost[slot].get()).sum()
}

/// Hands records to followers until none is left.
async fn drain(followers: Arc<Mutex<Followers>>, node: Arc<Mutex<Node>>) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let mut all = followers.lock().await;
        let mut node = node.lock().await;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = (since_epoch.as_nanos() as u64).saturating_sub(clock::now().0);
        while let Some(record) = node.router.next_record() {
            for (slot, follower) in all.slots.iter_mut().enumerate() {
                if record.wanted_by >> slot & 1 == 1
                    && let Some(follower) = follower
                {
                    follower.take(&node, &record, slot, boot);
                }
            }
            node.router.recycle(record);
        }
        let before = all.filters().len();
        for slot in &mut all.slots {
            slot.take_if(|follower| follower.left == Some(0) || follower.sink.is_closed());
        }
        if all.filters().len() < before
            && let Err(error) = put_in_force(&all, &mut node)
        {
            tracing::error!("trace: {error}");
        }
        if all.slots.iter().all(Option::is_none) {
            all.draining = false;
            return;
        }
    }
}

impl Follower {
    fn take(&mut self, node: &Node, record: &Record, slot: usize, boot: u64) {
        // What came before is of a former holder of the slot.
        if record.at < self.since || self.left == Some(0) {
            return;
        }
        let lost = lost(node, slot);
        let missed = lost - self.lost.min(lost) + self.refused;
        if !self.sink.send(node, record, boot + record.at.0, missed) {
            self.refused += 1;
            return;
        }
        self.lost = lost;
        self.refused = 0;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
    }
}
