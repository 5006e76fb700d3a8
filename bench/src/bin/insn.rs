//! A fixed workload, for counting instructions:
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*Rig*turn*' target/release/insn forward
//! ```
//!
//! Instructions per packet = those of the total divided by the packets that it prints.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use vrouter_bench::cycles;
use vrouter_bench::rig::{Path, Rig};

/// Bursts that are forwarded, unless a second argument says how many.
const TURNS: u64 = 2000;

fn main() -> ExitCode {
    let turns = std::env::args().nth(2).map_or(Ok(TURNS), |turns| turns.parse());
    let (path, turns) = match (std::env::args().nth(1).as_deref(), turns) {
        (Some("forward"), Ok(turns)) => (Path::Forward, turns),
        (Some("encap"), Ok(turns)) => (Path::Encap, turns),
        (Some("decap"), Ok(turns)) => (Path::Decap, turns),
        _ => {
            eprintln!("usage: insn forward|encap|decap [BURSTS]");
            return ExitCode::from(2);
        }
    };
    let destinations: Vec<_> = (0..4096).map(|n| Ipv4Addr::from(0x1400_0001 + n * 0x1_0107)).collect();
    let mut rig = Rig::new(path, &destinations);
    let start = cycles::now();
    let packets: u64 = (0..turns).map(|_| rig.turn() as u64).sum();
    let cycles = cycles::now() - start;
    println!("{packets} packets, {:.1} cycles each", cycles as f64 / packets as f64);
    ExitCode::SUCCESS
}
