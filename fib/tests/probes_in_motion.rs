//! Ten million questions about full Internet tables while a writer takes routes out and puts them
//! back, a million times.
//!
//! Every seventh route comes and goes; the others stay. An address whose longest route stays has
//! one answer. Any other has that route or one between it and its longest route that stays: what
//! a reader is told must contain the address and be no shorter than that one.
//!
//! `FIB_FLIPS=100000000 cargo test --release -p vrouter-fib --test probes_in_motion` is the long form.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fib::{Address, Fib, FibWriter, GroupId, NO_ROUTE, Prefix};

mod real_table;

use real_table::{expected, probes, random_v4, random_v6, routes};

const READERS: usize = 2;
/// How many changes the writer makes between two waits for the readers.
const CHANGES_PER_GRACE_PERIOD: usize = 10_000;

fn flips() -> usize {
    match std::env::var("FIB_FLIPS") {
        Ok(flips) => flips.parse().expect("FIB_FLIPS is a number"),
        Err(_) => 1_000_000,
    }
}

fn flips_at(position: usize) -> bool {
    position % 7 == 3
}

fn group(position: usize) -> GroupId {
    u32::try_from(position).ok().and_then(GroupId::new).expect("fewer routes than groups")
}

/// The longest route of each probe, and the longest that stays; [`NO_ROUTE`] where there is none.
struct Answers {
    longest: Vec<u32>,
    stays: Vec<u32>,
}

impl Answers {
    fn new<A: Address>(routes: &[Prefix<A>], probes: &[A]) -> Self {
        let raw = |position: Option<usize>| position.map_or(NO_ROUTE, |position| group(position).raw());
        let longest = expected(routes, probes).into_iter().map(raw).collect();
        let staying: Vec<usize> = (0..routes.len()).filter(|position| !flips_at(*position)).collect();
        let routes: Vec<Prefix<A>> = staying.iter().map(|&position| routes[position]).collect();
        let stays = expected(&routes, probes);
        let stays = stays.into_iter().map(|found| raw(found.map(|found| staying[found]))).collect();
        Answers { longest, stays }
    }

    /// Whether a probe may be told this now.
    fn allow<A: Address>(&self, routes: &[Prefix<A>], probe: A, number: usize, told: u32) -> bool {
        let (longest, stays) = (self.longest[number], self.stays[number]);
        if told == longest || told == stays {
            return true;
        }
        let Some(route) = routes.get(told as usize) else { return false };
        let least = routes.get(stays as usize).map_or(0, Prefix::len);
        longest != stays && route.contains(probe) && route.len() >= least
    }
}

/// Ends the writer's wait when a reader ends, by whatever way.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Stage<'a, A: Address> {
    fib: &'a Fib<A>,
    routes: &'a [Prefix<A>],
    probes: &'a [A],
    answers: &'a Answers,
    /// Bursts of each reader: between two it is quiescent.
    bursts: [AtomicU64; READERS],
    flipped: AtomicBool,
    ended: [AtomicBool; READERS],
}

impl<A: Address> Stage<'_, A> {
    /// Asks about every `READERS`-th burst of probes, again and again until all flips are done.
    fn read(&self, reader: usize) -> usize {
        let _ended = StopOnDrop(&self.ended[reader]);
        let (mut asked, mut wrong) = (0, 0);
        // Neighbouring probes share lines; far ones in the same burst do not.
        let far = self.probes.len() / 64;
        loop {
            for first in (reader..far).step_by(READERS) {
                let addrs: [A; 64] = core::array::from_fn(|lane| self.probes[first + lane * far]);
                let mut out = [0; 64];
                self.fib.lookup_burst(&addrs, u64::MAX, &mut out);
                let single = self.fib.lookup(addrs[0]).map_or(NO_ROUTE, GroupId::raw);
                self.bursts[reader].fetch_add(1, Ordering::SeqCst);
                for (lane, told) in out.into_iter().enumerate() {
                    let allowed = self.answers.allow(self.routes, addrs[lane], first + lane * far, told);
                    wrong += usize::from(!allowed);
                }
                wrong += usize::from(!self.answers.allow(self.routes, addrs[0], first, single));
                asked += 65;
            }
            if self.flipped.load(Ordering::SeqCst) {
                assert_eq!(wrong, 0, "of {asked} answers");
                return asked;
            }
        }
    }

    /// Waits until each reader has finished the burst it was in.
    fn grace_period(&self) {
        let before = self.bursts.each_ref().map(|bursts| bursts.load(Ordering::SeqCst));
        for ((bursts, before), ended) in self.bursts.iter().zip(before).zip(&self.ended) {
            while bursts.load(Ordering::SeqCst) == before && !ended.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
    }
}

fn in_motion<A: Address>(random_in: fn(&Prefix<A>, [u64; 2]) -> A) {
    let routes = routes::<A>();
    let probes = probes(&routes, 10_000_000, random_in);
    let answers = Answers::new(&routes, &probes);
    let mut writer = FibWriter::new();
    let load = routes.iter().enumerate().map(|(position, &route)| (route, group(position)));
    assert_eq!(writer.load(load), Ok(routes.len()));
    let fib = writer.reader();
    let stage = Stage {
        fib: &fib,
        routes: &routes,
        probes: &probes,
        answers: &answers,
        bursts: [const { AtomicU64::new(0) }; READERS],
        flipped: AtomicBool::new(false),
        ended: [const { AtomicBool::new(false) }; READERS],
    };
    let flipping: Vec<usize> = (0..routes.len()).filter(|position| flips_at(*position)).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let stage = &stage;
                scope.spawn(move || stage.read(reader))
            })
            .collect();
        // The readers end with the writer, even when it fails.
        let flipped = StopOnDrop(&stage.flipped);
        let mut away = vec![false; flipping.len()];
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for flip in 0..flips() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % flipping.len();
            let (position, away) = (flipping[at], &mut away[at]);
            if *away {
                assert_eq!(writer.insert(routes[position], group(position)), Ok(None));
            } else {
                assert_eq!(writer.remove(&routes[position]), Some(group(position)));
            }
            *away = !*away;
            if flip % CHANGES_PER_GRACE_PERIOD == 0 {
                let sealed = writer.seal();
                stage.grace_period();
                writer.reclaim(sealed);
            }
        }
        drop(flipped);
        let asked: usize = readers.into_iter().map(|reader| reader.join().expect("no wrong answer")).sum();
        assert!(asked >= 10_000_000 - 64 * READERS, "{asked}");
    });
}

#[test]
fn ipv4() {
    in_motion(random_v4);
}

#[test]
fn ipv6() {
    in_motion::<Ipv6Addr>(random_v6);
}

/// The rule for what may be told, on a table that one can see through.
#[test]
fn what_a_reader_may_be_told() {
    let routes: Vec<Prefix<Ipv4Addr>> = ["10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.128/25"]
        .map(|text| text.parse().unwrap())
        .into();
    assert!(flips_at(3) && !(0..3).any(flips_at));
    let probes: Vec<Ipv4Addr> =
        ["10.1.1.1", "10.1.1.129", "11.0.0.0"].map(|text| text.parse().unwrap()).into();
    let answers = Answers::new(&routes, &probes);
    let allowed = |number: usize| {
        let told = (0..5).chain([NO_ROUTE]);
        told.filter(|told| answers.allow(&routes, probes[number], number, *told)).collect::<Vec<_>>()
    };
    assert_eq!(allowed(0), [2]);
    assert_eq!(allowed(1), [2, 3]);
    assert_eq!(allowed(2), [NO_ROUTE]);
}
