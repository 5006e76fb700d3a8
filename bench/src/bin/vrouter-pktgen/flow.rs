//! Flows: which addresses and ports a packet carries, and which packet belongs to which flow.
//!
//! Flows count through sources first, then destinations, source ports and destination ports, or
//! are those of a trace, in its order. Packet n belongs to flow n modulo their number, or to one
//! drawn by Zipf's law: the flow of rank k is k^-s times as frequent as the first.

use core::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use vrouter_bench::random::Random;

use crate::addresses::{Addresses, Ports};

/// Packets until the draws of Zipf's law repeat.
const DRAWS: usize = 1 << 20;
/// Most flows that Zipf's law is applied to: it takes 8 bytes a flow while it is set up.
const MOST_RANKED: u64 = 1 << 24;

/// What all packets of a flow have in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Flow {
    /// Source address.
    pub(crate) source: IpAddr,
    /// Destination address, of the same family.
    pub(crate) destination: IpAddr,
    /// UDP source port.
    pub(crate) source_port: u16,
    /// UDP destination port.
    pub(crate) destination_port: u16,
}

/// All flows of one family.
#[derive(Clone, Debug)]
enum Set {
    Ranges { sources: Addresses, destinations: Addresses, source_ports: Ports, destination_ports: Ports },
    Trace(Arc<[Flow]>),
}

/// Flows, and the order of their packets.
#[derive(Clone, Debug)]
pub(crate) struct Flows {
    set: Set,
    /// The flow of packet n modulo its length, where not all flows are alike.
    drawn: Option<Arc<[u32]>>,
}

impl Flows {
    /// Every combination of addresses and ports.
    ///
    /// # Errors
    /// Families differ.
    pub(crate) fn of_ranges(
        sources: Addresses,
        destinations: Addresses,
        source_ports: Ports,
        destination_ports: Ports,
    ) -> Result<Self, String> {
        if sources.is_ipv4() != destinations.is_ipv4() {
            return Err("sources and destinations are of one address family".to_owned());
        }
        let set = Set::Ranges { sources, destinations, source_ports, destination_ports };
        Ok(Flows { set, drawn: None })
    }

    /// The flows of a text file: `SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT`, one a line; what
    /// follows is ignored. IPv4 addresses may be decimal numbers, as in traces of ClassBench.
    ///
    /// # Errors
    /// What is wrong with the file, with the number of the line.
    pub(crate) fn of_trace(path: &Path) -> Result<Self, String> {
        let place = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))?;
        let mut flows: Vec<Flow> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let flow = parse(line).ok_or_else(|| {
                format!(
                    "{place}, line {}: expected SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT",
                    number + 1
                )
            })?;
            if flows.first().unwrap_or(&flow).source.is_ipv4() != flow.source.is_ipv4()
                || flow.source.is_ipv4() != flow.destination.is_ipv4()
            {
                return Err(format!("{place}, line {}: all addresses are of one family", number + 1));
            }
            flows.push(flow);
        }
        if flows.is_empty() {
            return Err(format!("{place}: no flow in it"));
        }
        Ok(Flows { set: Set::Trace(flows.into()), drawn: None })
    }

    /// Draws the flow of each packet by Zipf's law with this exponent, instead of in turn.
    ///
    /// # Errors
    /// There are too many flows, or the exponent is not a positive number.
    pub(crate) fn by_zipf(mut self, exponent: f64) -> Result<Self, String> {
        if !(exponent > 0.0 && exponent.is_finite()) {
            return Err(format!("Zipf's exponent is a positive number, not {exponent}"));
        }
        if self.count() > MOST_RANKED {
            return Err(format!("Zipf's law: at most {MOST_RANKED} flows, not {}", self.count()));
        }
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=self.count())
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        let mut random = Random::new(0x21f);
        let mut draw = || {
            let wanted = random.unit() * sum;
            sums.partition_point(|below| *below < wanted).min(sums.len() - 1) as u32
        };
        self.drawn = Some((0..DRAWS).map(|_| draw()).collect());
        Ok(self)
    }

    /// Number of different flows.
    pub(crate) fn count(&self) -> u64 {
        match &self.set {
            Set::Ranges { sources, destinations, source_ports, destination_ports } => {
                [destinations.count(), source_ports.count, destination_ports.count]
                    .into_iter()
                    .fold(sources.count(), u64::saturating_mul)
            }
            Set::Trace(flows) => flows.len() as u64,
        }
    }

    /// Whether packets are IPv4.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.of_packet(0).source.is_ipv4()
    }

    /// The number of the flow of packet `sequence`, counted on over the passes where flows take turns.
    #[inline]
    fn place(&self, sequence: u64) -> u64 {
        match &self.drawn {
            Some(drawn) => drawn[(sequence % drawn.len() as u64) as usize].into(),
            None => sequence,
        }
    }

    /// The number of the flow of packet `sequence`, below [`Self::count`].
    #[inline]
    pub(crate) fn number_of_packet(&self, sequence: u64) -> u64 {
        self.place(sequence) % self.count()
    }

    /// The flow of packet `sequence`.
    #[inline]
    pub(crate) fn of_packet(&self, sequence: u64) -> Flow {
        let mut at = self.place(sequence);
        match &self.set {
            Set::Ranges { sources, destinations, source_ports, destination_ports } => {
                let mut next = |count: u64| {
                    let index = at % count;
                    at /= count;
                    index
                };
                Flow {
                    source: sources.at(next(sources.count())),
                    destination: destinations.at(next(destinations.count())),
                    source_port: source_ports.first + next(source_ports.count) as u16,
                    destination_port: destination_ports.first + next(destination_ports.count) as u16,
                }
            }
            Set::Trace(flows) => flows[(at % flows.len() as u64) as usize],
        }
    }
}

fn parse(line: &str) -> Option<Flow> {
    let address = |text: &str| -> Option<IpAddr> {
        text.parse().ok().or_else(|| text.parse::<u32>().ok().map(|number| Ipv4Addr::from(number).into()))
    };
    let mut words = line.split_whitespace();
    Some(Flow {
        source: address(words.next()?)?,
        destination: address(words.next()?)?,
        source_port: words.next()?.parse().ok()?,
        destination_port: words.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn flows(count: u16) -> Flows {
        let one = |text: &str| text.parse().unwrap();
        Flows::of_ranges(
            one("10.0.0.1"),
            one("10.1.0.1"),
            Ports { first: 1, count: count.into() },
            "9".parse().unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn flows_take_turns() {
        let flows = flows(3);
        let ports: Vec<u16> = (0..6).map(|n| flows.of_packet(n).source_port).collect();
        assert_eq!((flows.count(), ports), (3, vec![1, 2, 3, 1, 2, 3]));
        let numbers: Vec<u64> = (0..6).map(|n| flows.number_of_packet(n)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn zipf_makes_the_flow_of_rank_k_a_kth_as_frequent() {
        let flows = flows(1000).by_zipf(1.0).unwrap();
        let mut seen = BTreeMap::<u16, f64>::new();
        (0..DRAWS as u64).for_each(|n| *seen.entry(flows.of_packet(n).source_port).or_default() += 1.0);
        for rank in [2, 5, 10, 50] {
            let expected = seen[&1] / f64::from(rank);
            assert!(
                (seen[&rank] / expected - 1.0).abs() < 0.15,
                "rank {rank}: {} of {expected}",
                seen[&rank]
            );
        }
        assert!(flows.clone().by_zipf(0.0).is_err() && flows.clone().by_zipf(f64::NAN).is_err());
    }

    #[test]
    fn a_trace_is_read_in_both_notations() {
        let file = std::env::temp_dir().join(format!("pktgen-trace-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Flows::of_trace(&file)
        };
        let flows = read("10.0.0.1 10.0.0.2 5 6\n# no flow\n167772161\t167772162\t5\t6\t17\t3\n").unwrap();
        assert_eq!(flows.count(), 2);
        assert_eq!(flows.of_packet(0), flows.of_packet(1));
        assert!(read("10.0.0.1 10.0.0.2 5\n").unwrap_err().contains("line 1: expected"));
        assert!(read("10.0.0.1 10.0.0.2 5 6\n::1 ::2 5 6\n").unwrap_err().contains("line 2: all"));
        assert!(read("\n").unwrap_err().contains("no flow"));
        std::fs::remove_file(file).unwrap();
    }
}
