//! From a rule to terms: products of one condition on each field.
//!
//! A rule over numeric ports is one term. A named port means another number on each pod, so it becomes
//! one term for each (protocol, port) that any pod gives the name, restricted to the addresses of the
//! pods that do. What named ports forbid becomes terms of veto.

use core::ops::RangeInclusive;

use crate::model::{Family, IcmpMatch, PortSetId, Rule, SetId, Side, has_ports};
use crate::ranges::Ranges;

/// What port sets consist of: for each (protocol, port) the set of addresses.
pub(crate) trait PortGroups {
    /// The groups of a set.
    fn groups(&self, id: PortSetId) -> Vec<(u8, u16, SetId)>;
}

/// A condition on an address.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct AddressCondition {
    /// Sorted, without doubles.
    pub(crate) all_of: Vec<SetId>,
    /// Sorted, without doubles.
    pub(crate) none_of: Vec<SetId>,
}

/// A condition on protocol, ports and ICMP type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Layer4Condition {
    /// Protocols by number.
    pub(crate) protocols: [u64; 4],
    pub(crate) source_ports: Option<Ranges>,
    pub(crate) destination_ports: Option<Ranges>,
    /// Type in the high octet, code in the low. Holds for ICMP alone.
    pub(crate) icmp: Option<Ranges>,
}

impl Layer4Condition {
    pub(crate) fn allows(&self, protocol: u8) -> bool {
        self.protocols[usize::from(protocol >> 6)] >> (protocol & 63) & 1 == 1
    }
}

/// A product of conditions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Term {
    pub(crate) family: Option<Family>,
    pub(crate) source: AddressCondition,
    pub(crate) destination: AddressCondition,
    pub(crate) layer4: Layer4Condition,
}

/// One way to meet the conditions of a side on ports.
#[derive(Clone, Debug)]
struct Way {
    protocol: Option<u8>,
    ports: Option<Ranges>,
    addresses: Option<SetId>,
}

const ALL_PORTS: RangeInclusive<u16> = 0..=u16::MAX;

/// The terms of a rule in order, each with whether it is a veto.
pub(crate) fn terms_of(rule: &Rule, groups: &dyn PortGroups) -> Vec<(bool, Term)> {
    let base = base_term(rule);
    let mut out = Vec::new();
    for (is_source, side) in [(true, &rule.source), (false, &rule.destination)] {
        for (protocol, port, set) in side.not_named_ports.iter().flat_map(|id| groups.groups(*id)) {
            let way = Way { protocol: Some(protocol), ports: Some(vec![port..=port]), addresses: Some(set) };
            let veto = Term {
                family: rule.family,
                source: AddressCondition::default(),
                destination: AddressCondition::default(),
                layer4: any_layer4(),
            };
            out.extend(narrow(&veto, is_source, &way).map(|term| (true, term)));
        }
    }
    let mut terms = vec![base];
    for (is_source, side) in [(true, &rule.source), (false, &rule.destination)] {
        for ways in [ways_of_ports(side, groups), ways_of_service(side, groups)].into_iter().flatten() {
            let narrowed = |term| ways.iter().filter_map(move |way| narrow(term, is_source, way));
            terms = terms.iter().flat_map(narrowed).collect();
        }
    }
    out.extend(terms.into_iter().map(|term| (false, term)));
    out
}

fn any_layer4() -> Layer4Condition {
    Layer4Condition { protocols: [u64::MAX; 4], source_ports: None, destination_ports: None, icmp: None }
}

fn only(protocol: u8) -> [u64; 4] {
    let mut mask = [0; 4];
    mask[usize::from(protocol >> 6)] = 1 << (protocol & 63);
    mask
}

fn base_term(rule: &Rule) -> Term {
    let mut layer4 = any_layer4();
    if let Some(protocol) = rule.protocol {
        layer4.protocols = only(protocol);
    }
    if let Some(protocol) = rule.not_protocol {
        layer4.protocols[usize::from(protocol >> 6)] &= !(1 << (protocol & 63));
    }
    if rule.icmp.is_some() || rule.not_icmp.is_some() {
        let wanted = rule.icmp.as_ref().map_or(vec![ALL_PORTS], icmp_ranges);
        let unwanted = rule.not_icmp.as_ref().map_or(vec![], icmp_ranges);
        layer4.icmp = Some(minus(&wanted, &unwanted));
    }
    let addresses = |side: &Side| {
        let sorted = |sets: &[SetId]| {
            let mut sets = sets.to_vec();
            sets.sort_unstable();
            sets.dedup();
            sets
        };
        AddressCondition { all_of: sorted(&side.all_of), none_of: sorted(&side.none_of) }
    };
    Term {
        family: rule.family,
        source: addresses(&rule.source),
        destination: addresses(&rule.destination),
        layer4,
    }
}

fn icmp_ranges(icmp: &IcmpMatch) -> Ranges {
    let key = |kind: u8, code: u8| u16::from(kind) << 8 | u16::from(code);
    match (icmp.kind, icmp.code) {
        (None, None) => vec![ALL_PORTS],
        (Some(kind), None) => vec![key(kind, 0)..=key(kind, 255)],
        (Some(kind), Some(code)) => vec![key(kind, code)..=key(kind, code)],
        (None, Some(code)) => (0..=255).map(|kind| key(kind, code)..=key(kind, code)).collect(),
    }
}

/// Ways to meet `ports`, `named_ports` and their negations; `None`: nothing is asked.
fn ways_of_ports(side: &Side, groups: &dyn PortGroups) -> Option<Vec<Way>> {
    let asks = !side.ports.is_empty() || !side.named_ports.is_empty();
    let forbids = !side.not_ports.is_empty() || !side.not_named_ports.is_empty();
    if !asks && !forbids {
        return None;
    }
    let mut ways = Vec::new();
    let wanted = if asks { side.ports.clone() } else { vec![ALL_PORTS] };
    let numeric = minus(&wanted, &side.not_ports);
    if !numeric.is_empty() {
        ways.push(Way { protocol: None, ports: Some(numeric), addresses: None });
    }
    for (protocol, port, set) in side.named_ports.iter().flat_map(|id| groups.groups(*id)) {
        if !side.not_ports.iter().any(|range| range.contains(&port)) {
            let ports = Some(vec![port..=port]);
            ways.push(Way { protocol: Some(protocol), ports, addresses: Some(set) });
        }
    }
    Some(ways)
}

fn ways_of_service(side: &Side, groups: &dyn PortGroups) -> Option<Vec<Way>> {
    let way = |(protocol, port, set): (u8, u16, SetId)| Way {
        protocol: Some(protocol),
        ports: Some(vec![port..=port]),
        addresses: Some(set),
    };
    side.service.map(|id| groups.groups(id).into_iter().map(way).collect())
}

/// A term with one more condition on a side; `None` if nothing is left of it.
fn narrow(term: &Term, is_source: bool, way: &Way) -> Option<Term> {
    let mut term = term.clone();
    if let Some(protocol) = way.protocol {
        for (mask, only) in term.layer4.protocols.iter_mut().zip(only(protocol)) {
            *mask &= only;
        }
    }
    let side = if is_source { &mut term.source } else { &mut term.destination };
    if let Some(set) = way.addresses
        && let Err(at) = side.all_of.binary_search(&set)
    {
        side.all_of.insert(at, set);
    }
    if let Some(ports) = &way.ports {
        // Ports are named only of protocols that have them.
        let mut with_ports = [0; 4];
        for protocol in (0..=255).filter(|protocol| has_ports(*protocol)) {
            with_ports[usize::from(protocol >> 6)] |= 1 << (protocol & 63);
        }
        for (mask, with_ports) in term.layer4.protocols.iter_mut().zip(with_ports) {
            *mask &= with_ports;
        }
        let slot = if is_source { &mut term.layer4.source_ports } else { &mut term.layer4.destination_ports };
        let both = match slot {
            Some(known) => minus(known, &minus(&[ALL_PORTS], ports)),
            None => ports.clone(),
        };
        if both.is_empty() {
            return None;
        }
        *slot = Some(both);
    }
    term.layer4.protocols.iter().any(|mask| *mask != 0).then_some(term)
}

/// The values of `wanted` that are not in `unwanted`, as sorted ranges apart from each other.
fn minus(wanted: &[RangeInclusive<u16>], unwanted: &[RangeInclusive<u16>]) -> Ranges {
    let mut edges: Vec<(u32, i32, i32)> = Vec::with_capacity(2 * (wanted.len() + unwanted.len()));
    for range in wanted.iter().filter(|range| !range.is_empty()) {
        edges.push((u32::from(*range.start()), 1, 0));
        edges.push((u32::from(*range.end()) + 1, -1, 0));
    }
    for range in unwanted.iter().filter(|range| !range.is_empty()) {
        edges.push((u32::from(*range.start()), 0, 1));
        edges.push((u32::from(*range.end()) + 1, 0, -1));
    }
    edges.sort_unstable();
    let (mut inside, mut outside, mut out) = (0, 0, Ranges::new());
    let mut open: Option<u32> = None;
    let mut edges = edges.into_iter().peekable();
    while let Some((at, more, less)) = edges.next() {
        inside += more;
        outside += less;
        if edges.peek().is_some_and(|(next, ..)| *next == at) {
            continue;
        }
        let now = inside > 0 && outside == 0;
        match (open, now) {
            (None, true) => open = Some(at),
            (Some(first), false) => {
                out.push(first as u16..=(at - 1) as u16);
                open = None;
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_without_others() {
        assert_eq!(minus(&[ALL_PORTS], &[]), [ALL_PORTS]);
        assert_eq!(minus(&[80..=81, 82..=90], &[]), [80..=90]);
        assert_eq!(minus(&[ALL_PORTS], &[0..=0, 65535..=65535, 80..=90]), [1..=79, 91..=65534]);
        assert_eq!(minus(&[5..=6], &[0..=10]), []);
        assert_eq!(minus(&[5..=9, 7..=20], &[8..=8]), [5..=7, 9..=20]);
    }
}
