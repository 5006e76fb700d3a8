//! Metric families as values, and their text (OpenMetrics 1.0).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Labels of a sample, by name.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One metric name with all its samples.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Debug)]
enum Samples {
    Counters(Vec<(Labels, u64)>),
    Seconds(Vec<(Labels, f64)>),
    Gauges(Vec<(Labels, i64)>),
}

impl Family {
    /// Numbers that only grow; `_total` is appended to the name.
    pub(super) fn counter(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Self {
        Family { name, help, samples: Samples::Counters(samples.into_iter().collect()) }
    }

    /// Seconds that only grow; `_total` is appended to the name.
    pub(super) fn seconds(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) -> Self {
        Family { name, help, samples: Samples::Seconds(samples.into_iter().collect()) }
    }

    /// Numbers that go up and down.
    pub(super) fn gauge(
        name: &'static str,
        help: &'static str,
        samples: impl IntoIterator<Item = (Labels, u64)>,
    ) -> Self {
        let whole = |(labels, value)| (labels, i64::try_from(value).unwrap_or(i64::MAX));
        Family { name, help, samples: Samples::Gauges(samples.into_iter().map(whole).collect()) }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        match &self.samples {
            Samples::Counters(samples) => self.each(encoder, samples, MetricType::Counter, ConstCounter::new),
            Samples::Seconds(samples) => self.each(encoder, samples, MetricType::Counter, ConstCounter::new),
            Samples::Gauges(samples) => self.each(encoder, samples, MetricType::Gauge, ConstGauge::new),
        }
    }

    fn each<V: Copy, M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        samples: &[(Labels, V)],
        kind: MetricType,
        metric: impl Fn(V) -> M,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        if let [(labels, value)] = samples
            && labels.is_empty()
        {
            return metric(*value).encode(family);
        }
        for (labels, value) in samples {
            metric(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// The text of families, each name behind `vrouter_`.
///
/// # Errors
/// None that writing into memory could meet.
pub(super) fn encode(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("vrouter");
    registry.register_collector(Box::new(Scrape(families)));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_each_kind() {
        let port = |name: &str| vec![("port", name.to_owned())];
        let families = vec![
            Family::counter("drops", "Packets dropped", [(port("eth\"1"), 3), (port("b"), 0)]),
            Family::seconds("busy_seconds", "Time", [(vec![], 0.5)]),
            Family::gauge("frames", "Frames", [(vec![], 16384)]),
        ];
        let expected = "\
# HELP vrouter_drops Packets dropped
# TYPE vrouter_drops counter
vrouter_drops_total{port=\"eth\\\"1\"} 3
vrouter_drops_total{port=\"b\"} 0
# HELP vrouter_busy_seconds Time
# TYPE vrouter_busy_seconds counter
vrouter_busy_seconds_total 0.5
# HELP vrouter_frames Frames
# TYPE vrouter_frames gauge
vrouter_frames 16384
# EOF
";
        assert_eq!(encode(families).unwrap(), expected);
    }
}
