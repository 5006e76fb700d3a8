//! Which routes come and go, and what each address may be told meanwhile.
//!
//! | mix | stays | comes and goes |
//! |---|---|---|
//! | internet | every other route of a full table (/8 to /32, mostly /24), a default route | the others, each as often |
//! | even | a full table, a default route | up to 20,000 random prefixes of each length from /8 to /32, each length as often |
//!
//! A route that comes back has the other of its two next hops. An address may be told the next hops of
//! the longest route that contains it and stays, and of those longer ones that come and go: the next hop
//! of a shorter one, or none, would be a hole.

use fib::Prefix;
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use vrouter_bench::internet;
use vrouter_bench::random::Random;

/// Next hops that routes have.
pub(crate) const NEXT_HOPS: u32 = 250;
/// Addresses asked about.
const PROBES: usize = 1 << 20;
/// Random prefixes of a length.
const A_LENGTH: usize = 20_000;

pub(crate) struct Mix {
    pub(crate) name: &'static str,
    routes: Vec<Prefix<Ipv4Addr>>,
    /// Routes that come and go; one of these lists is drawn, then a route of it.
    classes: Vec<Vec<u32>>,
    pub(crate) probes: Vec<Ipv4Addr>,
    /// Next hops for each probe, of its longest route first.
    next_hops: Vec<u8>,
    /// For each probe: where its next hops begin, and how many of them are no hole.
    allowed: Vec<(u32, u8)>,
}

/// The next hop of a route by the number of times that it came.
fn next_hop(route: u32, turn: u8) -> u8 {
    let of_route = (route.wrapping_mul(0x9e37_79b1) >> 8) + u32::from(turn & 1) * 97;
    (of_route % NEXT_HOPS) as u8
}

/// A random route of those that come and go.
fn draw(classes: &[Vec<u32>], random: &mut Random) -> u32 {
    let class = &classes[random.below(classes.len() as u64) as usize];
    class[random.below(class.len() as u64) as usize]
}

/// Whether an address is of the networks around the engine's uplink, which have routes of their own.
fn is_uplink(addr: Ipv4Addr) -> bool {
    addr.octets()[..2] == [198, 18]
}

impl Mix {
    pub(crate) fn internet() -> Self {
        let routes = internet::routes::<Ipv4Addr>();
        let flipping = (0..routes.len() as u32).filter(|route| route % 2 == 1).collect();
        Self::new("internet", routes, vec![flipping])
    }

    pub(crate) fn even() -> Self {
        let mut routes = internet::routes::<Ipv4Addr>();
        let mut known: std::collections::HashSet<_> = routes.iter().copied().collect();
        let mut random = Random::new(11);
        let classes = (8..=32u8).map(|len| {
            // No more than half of those that there are.
            let count = A_LENGTH.min(112 << (len - 8));
            let first = routes.len() as u32;
            while routes.len() < first as usize + count {
                let addr = Ipv4Addr::from(0x0100_0000 + random.below(0xdf00_0000) as u32);
                let prefix = Prefix::masked(addr, len).expect("at most 32");
                if !is_uplink(addr) && known.insert(prefix) {
                    routes.push(prefix);
                }
            }
            (first..routes.len() as u32).collect()
        });
        let classes = classes.collect();
        Self::new("even", routes, classes)
    }

    fn new(name: &'static str, mut routes: Vec<Prefix<Ipv4Addr>>, classes: Vec<Vec<u32>>) -> Self {
        routes.push(Prefix::DEFAULT);
        let numbers: HashMap<_, _> =
            routes.iter().zip(0u32..).map(|(route, number)| (*route, number)).collect();
        let mut flips = vec![false; routes.len()];
        classes.iter().flatten().for_each(|route| flips[*route as usize] = true);
        let mut random = Random::new(5);
        let (mut probes, mut next_hops, mut allowed) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..PROBES {
            let near = match number % 2 {
                0 => draw(&classes, &mut random) as usize,
                _ => random.below(routes.len() as u64 - 1) as usize,
            };
            let (first, last) = (routes[near].first().to_bits(), routes[near].last().to_bits());
            // Not where the engine's uplink is.
            let mut draw = || Ipv4Addr::from_bits(first | random.next() as u32 & (last - first));
            let probe = std::iter::repeat_with(&mut draw).find(|probe| !is_uplink(*probe));
            let probe = probe.expect("some are elsewhere");
            let begin = next_hops.len();
            let mut no_hole = None;
            for len in (0..=32).rev() {
                let prefix = Prefix::masked(probe, len).expect("at most 32");
                let Some(&route) = numbers.get(&prefix) else { continue };
                next_hops.push(next_hop(route, 0));
                if flips[route as usize] {
                    next_hops.push(next_hop(route, 1));
                } else {
                    no_hole.get_or_insert(next_hops.len() - begin);
                }
            }
            let no_hole = no_hole.expect("the default route stays");
            probes.push(probe);
            allowed.push((begin as u32, u8::try_from(no_hole).expect("at most 66")));
        }
        allowed.push((next_hops.len() as u32, 0));
        Self { name, routes, classes, probes, next_hops, allowed }
    }

    /// All routes with their next hops.
    pub(crate) fn load_order(&self, sorted: bool) -> Vec<(Prefix<Ipv4Addr>, u8)> {
        let mut order: Vec<_> =
            self.routes.iter().zip(0..).map(|(prefix, number)| (*prefix, next_hop(number, 0))).collect();
        if sorted {
            order.sort_unstable_by_key(|(prefix, _)| *prefix);
        } else {
            let mut random = Random::new(3);
            (1..order.len()).rev().for_each(|at| order.swap(at, random.below(at as u64 + 1) as usize));
        }
        order
    }

    /// Whether probe `number` may be told this; while the table is loaded, what any route that
    /// contains it says, or that there is none.
    pub(crate) fn allows(&self, number: usize, told: Option<u8>, loading: bool) -> bool {
        let (begin, no_hole) = self.allowed[number];
        let all = &self.next_hops[begin as usize..self.allowed[number + 1].0 as usize];
        match told {
            None => loading,
            Some(told) if loading => all.contains(&told),
            Some(told) => all[..no_hole.into()].contains(&told),
        }
    }
}

/// A prefix, and the next hop that it is announced with; withdrawn without one.
pub(crate) type Update = (Prefix<Ipv4Addr>, Option<u8>);

/// Random withdrawals, each followed by an announcement of the same prefix in a later commit.
pub(crate) struct Churn<'a> {
    mix: &'a Mix,
    random: Random,
    away: VecDeque<u32>,
    is_away: Vec<bool>,
    turns: Vec<u8>,
}

impl<'a> Churn<'a> {
    pub(crate) fn new(mix: &'a Mix) -> Self {
        let routes = mix.routes.len();
        let away = VecDeque::with_capacity(1 << 16);
        Self { mix, random: Random::new(7), away, is_away: vec![false; routes], turns: vec![0; routes] }
    }

    /// The next updates, so many, for commits of `batch`.
    pub(crate) fn updates(&mut self, count: usize, batch: usize) -> Vec<Update> {
        let next = |_| {
            if self.away.len() > batch
                && let Some(route) = self.away.pop_front()
            {
                let at = route as usize;
                self.is_away[at] = false;
                self.turns[at] = self.turns[at].wrapping_add(1);
                (self.mix.routes[at], Some(next_hop(route, self.turns[at])))
            } else {
                let route = self.draw();
                self.is_away[route as usize] = true;
                self.away.push_back(route);
                (self.mix.routes[route as usize], None)
            }
        };
        (0..count).map(next).collect()
    }

    /// A random route that is there.
    fn draw(&mut self) -> u32 {
        loop {
            let route = draw(&self.mix.classes, &mut self.random);
            if !self.is_away[route as usize] {
                return route;
            }
        }
    }
}
