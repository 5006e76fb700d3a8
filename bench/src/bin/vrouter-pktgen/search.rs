//! The search for the highest rate at which no more than a given share of the packets is lost.
//!
//! | method | what it does |
//! |---|---|
//! | RFC 2544 (26.1) | begins at the highest rate, then halves what is left between the rates that a goal allows and those it does not, each trial in full length |
//! | MLRsearch (FD.io's, the IETF's bmwg describes it) | several phases: short trials and wide intervals first, the full length and the final width last; a trial serves all goals; each phase begins at the bounds of the one before |
//!
//! A rate is a *lower bound* of a goal where a trial lost no more than the goal allows and no trial
//! at that rate or below it lost more; the lowest rate that lost more is the *upper bound*. Paths that
//! lose irregularly therefore get a careful answer. What counts is the rate that was achieved, never the one
//! that was asked for: a generator that falls behind does not make its path look faster. The search knows nothing of packets: it asks a
//! closure for trials, so that tests can put a known path in its place.

use core::time::Duration;

/// What the search looks for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Goal {
    /// Its name in reports: `ndr`, `pdr`.
    pub(crate) name: &'static str,
    /// The share of lost packets that is allowed, 0 to 1.
    pub(crate) loss: f64,
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Trial {
    /// Packets a second that were asked for.
    pub(crate) asked: f64,
    /// Packets a second that were sent.
    pub(crate) rate: f64,
    /// How long was sent.
    pub(crate) duration: Duration,
    /// Packets sent.
    pub(crate) sent: u64,
    /// Packets that did not arrive.
    pub(crate) lost: u64,
}

impl Trial {
    /// The share of packets that did not arrive.
    pub(crate) fn loss(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { self.lost as f64 / self.sent as f64 }
    }
}

/// How trials are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Method {
    /// Bisection in full length.
    Rfc2544,
    /// Phases of growing length.
    Mlr,
}

impl Method {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Rfc2544 => "rfc2544",
            Method::Mlr => "mlr",
        }
    }
}

/// Bounds of the search.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Settings {
    /// The method.
    pub(crate) method: Method,
    /// The lowest rate that is tried.
    pub(crate) min: f64,
    /// The highest rate that is tried.
    pub(crate) max: f64,
    /// Length of the trials that decide.
    pub(crate) duration: Duration,
    /// Length of the first trials of MLRsearch.
    pub(crate) first_duration: Duration,
    /// The distance of the bounds at the end, as a share of the upper one.
    pub(crate) width: f64,
}

/// What was found for a goal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Bounds {
    /// The goal.
    pub(crate) goal: Goal,
    /// The highest rate that meets it; `None`: not even the lowest rate tried does.
    pub(crate) lower: Option<Trial>,
    /// The lowest rate that does not; `None`: even the highest rate tried meets it.
    pub(crate) upper: Option<Trial>,
}

/// Phases of MLRsearch.
const PHASES: u32 = 3;
/// A generator that achieves less than this share of what it is asked for is at its limit.
const ABLE: f64 = 0.98;
/// Trials of one phase for one goal: far more than any path needs that answers at all alike.
const MOST_TRIALS: usize = 64;

/// Runs trials until the bounds of each goal are close enough. Returns them in the order of the
/// goals, with all trials in the order of their running.
///
/// # Errors
/// What a trial failed with.
pub(crate) fn search<E>(
    settings: &Settings,
    goals: &[Goal],
    mut trial: impl FnMut(f64, Duration) -> Result<Trial, E>,
) -> Result<(Vec<Bounds>, Vec<Trial>), E> {
    let mut all = Vec::new();
    let mut found: Vec<Bounds> =
        goals.iter().map(|goal| Bounds { goal: *goal, lower: None, upper: None }).collect();
    let mut max = settings.max;
    let phases = if settings.method == Method::Rfc2544 { 1 } else { PHASES };
    for phase in 1..=phases {
        let left = phases - phase;
        let width = settings.width * f64::from(1 << left);
        let duration = length(settings, left, phases);
        // Bounds count only with trials of this length.
        let mut trials: Vec<Trial> = Vec::new();
        for bounds in &mut found {
            let before = *bounds;
            for _ in 0..MOST_TRIALS {
                *bounds = bounds_of(before.goal, &trials);
                let limits = (settings.min, max);
                let next = match settings.method {
                    Method::Rfc2544 => bisection(bounds, limits, width),
                    Method::Mlr => next_rate(bounds, &before, &trials, limits, width),
                };
                let tried = |rate: f64| trials.iter().any(|trial| is_same(trial.asked, rate));
                let Some(rate) = next.filter(|rate| !tried(*rate)) else {
                    break;
                };
                let measured = trial(rate, duration)?;
                if measured.rate < rate * ABLE {
                    // The generator is not able to do more.
                    max = max.min(measured.rate).max(settings.min);
                }
                trials.push(measured);
                all.push(measured);
            }
        }
    }
    Ok((found, all))
}

/// The length of trials with so many phases to come: from the first to the last in equal ratios.
fn length(settings: &Settings, left: u32, phases: u32) -> Duration {
    if left == 0 {
        return settings.duration;
    }
    let (first, last) = (settings.first_duration.as_secs_f64(), settings.duration.as_secs_f64());
    Duration::from_secs_f64(last * (first / last).powf(f64::from(left) / f64::from(phases - 1)))
}

fn bounds_of(goal: Goal, trials: &[Trial]) -> Bounds {
    let by_rate = |a: &&Trial, b: &&Trial| a.rate.total_cmp(&b.rate);
    let upper = trials.iter().filter(|trial| trial.loss() > goal.loss).min_by(by_rate).copied();
    let below =
        |trial: &&Trial| trial.loss() <= goal.loss && upper.is_none_or(|upper| trial.rate < upper.rate);
    Bounds { goal, lower: trials.iter().filter(below).max_by(by_rate).copied(), upper }
}

/// Whether rates differ by rounding only.
fn is_same(one: f64, other: f64) -> bool {
    (one / other - 1.0).abs() < 1e-6
}

/// Whether a trial was at a limit of the rates, or beyond: asked for, or achieved.
fn is_at(trial: Trial, limit: f64) -> bool {
    is_same(trial.asked, limit) || is_same(trial.rate, limit)
}

/// The rate that RFC 2544 tries next; `None`: the bounds are close enough, or are limits.
fn bisection(now: &Bounds, (min, max): (f64, f64), width: f64) -> Option<f64> {
    match (now.lower, now.upper) {
        (None, None) => Some(max),
        (Some(lower), None) => (!is_at(lower, max) && lower.rate < max).then_some(max),
        (None, Some(upper)) if is_at(upper, min) || upper.rate < min => None,
        (None, Some(upper)) if 1.0 - min / upper.rate <= width => Some(min),
        (None, Some(upper)) => Some((min + upper.rate) / 2.0),
        (Some(lower), Some(upper)) if 1.0 - lower.rate / upper.rate <= width => None,
        (Some(lower), Some(upper)) => Some((lower.rate + upper.rate) / 2.0),
    }
}

/// The rate that MLRsearch tries next; `None`: the bounds are close enough, or no rate within the limits
/// is left.
fn next_rate(
    now: &Bounds,
    before: &Bounds,
    trials: &[Trial],
    (min, max): (f64, f64),
    width: f64,
) -> Option<f64> {
    let untried = |rate: f64| !trials.iter().any(|trial| is_same(trial.asked, rate));
    let earlier = |trial: Option<Trial>| trial.map(|trial| trial.rate.clamp(min, max));
    // Beside a bound that held before, one of the final distance away is tried, then twice that, ...
    let step = 1.0 - width * f64::from(1u32 << trials.len().min(16));
    match (now.lower, now.upper) {
        (None, None) => Some(earlier(before.lower).unwrap_or(max)),
        (Some(lower), None) if is_at(lower, max) || lower.rate > max => None,
        (Some(lower), None) => {
            let guess = earlier(before.upper).filter(|rate| *rate > lower.rate && untried(*rate));
            Some(guess.unwrap_or_else(|| (lower.rate / step.max(0.5)).min(max)))
        }
        (None, Some(upper)) if is_at(upper, min) || upper.rate < min => None,
        (None, Some(upper)) => {
            let guess = earlier(before.lower).filter(|rate| *rate < upper.rate && untried(*rate));
            Some(guess.unwrap_or_else(|| (upper.rate * step.max(0.5)).max(min)))
        }
        (Some(lower), Some(upper)) if 1.0 - lower.rate / upper.rate <= width => None,
        (Some(lower), Some(upper)) => Some((lower.rate * upper.rate).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vrouter_bench::random::Random;

    const GOALS: [Goal; 2] = [Goal { name: "ndr", loss: 0.0 }, Goal { name: "pdr", loss: 0.005 }];

    fn settings(method: Method, width: f64) -> Settings {
        let (duration, first_duration) = (Duration::from_secs(30), Duration::from_secs(1));
        Settings { method, min: 1e3, max: 14.88e6, duration, first_duration, width }
    }

    /// A path that loses everything above its capacity.
    fn path(capacity: f64) -> impl Fn(f64, Duration) -> Result<Trial, ()> {
        move |rate, duration| {
            let sent = (rate * duration.as_secs_f64()) as u64;
            let lost = sent.saturating_sub((capacity * duration.as_secs_f64()) as u64);
            Ok(Trial { asked: rate, rate, duration, sent, lost })
        }
    }

    #[test]
    fn both_methods_find_the_capacity_of_a_path() {
        let mut random = Random::new(3);
        for _ in 0..300 {
            let capacity = 2e3 + random.unit().powi(3) * 14e6;
            let mut lengths = Vec::new();
            for method in [Method::Rfc2544, Method::Mlr] {
                let settings = settings(method, 0.005);
                let (found, trials) = search(&settings, &GOALS, path(capacity)).unwrap();
                for (bounds, truth) in found.iter().zip([capacity, capacity / 0.995]) {
                    let lower = bounds.lower.unwrap();
                    assert!(lower.rate <= truth * 1.0001, "{method:?} {bounds:?} {capacity}");
                    assert!(lower.rate >= truth * (1.0 - 0.0051), "{method:?} {bounds:?} {capacity}");
                    assert!(bounds.upper.is_none_or(|upper| upper.rate >= truth * 0.9999), "{bounds:?}");
                    assert_eq!(lower.duration, settings.duration, "the final length decides");
                }
                lengths.push(trials.iter().map(|trial| trial.duration.as_secs_f64()).sum::<f64>());
            }
            assert!(lengths[1] <= lengths[0] * 1.3, "phases save time: {lengths:?} for {capacity}");
        }
    }

    #[test]
    fn limits_are_answers_too() {
        for method in [Method::Rfc2544, Method::Mlr] {
            let settings = settings(method, 0.01);
            let (found, _) = search(&settings, &GOALS, path(1e9)).unwrap();
            assert!(
                found
                    .iter()
                    .all(|bounds| bounds.lower.unwrap().rate == settings.max && bounds.upper.is_none())
            );
            let (found, _) = search(&settings, &GOALS, path(10.0)).unwrap();
            assert!(
                found.iter().all(|bounds| bounds.lower.is_none() && bounds.upper.unwrap().rate <= 1001.0)
            );
        }
    }

    #[test]
    fn a_slow_generator_is_the_limit() {
        let able = |rate: f64, duration: Duration| {
            path(5e6)(rate.min(2e6), duration).map(|trial| Trial { asked: rate, ..trial })
        };
        let (found, trials) = search(&settings(Method::Mlr, 0.005), &GOALS, able).unwrap();
        assert!(found.iter().all(|bounds| bounds.lower.unwrap().rate == 2e6 && bounds.upper.is_none()));
        assert!(trials.len() < 12, "{trials:?}");
    }

    /// What is asked for is no answer: this generator always sends a little less, and never quite the same.
    #[test]
    fn a_generator_that_falls_behind_is_judged_by_what_it_sends() {
        let mut random = Random::new(5);
        for _ in 0..300 {
            let capacity = 2e3 + random.unit().powi(3) * 14e6;
            for method in [Method::Rfc2544, Method::Mlr] {
                let behind = |rate: f64, duration: Duration| {
                    path(capacity)(rate * (0.981 + 0.018 * random.unit()), duration)
                        .map(|trial| Trial { asked: rate, ..trial })
                };
                let settings = settings(method, 0.005);
                let (found, trials) = search(&settings, &GOALS, behind).unwrap();
                for (bounds, truth) in found.iter().zip([capacity, capacity / 0.995]) {
                    let lower = bounds.lower.unwrap();
                    assert!(lower.rate <= truth * 1.0001, "{method:?} {bounds:?} {capacity}");
                    // No closer than what is asked for is hit.
                    assert!(lower.rate >= truth * 0.95, "{method:?} {bounds:?} {capacity}");
                }
                assert!(trials.len() < 60, "{method:?}: {} trials", trials.len());
            }
        }
    }

    #[test]
    fn rfc2544_halves_what_is_left_below_the_highest_rate() {
        let settings = Settings { min: 0.0001, max: 16e6, ..settings(Method::Rfc2544, 0.1) };
        let (found, trials) = search(&settings, &GOALS[..1], path(5.1e6)).unwrap();
        let asked: Vec<f64> = trials.iter().map(|trial| (trial.asked / 1e5).round() / 10.0).collect();
        assert_eq!(asked, [16.0, 8.0, 4.0, 6.0, 5.0, 5.5]);
        assert!((found[0].lower.unwrap().rate - 5e6).abs() < 1.0);
        assert!(trials.iter().all(|trial| trial.duration == settings.duration));
    }

    #[test]
    fn irregular_loss_ends_and_gives_a_careful_answer() {
        let mut random = Random::new(11);
        for _ in 0..100 {
            let mut noise = Random::new(random.next() | 1);
            let irregular =
                |rate: f64, duration: Duration| {
                    path(1e6)(if noise.unit() < 0.1 { rate + 2e6 } else { rate }, duration)
                        .map(|trial| Trial { asked: rate, rate, ..trial })
                };
            for bounds in search(&settings(Method::Mlr, 0.005), &GOALS, irregular).unwrap().0 {
                if let (Some(lower), Some(upper)) = (bounds.lower, bounds.upper) {
                    assert!(lower.rate < upper.rate);
                }
                assert!(bounds.lower.is_none_or(|lower| lower.rate <= 1.006e6));
            }
        }
    }

    #[test]
    fn a_failing_trial_ends_the_search() {
        let failing = |_, _| Err::<Trial, _>("gone");
        assert_eq!(search(&settings(Method::Mlr, 0.01), &GOALS, failing).unwrap_err(), "gone");
    }
}
