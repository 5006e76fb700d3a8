//! What the tests of the flow table share.
// Each test uses a part of it.
#![allow(dead_code)]

use acl::conntrack::{
    Addresses, Capacity, Conntrack, Found, Headers, Opened, PolicyGenerations, Refused, Settings,
    SideVerdict, TcpSegment, Tick, Tuple,
};
use acl::{Action, RuleId, Verdict};

pub(crate) const SEED: [u64; 2] = [1, 2];
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const RST: u8 = 0x04;
pub(crate) const FIN: u8 = 0x01;

/// Eighths of a second.
pub(crate) fn tick(at: u64) -> Tick {
    Tick::from_millis(at * 125)
}

pub(crate) fn v4(src: u32, dst: u32, src_port: u16, dst_port: u16, protocol: u8) -> Tuple {
    let addresses = Addresses::V4((0x0a00_0000 + src).into(), (0x0a00_0000 + dst).into());
    Tuple { addresses, src_port, dst_port, protocol, icmp_type: 0, zone: 0 }
}

pub(crate) fn v6(src: u128, dst: u128, src_port: u16, dst_port: u16, protocol: u8) -> Tuple {
    let net = 0xfd00_0010_u128 << 96;
    let addresses = Addresses::V6((net + src).into(), (net + dst).into());
    Tuple { addresses, src_port, dst_port, protocol, icmp_type: 0, zone: 0 }
}

pub(crate) fn allowed(endpoint: u16) -> SideVerdict {
    let verdict = Verdict { action: Action::Allow, rule: RuleId(u32::from(endpoint) + 100) };
    SideVerdict { endpoint, verdict, generation: 0 }
}

pub(crate) fn segment(flags: u8, seq: u32, ack: u32) -> TcpSegment {
    TcpSegment { flags, seq, ack, window: 1000, payload: 0, scale: None }
}

pub(crate) fn table(flows: u32) -> Conntrack {
    let capacity = Capacity { flows, endpoints: 64 };
    let mut settings = Settings::of(capacity);
    // Small tables have small shares; most tests are not about those.
    settings.limits.evictable = flows;
    settings.limits.evictable_under_pressure = flows;
    Conntrack::new(capacity, SEED, &settings).unwrap()
}

/// One worker: its burst and what it finds.
pub(crate) struct Worker<'t> {
    pub(crate) table: &'t Conntrack,
    pub(crate) headers: Box<Headers>,
    pub(crate) found: Box<Found>,
    pub(crate) generations: Vec<PolicyGenerations>,
}

impl<'t> Worker<'t> {
    pub(crate) fn new(table: &'t Conntrack) -> Self {
        let generations = vec![PolicyGenerations::default(); 64];
        Worker { table, headers: Box::default(), found: Box::default(), generations }
    }

    /// Looks up and tracks one packet.
    pub(crate) fn packet(&mut self, tuple: &Tuple, segment: Option<&TcpSegment>, now: Tick) {
        self.headers.set(0, tuple);
        if let Some(segment) = segment {
            self.headers.set_tcp(0, segment);
        }
        self.headers.len[0] = 100;
        self.table.lookup(&self.headers, 1, &self.generations, now, &mut self.found);
        self.table.track(&self.headers, self.found.hit, now, &mut self.found);
    }

    /// As [`packet`](Self::packet), and opens the flow where there is none.
    pub(crate) fn send(
        &mut self,
        tuple: &Tuple,
        segment: Option<&TcpSegment>,
        endpoint: u16,
        now: Tick,
    ) -> Result<Opened, Refused> {
        self.packet(tuple, segment, now);
        if self.found.first & 1 != 0 {
            let side = allowed(endpoint);
            return self.table.insert(&self.headers, 0, side, SideVerdict::NONE, now, &self.found);
        }
        match self.found.reason(0).filter(|_| self.found.invalid & 1 != 0) {
            Some(reason) => Err(Refused::NotFirst(reason)),
            None => Ok(Opened::Existing { flow: self.found.flow[0], reply: self.found.reply & 1 != 0 }),
        }
    }

    /// A TCP connection up to ESTABLISHED.
    pub(crate) fn connect(&mut self, tuple: &Tuple, endpoint: u16, now: Tick) -> Result<Opened, Refused> {
        let opened = self.send(tuple, Some(&segment(SYN, 10, 0)), endpoint, now)?;
        self.packet(&tuple.reversed(), Some(&segment(SYN | ACK, 20, 11)), now);
        self.packet(tuple, Some(&segment(ACK, 11, 21)), now);
        Ok(opened)
    }
}
