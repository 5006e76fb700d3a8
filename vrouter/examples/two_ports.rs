//! A router between two wires in one process, with a stage of its own that drops telnet.

use std::net::{IpAddr, Ipv4Addr};

use vrouter::burst::{Burst, lanes};
use vrouter::ids::Timestamp;
use vrouter::pipeline::hook::{HookContext, HookPoint, Stage};
use vrouter::{MemoryPort, PortSpec, Router};

struct NoTelnet;

impl Stage for NoTelnet {
    fn run(&mut self, burst: &mut Burst, context: &mut HookContext<'_>) {
        for lane in lanes(burst.alive) {
            let l4 = (burst.meta.l4[lane] - burst.meta.offset[lane]) as usize;
            if burst.meta.protocol[lane] == 6
                && context.bytes(burst, lane).get(l4 + 2..l4 + 4) == Some(&[0, 23])
            {
                context.drop(burst, lane);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut router = Router::builder().frames(1024).stage(HookPoint::BeforeLookup, |_| NoTelnet).build()?;
    let mut ends = Vec::new();
    for n in 1..=2 {
        let (wire, end) = MemoryPort::with_host(256);
        let pod = PortSpec::pod(&format!("pod{n}"), format!("02:00:00:00:00:0{n}").parse()?, [address(n)]);
        router.add_port(pod, vec![Box::new(wire)])?;
        ends.push(end);
    }
    router.commit()?;
    ends[0].send(&[0xff; 60]); // any Ethernet frame
    router.poll(Timestamp::from_millis(0))?;
    println!("pod2 received {:?}", ends[1].receive());
    Ok(())
}

fn address(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, n).into()
}
