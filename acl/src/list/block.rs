//! Sixteen rules side by side, so that one packet is compared with all of them at once.

use super::{DESTINATION, DESTINATION_PORT, ListKeys, ListRule, NO_RULE, PROTOCOL, SOURCE, SOURCE_PORT};

/// Rules of a block.
pub(super) const WIDTH: usize = 16;

/// Up to [`WIDTH`] rules in rising order. Places that are not used match nothing and have the number
/// [`NO_RULE`].
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub(super) source: [u32; WIDTH],
    pub(super) source_mask: [u32; WIDTH],
    pub(super) destination: [u32; WIDTH],
    pub(super) destination_mask: [u32; WIDTH],
    /// Lowest source ports, then lowest destination ports.
    pub(super) low: [u16; 2 * WIDTH],
    /// Highest source ports, then highest destination ports.
    pub(super) high: [u16; 2 * WIDTH],
    pub(super) rules: [u32; WIDTH],
    pub(super) protocol: [u8; WIDTH],
    pub(super) protocol_mask: [u8; WIDTH],
}

impl Block {
    /// A block of at most [`WIDTH`] rules by number.
    pub(super) fn new(rules: &[ListRule], numbers: &[u32]) -> Self {
        // No port is at least 65535 and at most 0.
        let mut block = Block {
            source: [0; WIDTH],
            source_mask: [0; WIDTH],
            destination: [0; WIDTH],
            destination_mask: [0; WIDTH],
            low: [u16::MAX; 2 * WIDTH],
            high: [0; 2 * WIDTH],
            rules: [NO_RULE; WIDTH],
            protocol: [0; WIDTH],
            protocol_mask: [0; WIDTH],
        };
        for (at, number) in numbers.iter().enumerate().take(WIDTH) {
            let rule = &rules[*number as usize];
            block.source[at] = rule.source.network().into();
            block.source_mask[at] = rule.source.netmask().into();
            block.destination[at] = rule.destination.network().into();
            block.destination_mask[at] = rule.destination.netmask().into();
            block.low[at] = *rule.source_ports.start();
            block.high[at] = *rule.source_ports.end();
            block.low[WIDTH + at] = *rule.destination_ports.start();
            block.high[WIDTH + at] = *rule.destination_ports.end();
            block.rules[at] = *number;
            block.protocol[at] = rule.protocol.0 & rule.protocol.1;
            block.protocol_mask[at] = rule.protocol.1;
        }
        block
    }

    /// The first rule that matches a packet.
    pub(super) fn first_match(&self, keys: &ListKeys, lane: usize) -> Option<u32> {
        let field = |field: usize| keys.fields[field][lane];
        let (source, destination) = (field(SOURCE), field(DESTINATION));
        let (source_port, destination_port) = (field(SOURCE_PORT) as u16, field(DESTINATION_PORT) as u16);
        let protocol = field(PROTOCOL) as u8;
        let mut matching = 0_u32;
        for at in 0..WIDTH {
            let differs = (source & self.source_mask[at]) ^ self.source[at]
                | (destination & self.destination_mask[at]) ^ self.destination[at]
                | u32::from((protocol & self.protocol_mask[at]) ^ self.protocol[at]);
            let inside = (self.low[at] <= source_port)
                & (source_port <= self.high[at])
                & (self.low[WIDTH + at] <= destination_port)
                & (destination_port <= self.high[WIDTH + at]);
            matching |= u32::from((differs == 0) & inside) << at;
        }
        (matching != 0).then(|| self.rules[matching.trailing_zeros() as usize])
    }
}
