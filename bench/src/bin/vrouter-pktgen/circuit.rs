//! The way that packets take: out of one end and into the same or another.

use core::time::Duration;

use crate::cli::Ends;
use crate::endpoint::{Direction, Endpoint, PortName, Ports};
use crate::measure::{self, Load};
use crate::report::Report;

/// From the opening of the ports on: a device gets frames to receive into, and comes up.
const SETTLE: Duration = Duration::from_millis(50);

/// Where packets go round.
pub(crate) enum Circuit {
    /// Out of one end, into the other.
    Apart(Endpoint, Endpoint),
    /// Out of and into one end.
    Reflected(Endpoint),
}

impl Circuit {
    /// Opens the ports.
    ///
    /// # Errors
    /// They cannot be opened, or nothing can come back from them.
    pub(crate) fn open(ports: &mut Ports, ends: &Ends) -> Result<Self, String> {
        let (tx, rx) = match (&ends.port, &ends.tx, &ends.rx) {
            (Some(port @ PortName::AfXdp(_)), ..) => {
                let mut circuit = Circuit::Reflected(ports.open(port, Direction::Send)?);
                circuit.discard(SETTLE);
                return Ok(circuit);
            }
            // Two ends of one wire.
            (Some(port), ..) => (port, port),
            (None, Some(tx), Some(rx)) => (tx, rx),
            _ => return Err("give --port, or --tx and --rx".to_owned()),
        };
        if matches!((tx, rx), (PortName::Pcap(_), _) | (_, PortName::Pcap(_))) {
            return Err("nothing that is sent comes back from a file: use tx or rx".to_owned());
        }
        let ends = (ports.open(tx, Direction::Send)?, ports.open(rx, Direction::Receive)?);
        let mut circuit = Circuit::Apart(ends.0, ends.1);
        circuit.discard(SETTLE);
        Ok(circuit)
    }

    /// The end that packets are sent on.
    pub(crate) fn sender(&mut self) -> &mut Endpoint {
        match self {
            Circuit::Apart(from, _) => from,
            Circuit::Reflected(endpoint) => endpoint,
        }
    }

    /// Sends and receives.
    pub(crate) fn run(&mut self, load: &Load, drain: Duration) -> Report {
        match self {
            Circuit::Apart(from, to) => measure::round(from, to, load, drain),
            Circuit::Reflected(endpoint) => measure::reflection(endpoint, load, drain),
        }
    }

    /// Takes everything that is still on its way.
    pub(crate) fn discard(&mut self, quiet: Duration) {
        match self {
            Circuit::Apart(_, to) => measure::discard(to, quiet),
            Circuit::Reflected(endpoint) => measure::discard(endpoint, quiet),
        }
    }
}
