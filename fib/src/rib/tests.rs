use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::time::Duration;

type Rib4 = Rib<Ipv4Addr, &'static str>;

fn prefix(text: &str) -> Prefix<Ipv4Addr> {
    text.parse().unwrap()
}

fn offer<'a>(source: RouteSource, next_hops: &'a [&'static str]) -> Candidate<'a, &'static str> {
    Candidate::new(source, next_hops)
}

fn with_metric<'a>(
    source: RouteSource,
    metric: u32,
    next_hops: &'a [&'static str],
) -> Candidate<'a, &'static str> {
    Candidate { metric, ..offer(source, next_hops) }
}

fn best(rib: &Rib4, text: &str) -> Option<(RouteSource, Vec<&'static str>)> {
    rib.best(&prefix(text)).map(|route| (route.source, route.next_hops.to_vec()))
}

fn changes<A: Address, N: Clone + Eq + Hash>(rib: &mut Rib<A, N>) -> Vec<Change<A>> {
    let mut changes = Vec::new();
    rib.drain_changes(&mut changes);
    changes
}

/// Changes as text: "prefix next-hops" or "prefix -".
fn drained(rib: &mut Rib4) -> Vec<String> {
    changes(rib)
        .into_iter()
        .map(|Change { prefix, best }| match best {
            Some(set) => format!("{prefix} {}", rib.sets().get(set).join(",")),
            None => format!("{prefix} -"),
        })
        .collect()
}

#[test]
fn the_lowest_distance_wins_whatever_the_order() {
    let block = prefix("10.100.169.128/26");
    let offers = [
        offer(RouteSource::Kernel, &["k"]),
        with_metric(RouteSource::Bgp, 500, &["b"]),
        offer(RouteSource::Fpm, &["f"]),
    ];
    for rotation in 0..offers.len() {
        let mut rib = Rib4::new();
        let mut order = offers;
        order.rotate_left(rotation);
        for candidate in order {
            rib.announce(block, candidate).unwrap();
        }
        assert_eq!(best(&rib, "10.100.169.128/26"), Some((RouteSource::Bgp, vec!["b"])));
        let order: Vec<_> = rib.candidates(&block).map(|held| held.source).collect();
        assert_eq!(order, [RouteSource::Bgp, RouteSource::Fpm, RouteSource::Kernel]);
    }
}

#[test]
fn metric_decides_at_equal_distance_and_the_source_after_it() {
    let block = prefix("10.0.0.0/8");
    let mut rib = Rib4::new();
    rib.announce(block, with_metric(RouteSource::Files, 20, &["files"])).unwrap();
    rib.announce(block, with_metric(RouteSource::Api, 10, &["api"])).unwrap();
    assert_eq!(best(&rib, "10.0.0.0/8"), Some((RouteSource::Api, vec!["api"])));
    rib.announce(block, with_metric(RouteSource::Api, 20, &["api"])).unwrap();
    assert_eq!(best(&rib, "10.0.0.0/8"), Some((RouteSource::Files, vec!["files"])));
}

#[test]
fn a_source_may_bring_its_own_distance() {
    let block = prefix("10.0.0.0/8");
    let mut rib = Rib4::new();
    let internal = Candidate { distance: 200, ..offer(RouteSource::Bgp, &["internal"]) };
    rib.announce(block, internal).unwrap();
    rib.announce(block, offer(RouteSource::Kernel, &["kernel"])).unwrap();
    assert_eq!(best(&rib, "10.0.0.0/8"), Some((RouteSource::Kernel, vec!["kernel"])));
}

#[test]
fn equal_cost_next_hops_stay_together_and_never_mix_with_another_source() {
    let block = prefix("10.0.0.0/8");
    let mut rib = Rib4::new();
    rib.announce(block, offer(RouteSource::Bgp, &["a", "b"])).unwrap();
    let same_distance =
        Candidate { distance: RouteSource::Bgp.default_distance(), ..offer(RouteSource::Kernel, &["c"]) };
    rib.announce(block, same_distance).unwrap();
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 a,b"]);
    rib.announce(block, offer(RouteSource::Bgp, &["b"])).unwrap();
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 b"]);
}

#[test]
fn a_candidate_without_next_hops_is_refused() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/8"), offer(RouteSource::Bgp, &["a"])).unwrap();
    let error = rib.announce(prefix("10.0.0.0/8"), offer(RouteSource::Bgp, &[])).unwrap_err();
    assert_eq!(error.to_string(), "a bgp route needs at least one next hop");
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 a"]);
}

#[test]
fn unusable_candidates_are_kept_but_never_used() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/8"), offer(RouteSource::Static, &["a"])).unwrap();
    let unusable = Candidate { distance: Candidate::<&str>::UNUSABLE, ..offer(RouteSource::Bgp, &["b"]) };
    rib.announce(prefix("10.1.0.0/16"), unusable).unwrap();
    assert_eq!(rib.len(), 2);
    assert_eq!(best(&rib, "10.1.0.0/16"), None);
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 a"]);
    let (matched, route) = rib.longest_match("10.1.2.3".parse().unwrap()).unwrap();
    assert_eq!((matched, route.source), (prefix("10.0.0.0/8"), RouteSource::Static));
    assert!(rib.longest_match("11.0.0.0".parse().unwrap()).is_none());
}

#[test]
fn withdraw_gives_way_to_the_next_best() {
    let block = prefix("10.0.0.0/8");
    let mut rib = Rib4::new();
    rib.announce(block, offer(RouteSource::Static, &["s"])).unwrap();
    rib.announce(block, offer(RouteSource::Bgp, &["b"])).unwrap();
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 s"]);

    assert!(!rib.withdraw(&block, RouteSource::Kernel));
    assert!(rib.withdraw(&block, RouteSource::Static));
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 b"]);
    assert!(rib.withdraw(&block, RouteSource::Bgp));
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 -"]);
    assert!(rib.is_empty());
    assert!(!rib.withdraw(&block, RouteSource::Bgp));
    assert!(changes(&mut rib).is_empty());
}

#[test]
fn changes_are_coalesced_and_a_flap_is_none() {
    let block = prefix("10.0.0.0/8");
    let mut rib = Rib4::new();
    for next_hop in ["a", "b", "c"] {
        rib.announce(block, offer(RouteSource::Bgp, &[next_hop])).unwrap();
    }
    assert_eq!(drained(&mut rib), ["10.0.0.0/8 c"]);

    assert!(rib.withdraw(&block, RouteSource::Bgp));
    rib.announce(block, offer(RouteSource::Bgp, &["c"])).unwrap();
    assert!(changes(&mut rib).is_empty());

    rib.announce(block, offer(RouteSource::Kernel, &["k"])).unwrap();
    assert!(changes(&mut rib).is_empty(), "the best did not change");

    rib.announce(prefix("11.0.0.0/8"), offer(RouteSource::Bgp, &["x"])).unwrap();
    assert!(rib.withdraw(&prefix("11.0.0.0/8"), RouteSource::Bgp));
    assert!(changes(&mut rib).is_empty(), "it was never told");
}

#[test]
fn routes_to_set_are_told_before_those_to_remove() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Bgp, &["a"])).unwrap();
    changes(&mut rib);
    assert!(rib.withdraw(&prefix("10.0.0.0/24"), RouteSource::Bgp));
    for half in ["10.0.0.0/25", "10.0.0.128/25"] {
        rib.announce(prefix(half), offer(RouteSource::Bgp, &["b"])).unwrap();
    }
    assert_eq!(drained(&mut rib), ["10.0.0.0/25 b", "10.0.0.128/25 b", "10.0.0.0/24 -"]);
}

#[test]
fn resync_sweeps_what_its_source_no_longer_names() {
    let mut rib = Rib4::new();
    for (text, source) in [
        ("10.0.0.0/24", RouteSource::Bgp),
        ("10.0.1.0/24", RouteSource::Bgp),
        ("10.0.2.0/24", RouteSource::Bgp),
        ("10.0.1.0/24", RouteSource::Kernel),
        ("10.0.3.0/24", RouteSource::Kernel),
    ] {
        rib.announce(prefix(text), offer(source, &[source.name()])).unwrap();
    }
    changes(&mut rib);

    rib.begin_resync(RouteSource::Bgp);
    assert!(rib.is_resyncing(RouteSource::Bgp) && !rib.is_resyncing(RouteSource::Kernel));
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Bgp, &["bgp"])).unwrap();
    rib.announce(prefix("10.0.9.0/24"), offer(RouteSource::Bgp, &["new"])).unwrap();
    assert_eq!(drained(&mut rib), ["10.0.9.0/24 new"], "the old stays in force");

    assert_eq!(rib.end_resync(RouteSource::Bgp), 2);
    assert!(!rib.is_resyncing(RouteSource::Bgp));
    assert_eq!(drained(&mut rib), ["10.0.1.0/24 kernel", "10.0.2.0/24 -"]);
    assert_eq!(rib.end_resync(RouteSource::Bgp), 0);
    assert_eq!(rib.prefixes().count(), 4);
}

#[test]
fn a_resync_begun_again_starts_over() {
    let mut rib = Rib4::new();
    rib.begin_resync(RouteSource::Felix);
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Felix, &["a"])).unwrap();
    rib.begin_resync(RouteSource::Felix);
    rib.announce(prefix("10.0.1.0/24"), offer(RouteSource::Felix, &["a"])).unwrap();
    assert_eq!(rib.end_resync(RouteSource::Felix), 1);
    assert_eq!(best(&rib, "10.0.0.0/24"), None);
    assert!(best(&rib, "10.0.1.0/24").is_some());
}

#[test]
fn the_end_of_a_first_announcement_sweeps_nothing() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Bgp, &["a"])).unwrap();
    assert_eq!(rib.end_resync(RouteSource::Bgp), 0);
    assert!(best(&rib, "10.0.0.0/24").is_some());
}

#[test]
fn ipv6_takes_the_same_road() {
    let mut rib: Rib<Ipv6Addr, u8> = Rib::new();
    let pods: Prefix<Ipv6Addr> = "fd00:10::/64".parse().unwrap();
    let pod: Prefix<Ipv6Addr> = "fd00:10::7/128".parse().unwrap();
    rib.announce(pods, Candidate::new(RouteSource::Bgp, &[1])).unwrap();
    rib.announce(pod, Candidate::new(RouteSource::Endpoint, &[2])).unwrap();
    let matched = |text: &str| rib.longest_match(text.parse().unwrap()).map(|(p, _)| p);
    assert_eq!(matched("fd00:10::7"), Some(pod));
    assert_eq!(matched("fd00:10::8"), Some(pods));
    assert_eq!(matched("fd00:11::8"), None);
    assert_eq!(changes(&mut rib).len(), 2);
}

#[test]
fn stale_routes_stay_until_their_deadline() {
    let mut rib = Rib4::new();
    for text in ["10.0.0.0/24", "10.0.1.0/24"] {
        rib.announce(prefix(text), offer(RouteSource::Bgp, &["a"])).unwrap();
    }
    changes(&mut rib);
    let at = Duration::from_secs;
    rib.begin_resync_until(RouteSource::Bgp, at(120));
    assert_eq!(rib.next_deadline(), Some(at(120)));
    rib.announce(prefix("10.0.1.0/24"), offer(RouteSource::Bgp, &["a"])).unwrap();
    assert_eq!(rib.expire(at(119)), 0);
    assert!(changes(&mut rib).is_empty(), "the stale stay in force");
    assert_eq!(rib.expire(at(120)), 1);
    assert_eq!(drained(&mut rib), ["10.0.0.0/24 -"]);
    assert_eq!(rib.next_deadline(), None);
    assert!(!rib.is_resyncing(RouteSource::Bgp));
}

#[test]
fn a_source_that_is_back_has_no_deadline_of_before() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Bgp, &["a"])).unwrap();
    rib.begin_resync_until(RouteSource::Bgp, Duration::from_secs(1));
    rib.begin_resync(RouteSource::Bgp);
    assert_eq!(rib.expire(Duration::from_secs(9)), 0);
    assert_eq!(rib.end_resync(RouteSource::Bgp), 1);
}

#[test]
fn rounds_are_counted_without_end() {
    let mut rib = Rib4::new();
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Bgp, &["a"])).unwrap();
    rib.announce(prefix("10.0.0.0/24"), offer(RouteSource::Kernel, &["k"])).unwrap();
    // Back to the number of the first announcement, were it not for a new count.
    for _ in 0..=u32::from(u16::MAX) {
        rib.begin_resync(RouteSource::Bgp);
        rib.begin_resync(RouteSource::Kernel);
    }
    assert_eq!(rib.end_resync(RouteSource::Bgp), 1);
    assert_eq!(rib.end_resync(RouteSource::Kernel), 1);
    assert!(rib.is_empty());
}

#[test]
fn why_a_candidate_lost() {
    let best = with_metric(RouteSource::Files, 10, &["best"]);
    assert_eq!(best.lost_to(&best), None);
    assert_eq!(offer(RouteSource::Bgp, &["b"]).lost_to(&best), Some(Lost::Distance));
    assert_eq!(with_metric(RouteSource::Api, 20, &["b"]).lost_to(&best), Some(Lost::Metric));
    assert_eq!(with_metric(RouteSource::Api, 10, &["b"]).lost_to(&best), Some(Lost::SourceOrder));
    let never = Candidate { distance: u8::MAX, ..best };
    assert_eq!(never.lost_to(&never), Some(Lost::Unusable));
}

#[test]
fn routes_with_the_same_next_hops_share_them() {
    let mut rib = Rib4::new();
    for third in 0..=255u8 {
        let block = Prefix::new(Ipv4Addr::new(10, 0, third, 0), 24).unwrap();
        rib.announce(block, offer(RouteSource::Bgp, &["a", "b"])).unwrap();
    }
    assert_eq!(rib.sets().len(), 1);
    changes(&mut rib);
    for third in 0..=255u8 {
        let block = Prefix::new(Ipv4Addr::new(10, 0, third, 0), 24).unwrap();
        assert!(rib.withdraw(&block, RouteSource::Bgp));
    }
    assert_eq!(rib.sets().len(), 1, "the FIB knows it still");
    changes(&mut rib);
    assert!(rib.sets().is_empty());
}
