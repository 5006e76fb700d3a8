//! The neighbour machine: frames from the wire, questions, time.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use encap::MacAddr;
use vrouter::ids::Timestamp;
use vrouter::neighbor::{Cache, Config};

use super::script::Script;

const ENTRIES: usize = 16;
const MAC: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 1]);

/// Runs a script against one machine.
pub fn run(data: &[u8]) {
    let mut config = Config::new(MAC);
    config.addresses4.push((Ipv4Addr::new(10, 0, 0, 1), 24));
    config.addresses6.push(("fe80::1".parse().expect("an address"), 64));
    config.addresses6.push(("fd00::1".parse().expect("an address"), 64));
    config.max_entries = ENTRIES;
    let mut cache = Cache::new(config, 1).expect("the configuration is right");
    let mut now = Timestamp::from_millis(1000);
    let mut script = Script(data);
    while let Some(step) = script.byte() {
        match step % 6 {
            0 | 1 => {
                let Some(frame) = script.bytes(256) else { break };
                // Ignored frames say why; both outcomes are right.
                let _ = cache.handle_frame(&addressed(frame, step), now);
            }
            2 => {
                let Some(arg) = script.byte() else { break };
                now = now.after(Duration::from_millis(u64::from(arg) * 200));
                cache.handle_timeout(now);
            }
            3 => drop(script.byte().map(|arg| cache.resolve(address(arg), now))),
            4 => drop(script.byte().map(|arg| cache.keep(address(arg), arg & 0x40 != 0, now))),
            _ => {
                if let Some(arg) = script.byte() {
                    cache.confirm(address(arg), now);
                }
            }
        }
        check(&mut cache);
    }
    // Left alone, the machine comes to rest: nothing may be due in the past.
    now = now.after(Duration::from_secs(3600));
    cache.handle_timeout(now);
    assert!(cache.poll_timeout().is_none_or(|due| due > now), "a timer is overdue");
    check(&mut cache);
}

/// Half of the frames come from another station, to us or to all.
fn addressed(frame: &[u8], step: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if step & 0x80 == 0 && frame.len() >= 12 {
        frame[..6].copy_from_slice(if step & 0x40 == 0 { &MAC.0 } else { &[0xff; 6] });
        frame[6..12].copy_from_slice(&[0x02, 0, 0, 0, 0, 0x10 | (step >> 3 & 7)]);
    }
    frame
}

fn address(arg: u8) -> IpAddr {
    if arg & 0x80 == 0 {
        Ipv4Addr::new(10, 0, 0, arg & 0x3f).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(arg & 0x3f)).into()
    }
}

fn check(cache: &mut Cache) {
    let mut out = [0; 256];
    let mut sent = 0;
    while let Some(len) = cache.poll_transmit(&mut out) {
        sent += 1;
        assert!(sent < 4096, "frames without end");
        assert_eq!(out[6..12], MAC.0, "a frame with a foreign source");
        match u16::from_be_bytes([out[12], out[13]]) {
            0x0806 => assert!(encap::wire::arp::ArpRepr::parse(&out[14..len]).is_ok()),
            0x86dd => assert!(encap::wire::ndisc::parse(&out[14..len]).is_ok()),
            other => panic!("a frame of type {other:#06x}"),
        }
    }
    while cache.poll_event().is_some() {}
    assert!(cache.entries().count() <= ENTRIES, "more entries than allowed");
}
