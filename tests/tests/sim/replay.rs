//! Odd frames from real captures through every kind of port: nothing panics, every frame
//! ends in exactly one counter, every buffer comes back.

use std::time::Duration;

use vrouter::Router;
use vrouter_tests::lab::Lab;
use vrouter_tests::odd_frames::odd_frames;
use vrouter_tests::packet::Mac;

use crate::two_nodes::route;

const FRAMES: u32 = 1024;

/// How a captured frame is made to look as if it were for the port.
#[derive(Clone, Copy, Debug)]
enum Address {
    AsCaptured,
    ToPort(Mac, Mac),
}

fn replay(port: &str, address: Address) {
    let mut lab = Lab::new(Router::builder().frames(FRAMES));
    let pod: Mac = [2, 0, 0, 0, 1, 1];
    lab.pod("pod", pod, &["10.1.0.1", "fd00:1::1"]);
    lab.uplink("exclusive", [2, 0, 0, 0, 0, 1], &["10.16.1.11/16", "172.16.0.1/24", "fd00:20::1/64"], true);
    lab.uplink("shared", [2, 0, 0, 0, 0, 2], &["192.168.1.1/24", "fd00:21::1/64"], false);
    lab.host("host", [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4], &["10.1.0.62"]);
    lab.apply([
        route("0.0.0.0/0", "172.16.0.2"),
        route("::/0", "fd00:20::2"),
        route("10.0.0.0/8", "192.168.1.2"),
    ]);
    lab.run();
    let before = lab.counted();
    let name = format!("{port}.rx");
    let rx = |counted: &vrouter_tests::lab::Counted| counted.get(&name).copied().unwrap_or(0);
    let frames = odd_frames();
    assert_eq!(frames.len(), 18_481);
    for (n, frame) in frames.iter().enumerate() {
        let mut frame = frame.clone();
        if let (Address::ToPort(to, from), true) = (address, frame.len() >= 12) {
            frame[..6].copy_from_slice(&to);
            frame[6..12].copy_from_slice(&from);
        }
        lab.send(port, &frame);
        if n % 50 == 49 {
            lab.pass(Duration::from_millis(20));
            lab.run();
            lab.receive_all();
        }
    }
    lab.run();
    lab.receive_all();
    assert_eq!(rx(&lab.counted()) - rx(&before), frames.len() as u64, "{port} {address:?}");
    // What waits for neighbours that nobody plays ends too, and so do the errors about it.
    lab.run_for(Duration::from_secs(10));
    lab.receive_all();
    assert_eq!(lab.counted().get("held"), None);
    assert_eq!(lab.free_frames(), u64::from(FRAMES), "{port} {address:?}");
}

#[test]
fn through_a_pod_port() {
    replay("pod", Address::AsCaptured);
    replay("pod", Address::ToPort([0xee; 6], [2, 0, 0, 0, 1, 1]));
}

#[test]
fn through_an_exclusive_uplink() {
    replay("exclusive", Address::AsCaptured);
    replay("exclusive", Address::ToPort([2, 0, 0, 0, 0, 1], [2, 7, 7, 7, 7, 7]));
}

#[test]
fn through_a_shared_uplink() {
    replay("shared", Address::AsCaptured);
    replay("shared", Address::ToPort([2, 0, 0, 0, 0, 2], [2, 7, 7, 7, 7, 7]));
}

#[test]
fn through_the_host_port() {
    replay("host", Address::AsCaptured);
    replay("host", Address::ToPort([2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4]));
}
