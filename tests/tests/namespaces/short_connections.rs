//! Many short connections at once: none fails, and nothing has to be sent twice.
//!
//! The pods' own stacks are the judges: their counters of retransmitted segments are read before and
//! after, and must agree in the long form, `CONNECTION_SECONDS=60`; the router has dropped nothing.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use vrouter_tests::testbed::{Attach, Netns, TwoNodes};

/// At the same time.
const CLIENTS: usize = 100;
/// Of each client: together a hundred a second.
const PERIOD: Duration = Duration::from_secs(1);

/// Segments that the stack of a namespace has sent again.
fn retransmitted(netns: &Netns) -> u64 {
    netns.enter(|| {
        let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("procfs");
        let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:"));
        let names = lines.next().expect("names").split_whitespace();
        let values = lines.next().expect("values").split_whitespace();
        let (_, value) = names.zip(values).find(|(name, _)| *name == "RetransSegs").expect("the counter");
        value.parse().expect("a number")
    })
}

/// One connection: a request of 100 bytes, an answer of 3,000.
fn ask(address: (IpAddr, u16)) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(&[1; 100])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert!(answer == [2; 3000], "another answer than was given");
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 100])?;
    stream.write_all(&[2; 3000])
}

fn hundred_a_second(from: &Netns, to: &Netns, address: IpAddr) -> u64 {
    let seconds = std::env::var("CONNECTION_SECONDS").map_or(3, |text| text.parse().expect("seconds"));
    let listener = to.enter(|| TcpListener::bind((address, 0))).expect("a free port");
    listener.set_nonblocking(true).expect("it can be asked without waiting");
    let port = listener.local_addr().expect("it is bound").port();
    let (over, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).expect("it can be waited for");
                        answer(stream).expect("the asker goes on");
                    }
                    Err(_) => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let made = &made;
                scope.spawn(move || {
                    from.enter(|| {
                        std::thread::sleep(PERIOD * number as u32 / CLIENTS as u32);
                        while Instant::now() < end {
                            let next = Instant::now() + PERIOD;
                            ask((address, port)).expect("a connection that works");
                            made.fetch_add(1, Relaxed);
                            std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        }
                    });
                })
            })
            .collect();
        for client in clients {
            client.join().expect("no panic");
        }
        over.store(true, Relaxed);
    });
    made.into_inner()
}

#[test]
fn nothing_is_sent_twice() {
    let net = TwoNodes::new([&[Attach::Tap, Attach::Tap], &[Attach::Tap]]).start();
    let [one, two] = &net.nodes;
    let from = &one.pods[0];
    for to in [&one.pods[1], &two.pods[0]] {
        for address in to.ips() {
            // The first packets find neighbours.
            ask_once(&from.netns, &to.netns, address);
            let before = [retransmitted(&from.netns), retransmitted(&to.netns)];
            let made = hundred_a_second(&from.netns, &to.netns, address);
            let after = [retransmitted(&from.netns), retransmitted(&to.netns)];
            println!("{} to {} at {address}: {made} connections", from.name, to.name);
            assert!(made >= CLIENTS as u64);
            println!("sent again: {before:?} before, {after:?} after");
            // Stacks that a busy machine holds up send again too; on a quiet one nothing is.
            if std::env::var_os("CONNECTION_SECONDS").is_some() {
                assert_eq!(before, after, "segments were sent again to or from {address}");
            }
            for node in &net.nodes {
                for reason in ["tx-full", "no-frame", "port-down"] {
                    assert_eq!(node.router.drops(reason), 0, "{reason}");
                }
            }
        }
    }
}

fn ask_once(from: &Netns, to: &Netns, address: IpAddr) {
    vrouter_tests::testbed::tcp_transfer(from, to, address, 1000);
}
