//! A burst's headers as policy sees them: one array a field, one bit a packet.

use crate::model::has_ports;

/// The bits that are set, in rising order.
#[inline]
pub(crate) fn lanes(mut mask: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let lane = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (lane < 64).then_some(lane)
    })
}

/// Headers of up to 64 packets. Of lanes that nobody asks about anything may stand here.
#[derive(Clone, Debug)]
pub struct Headers {
    /// Lanes of IPv6 packets; the others are IPv4.
    pub v6: u64,
    /// Lanes whose ports, or ICMP type and code, are there: no fragment behind the first, not cut short.
    pub transport: u64,
    /// Class of the source address, from [`AddressTrie`](crate::AddressTrie).
    pub source_class: [u32; 64],
    /// Class of the destination address.
    pub destination_class: [u32; 64],
    /// IP protocol; of IPv6 the one behind the extension headers.
    pub protocol: [u8; 64],
    /// Source port.
    pub source_port: [u16; 64],
    /// Destination port; of ICMP the type in the high octet and the code in the low.
    pub destination_port: [u16; 64],
}

impl Headers {
    /// Headers of no packet.
    pub fn new() -> Self {
        Headers {
            v6: 0,
            transport: 0,
            source_class: [0; 64],
            destination_class: [0; 64],
            protocol: [0; 64],
            source_port: [0; 64],
            destination_port: [0; 64],
        }
    }

    /// Sets one lane. `ports`: source and destination port, or type and code of ICMP, if they are there.
    pub fn set(
        &mut self,
        lane: usize,
        v6: bool,
        classes: (u32, u32),
        protocol: u8,
        ports: Option<(u16, u16)>,
    ) {
        let bit = 1_u64 << lane;
        self.v6 = if v6 { self.v6 | bit } else { self.v6 & !bit };
        self.transport = if ports.is_some() { self.transport | bit } else { self.transport & !bit };
        (self.source_class[lane], self.destination_class[lane]) = classes;
        self.protocol[lane] = protocol;
        let (first, second) = ports.unwrap_or_default();
        (self.source_port[lane], self.destination_port[lane]) =
            if has_ports(protocol) { (first, second) } else { (0, first << 8 | second & 255) };
    }
}

impl Default for Headers {
    fn default() -> Self {
        Self::new()
    }
}
