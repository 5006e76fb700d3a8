//! The threads that look up and judge.

use super::mix::Mix;
use fib::{Fib, NO_ROUTE};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vrouter::publish::Subscriber;
use vrouter::tables::Tables;

pub(crate) const READERS: usize = 2;

/// What a reader looks into.
pub(crate) trait View: Send + Sync {
    fn fib(&self) -> &Fib<Ipv4Addr>;
    /// The number of the next hop that a group leads to.
    fn next_hop(&self, group: u32) -> Option<u8>;
}

impl View for Fib<Ipv4Addr> {
    fn fib(&self) -> &Fib<Ipv4Addr> {
        self
    }

    fn next_hop(&self, group: u32) -> Option<u8> {
        u8::try_from(group).ok()
    }
}

impl View for Tables {
    fn fib(&self) -> &Fib<Ipv4Addr> {
        &self.fib4
    }

    fn next_hop(&self, group: u32) -> Option<u8> {
        let adjacency = self.groups.get(group as usize)?.pick(|| 0);
        match self.adjacencies[adjacency.index()].next_hop? {
            IpAddr::V4(next_hop) => next_hop.octets()[3].checked_sub(2),
            IpAddr::V6(_) => None,
        }
    }
}

/// A counter in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

/// What the writer and the readers have in common.
pub(crate) struct Stage {
    readers: usize,
    stop: AtomicBool,
    loading: AtomicBool,
    answers: [Counter; READERS],
}

impl Stage {
    /// For so many readers. While `loading`, holes are in order, until the table is said to be [`loaded`](Self::loaded).
    pub(crate) fn new(readers: usize, loading: bool) -> Self {
        let (stop, loading) = (AtomicBool::new(false), AtomicBool::new(loading));
        Self { readers, stop, loading, answers: Default::default() }
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.iter().map(|answers| answers.0.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn loaded(&self) {
        self.loading.store(false, Ordering::SeqCst);
    }

    /// Waits until every reader has judged bursts that began after this call.
    pub(crate) fn await_readers(&self) {
        let before = self.answers.each_ref().map(|answers| answers.0.load(Ordering::SeqCst));
        for (answers, before) in self.answers.iter().zip(before).take(self.readers) {
            while answers.0.load(Ordering::SeqCst) < before + 3 * 64 {
                std::thread::yield_now();
            }
        }
    }

    /// Looks up and judges, burst by burst, until told to stop. At the first wrong answer the program ends.
    pub(crate) fn read<V: View>(
        &self,
        number: usize,
        mut subscriber: Subscriber<V>,
        mix: &Mix,
    ) -> Subscriber<V> {
        subscriber.online();
        let bursts = mix.probes.as_chunks::<64>().0;
        let mut told = [NO_ROUTE; 64];
        for at in (0..bursts.len()).cycle().skip(number * bursts.len() / READERS) {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // Before the lookup: what it finds is judged by what held then.
            let loading = self.loading.load(Ordering::SeqCst);
            subscriber.refresh();
            let view = subscriber.tables();
            view.fib().lookup_burst(&bursts[at], u64::MAX, &mut told);
            for (lane, told) in told.into_iter().enumerate() {
                let told = if told == NO_ROUTE { None } else { view.next_hop(told) };
                let probe = 64 * at + lane;
                if !mix.allows(probe, told, loading) {
                    fail(&mix.probes[probe], told);
                }
            }
            self.answers[number].0.fetch_add(64, Ordering::SeqCst);
        }
        subscriber.offline();
        subscriber
    }
}

#[cold]
fn fail(probe: &Ipv4Addr, told: Option<u8>) -> ! {
    eprintln!("wrong answer: {probe} was told next hop {told:?}");
    std::process::exit(1);
}
