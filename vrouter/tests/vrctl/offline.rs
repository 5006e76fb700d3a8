//! `route get --routes`: matches in a file of routes, without a router.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

#[path = "../../../fib/tests/real_table/mod.rs"]
mod real_table;

use crate::{Directory, vrctl_in, vrctl_in_with_stdin};

const ROUTES: &str = "\
# A table of both families.
10.0.0.0/8 192.0.2.1
10.1.0.0/16\t192.0.2.2   # by tab
10.1.2.0/24              # no next hop

2001:db8::/32 fe80::1
";

#[test]
fn the_longest_match_of_both_families() {
    let directory = Directory::new("offline-match");
    directory.write("routes", ROUTES);
    directory.write("batch", "10.1.2.3\n10.1.9.9 # here\n\n10.255.0.1\n2001:db8::7\n8.8.8.8\n::1\n");
    let run = vrctl_in(&directory, "route get --routes routes --batch batch");
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert_eq!(
        run.out,
        "10.1.2.3 10.1.2.0/24\n10.1.9.9 10.1.0.0/16 192.0.2.2\n10.255.0.1 10.0.0.0/8 192.0.2.1\n\
         2001:db8::7 2001:db8::/32 fe80::1\n8.8.8.8 -\n::1 -\n"
    );
    let run = vrctl_in(&directory, "route get --routes routes 10.1.2.3");
    assert_eq!((run.code, run.out.as_str()), (Some(0), "10.1.2.3 10.1.2.0/24\n"));
    let run = vrctl_in_with_stdin(&directory, "route get --routes routes --batch - -o json", "10.1.0.1\r\n");
    let answer: serde_json::Value = serde_json::from_str(&run.out).expect("an object a line");
    assert_eq!(
        answer,
        serde_json::json!({ "address": "10.1.0.1", "prefix": "10.1.0.0/16", "next_hop": "192.0.2.2" })
    );
    let batch = "8.8.8.8\n10.1.2.3\n";
    let run = vrctl_in_with_stdin(&directory, "route get --routes routes --batch - -o json", batch);
    let answers: Vec<serde_json::Value> =
        run.out.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let expected = [
        serde_json::json!({ "address": "8.8.8.8", "prefix": null, "next_hop": null }),
        serde_json::json!({ "address": "10.1.2.3", "prefix": "10.1.2.0/24", "next_hop": null }),
    ];
    assert_eq!(answers, expected);
    // As some editors begin a file.
    directory.write("marked", &format!("\u{feff}{ROUTES}"));
    directory.write("marked-batch", "\u{feff}10.1.2.3\n");
    let run = vrctl_in(&directory, "route get --routes marked --batch marked-batch");
    assert_eq!((run.code, run.out.as_str()), (Some(0), "10.1.2.3 10.1.2.0/24\n"), "{}", run.err);
    directory.write("marked", "\u{feff}10.0.0.0/8 a\n\u{feff}10.1.0.0/16 b\n");
    let run = vrctl_in(&directory, "route get --routes marked 10.1.2.3");
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("vrctl: marked line 2: "), "{}", run.err);
}

#[test]
fn what_is_wrong_is_named_by_its_line() {
    let directory = Directory::new("offline-wrong");
    directory.write("good", ROUTES);
    for (routes, why) in [
        (
            "10.0.0.0/8\n10.0.0.1/8 x\n",
            "wrong line 2: 10.0.0.1/8 has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            "# one\n\n10.0.0.0\n",
            "wrong line 3: \"10.0.0.0\" has no prefix length (address/length is expected)",
        ),
        ("10.0.0.0/33\n", "wrong line 1: prefix length 33 is above 32"),
        ("::/129\n", "wrong line 1: prefix length 129 is above 128"),
        ("default 192.0.2.1\n", "wrong line 1: \"default\" has no prefix length"),
        ("10.0.0.0/8 a b\n", "wrong line 1: \"b\" is too much: a line is PREFIX [NEXTHOP]"),
    ] {
        directory.write("wrong", routes);
        let run = vrctl_in(&directory, "route get --routes wrong 10.0.0.1");
        assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{routes}");
        assert!(run.err.starts_with(&format!("vrctl: {why}")), "{}", run.err);
    }
    let run = vrctl_in_with_stdin(
        &directory,
        "route get --routes good --batch -",
        "10.0.0.1\nnonsense\n10.0.0.2\n",
    );
    assert_eq!((run.code, run.out.as_str()), (Some(1), "10.0.0.1 10.0.0.0/8 192.0.2.1\n"));
    assert_eq!(run.err, "vrctl: stdin line 2: \"nonsense\" is not an IP address\n");
    for (arguments, why) in [
        ("route get --routes none 10.0.0.1", "vrctl: none: No such file"),
        ("route get --routes good --batch none", "vrctl: none: No such file"),
        ("route get --routes good -o yaml 10.0.0.1", "vrctl: matches in a table of routes are printed as"),
    ] {
        let run = vrctl_in(&directory, arguments);
        assert_eq!((run.code, run.out.as_str()), (Some(1), ""), "{arguments}");
        assert!(run.err.starts_with(why), "{}", run.err);
    }
    std::fs::write(directory.path.join("latin1"), b"10.0.0.0/8\n\xe4\n").expect("a new file");
    let run = vrctl_in(&directory, "route get --routes latin1 10.0.0.1");
    assert_eq!((run.code, run.err.as_str()), (Some(1), "vrctl: latin1 line 2: it is not UTF-8\n"));
}

#[test]
fn of_equal_prefixes_the_later_counts_and_a_warning_says_so() {
    let directory = Directory::new("offline-again");
    directory.write("routes", "10.0.0.0/8 a\n10.0.0.0/8 b\n");
    let run = vrctl_in(&directory, "route get --routes routes 10.0.0.1");
    assert_eq!((run.code, run.out.as_str()), (Some(0), "10.0.0.1 10.0.0.0/8 b\n"));
    assert_eq!(run.err, "vrctl: routes: 1 line repeats a prefix; the later of each counts\n");
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// The whole Internet's routes, against a scan that compares every route with every address.
#[test]
fn a_full_internet_table_agrees_with_a_scan() {
    let text = real_table::text();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut lines: Vec<&str> = text.lines().collect();
    (1..lines.len()).rev().for_each(|at| lines.swap(at, random.below(at + 1)));
    let nets: Vec<IpNet> = lines.iter().map(|line| line.parse().expect("a prefix a line")).collect();
    // Every third route has no next hop.
    let next_hop = |number: usize| match number % 3 {
        0 => String::new(),
        _ => format!(" nh{}", number % 1000),
    };
    let mut routes = String::new();
    for (number, line) in lines.iter().enumerate() {
        let _ = writeln!(routes, "{line}{}", next_hop(number));
    }
    // Addresses at the edges of routes, beside them, and anywhere.
    let mut addresses: Vec<IpAddr> = Vec::new();
    for _ in 0..20 {
        let net = nets[random.below(nets.len())];
        let (first, last) = (net.network(), net.broadcast());
        addresses.extend([first, last, shifted(first, -1), shifted(last, 1)]);
        addresses.push(Ipv4Addr::from(random.next() as u32).into());
        addresses.push(Ipv6Addr::from(0x2000 << 112 | u128::from(random.next()) << 60).into());
    }
    let batch: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    let directory = Directory::new("offline-internet");
    directory.write("routes", &routes);
    let run = vrctl_in_with_stdin(&directory, "route get --routes routes --batch -", &batch);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let expected: String = addresses
        .iter()
        .map(|address| {
            let holding = nets.iter().enumerate().filter(|(_, net)| net.contains(address));
            match holding.max_by_key(|(_, net)| net.prefix_len()) {
                None => format!("{address} -\n"),
                Some((number, net)) => format!("{address} {net}{}\n", next_hop(number)),
            }
        })
        .collect();
    assert_eq!(run.out, expected);
}

/// The address so many places on, round the end.
fn shifted(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address).wrapping_add_signed(by.into())).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address).wrapping_add_signed(by.into())).into(),
    }
}
