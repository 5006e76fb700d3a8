use super::*;

fn v4(text: &str) -> Prefix<Ipv4Addr> {
    text.parse().unwrap()
}

fn v6(text: &str) -> Prefix<Ipv6Addr> {
    text.parse().unwrap()
}

#[test]
fn host_bits_are_refused_and_named() {
    let error = "10.100.36.103/26".parse::<Prefix<Ipv4Addr>>().unwrap_err();
    assert_eq!(error.to_string(), "10.100.36.103/26 has host bits set; the prefix is 10.100.36.64/26");
    let error = "fd00:20::252/64".parse::<Prefix<Ipv6Addr>>().unwrap_err();
    assert_eq!(error.to_string(), "fd00:20::252/64 has host bits set; the prefix is fd00:20::/64");
    let addr = "10.100.36.103".parse().unwrap();
    assert_eq!(Prefix::masked(addr, 26), Ok(v4("10.100.36.64/26")));
}

#[test]
fn lengths_beyond_the_family_are_refused() {
    assert_eq!(Prefix::masked(Ipv4Addr::UNSPECIFIED, 33), Err(PrefixError::Length { len: 33, max: 32 }));
    assert_eq!(Prefix::new(Ipv6Addr::UNSPECIFIED, 129), Err(PrefixError::Length { len: 129, max: 128 }));
    assert_eq!("::/128".parse::<Prefix<Ipv6Addr>>(), Ok(Prefix::host(Ipv6Addr::UNSPECIFIED)));
}

#[test]
fn every_malformed_text_has_its_reason() {
    let reason = |text: &str| text.parse::<Prefix<Ipv4Addr>>().unwrap_err().to_string();
    assert_eq!(reason("10.0.0.0"), "\"10.0.0.0\" has no prefix length (address/length is expected)");
    assert_eq!(reason("10.0.0/8"), "\"10.0.0\" is not an IPv4 address");
    assert_eq!(reason("::/8"), "\"::\" is not an IPv4 address");
    assert_eq!(reason("10.0.0.0/"), "\"\" is not a prefix length");
    assert_eq!(reason("10.0.0.0/+8"), "\"+8\" is not a prefix length");
    assert_eq!(reason("10.0.0.0/08"), "\"08\" is not a prefix length");
    assert_eq!(reason("10.0.0.0/8 "), "\"8 \" is not a prefix length");
    assert_eq!(reason("10.0.0.0/255.0.0.0"), "\"255.0.0.0\" is not a prefix length");
    assert_eq!(reason("10.0.0.0/33"), "prefix length 33 is above 32");
    assert_eq!(reason("10.0.0.0/999"), "\"999\" is not a prefix length");
    assert_eq!(
        "10.0.0.0/8".parse::<Prefix<Ipv6Addr>>().unwrap_err().to_string(),
        "\"10.0.0.0\" is not an IPv6 address"
    );
    assert_eq!("pod/8".parse::<AnyPrefix>().unwrap_err().to_string(), "\"pod\" is not an IP address");
}

#[test]
fn texts_survive_a_round_trip() {
    for text in ["0.0.0.0/0", "10.100.36.64/26", "255.255.255.255/32"] {
        assert_eq!(v4(text).to_string(), text);
        let any: AnyPrefix = text.parse().unwrap();
        assert_eq!(any, v4(text).into());
        assert_eq!(any.to_string(), text);
    }
    for text in ["::/0", "fd00:20::/64", "fd00:20::252/128"] {
        assert_eq!(v6(text).to_string(), text);
        let any: AnyPrefix = text.parse().unwrap();
        assert_eq!(any, v6(text).into());
        assert_eq!(any.to_string(), text);
    }
    assert_eq!(format!("[{:>12}]", v4("10.0.0.0/8")), "[  10.0.0.0/8]");
    assert_eq!(format!("{:?}", v4("10.0.0.0/8")), "10.0.0.0/8");
}

#[test]
fn inside_and_outside_at_the_edges() {
    let block = v4("10.100.36.64/26");
    assert_eq!(block.first(), "10.100.36.64".parse::<Ipv4Addr>().unwrap());
    assert_eq!(block.last(), "10.100.36.127".parse::<Ipv4Addr>().unwrap());
    assert!(block.contains(block.first()) && block.contains(block.last()));
    assert!(!block.contains("10.100.36.63".parse().unwrap()));
    assert!(!block.contains("10.100.36.128".parse().unwrap()));
    assert!(Prefix::<Ipv6Addr>::DEFAULT.contains(Ipv6Addr::HIGHEST));

    assert!(block.covers(&block));
    assert!(block.covers(&v4("10.100.36.103/32")));
    assert!(!block.covers(&v4("10.100.36.0/24")));
    assert!(!block.covers(&v4("10.100.36.128/26")));
    assert!(Prefix::DEFAULT.covers(&block));
}

#[test]
fn a_family_does_not_contain_the_other() {
    let all: AnyPrefix = "0.0.0.0/0".parse().unwrap();
    assert!(all.contains("10.0.0.1".parse().unwrap()));
    assert!(!all.contains("::a00:1".parse().unwrap()));
    assert_eq!(AnyPrefix::new("::1".parse().unwrap(), 128), Ok(v6("::1/128").into()));
    assert_eq!((all.addr(), all.len()), ("0.0.0.0".parse().unwrap(), 0));
}

#[test]
fn a_prefix_sorts_before_what_it_covers() {
    let mut prefixes = ["10.1.0.0/16", "11.0.0.0/8", "10.0.0.0/16", "10.0.0.0/8"].map(v4);
    prefixes.sort();
    assert_eq!(
        prefixes.map(|prefix| prefix.to_string()),
        ["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "11.0.0.0/8"]
    );
}
