//! Taking times, and telling them.

use std::time::Instant;

/// Passes over a trace.
const PASSES: usize = 9;
/// Lookups timed at once. The fastest of all passes counts for each slice: what disturbs the
/// machine for a while then spoils no result.
const SLICE: usize = 1 << 14;

/// Who is measured, and how results are written: one JSON object a line, or for people.
#[derive(Clone)]
pub(crate) struct Report {
    pub(crate) json: bool,
    pub(crate) who: String,
    pub(crate) family: u32,
    /// Routes in the table.
    pub(crate) routes: usize,
}

impl Report {
    pub(crate) fn of(&self, who: impl Into<String>) -> Self {
        Self { who: who.into(), ..self.clone() }
    }

    /// Measures `lookup` over slices of the trace, in millions of lookups a second.
    pub(crate) fn rate<A>(&self, traffic: &str, mode: &str, trace: &[A], lookup: impl FnMut(&[A])) {
        let rate = rate(trace, lookup);
        let Self { json, who, family, routes } = self;
        if *json {
            println!(
                "{{\"who\":\"{who}\",\"family\":{family},\"routes\":{routes},\"traffic\":\"{traffic}\",\
                 \"mode\":\"{mode}\",\"mlps\":{rate:.1}}}"
            );
        } else {
            println!("IPv{family}  {who:24} {mode:16} {traffic:12} {rate:9.1} M lookups/s");
        }
    }

    pub(crate) fn value(&self, what: &str, value: f64) {
        let Self { json, who, family, routes } = self;
        if *json {
            println!(
                "{{\"who\":\"{who}\",\"family\":{family},\"routes\":{routes},\"what\":\"{what}\",\
                 \"value\":{value:.4}}}"
            );
        } else {
            println!("IPv{family}  {who:24} {what:29} {value:15.3}");
        }
    }
}

/// Millions of lookups a second.
pub(crate) fn rate<A>(trace: &[A], mut lookup: impl FnMut(&[A])) -> f64 {
    let mut best = vec![f64::MAX; trace.len().div_ceil(SLICE)];
    for _ in 0..PASSES {
        for (slice, best) in trace.chunks(SLICE).zip(&mut best) {
            let start = Instant::now();
            lookup(slice);
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    trace.len() as f64 / best.iter().sum::<f64>() / 1e6
}
