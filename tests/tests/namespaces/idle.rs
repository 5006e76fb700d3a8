//! What an idle router costs.

use std::fs;
use std::time::{Duration, Instant};

use vrouter_tests::testbed::{Attach, TwoNodes, ping, within};

/// Clock ticks of a process in user and kernel mode.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("procfs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name in parentheses").1.split(' ').collect();
    // Fields 14 and 15 of proc_pid_stat(5); this list begins with field 3.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Bytes in memory.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("procfs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn ten_pods_cost_less_than_300_megabytes_and_2_percent_of_a_core() {
    let pods = [Attach::Tap, Attach::Veth].repeat(5);
    let net = TwoNodes::new([&pods, &[]]).start();
    let one = &net.nodes[0];
    for pod in &one.pods[1..] {
        assert_eq!(ping(&one.pods[0].netns, pod.ip4, 1).received, 1);
    }
    let pid = one.router.pid();
    // Pods send router solicitations for some seconds after they came up.
    let settled = Instant::now() + Duration::from_secs(3);
    let (from, start) = within(Duration::from_secs(5), "some seconds", || {
        (Instant::now() > settled).then(|| (ticks(pid), Instant::now()))
    });
    let spent = within(Duration::from_secs(15), "ten seconds", || {
        (start.elapsed() > Duration::from_secs(10)).then(|| ticks(pid) - from)
    });
    // A tick is 10 ms.
    let share = spent as f64 * 0.01 / start.elapsed().as_secs_f64();
    let bytes = resident(pid);
    eprintln!("{:.2} % of a core, {} MB resident", share * 100.0, bytes / 1_000_000);
    assert!(share < 0.02, "{:.1} % of a core", share * 100.0);
    assert!(bytes < 300_000_000, "{bytes} bytes resident");
}
