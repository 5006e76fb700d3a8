//! The neighbour cache of one port: the machine around [`state`].

use std::collections::VecDeque;
use std::net::IpAddr;

use encap::MacAddr;
use encap::wire::ethernet::{EtherType, Ethernet};

use super::config::{Config, ConfigError};
use super::entry::{Neighbor, Table};
use super::event::{Counters, Entry, Event};
use super::message::{Answer, Heard, Ignored, Kind, MAX_FRAME_LEN};
use super::outbox::{self, Outbox, Transmit};
use super::own::{OwnAddresses, Refused};
use super::random::Random;
use super::state::{self, Demand, Input, Next, State};
use super::timer::TimerQueue;
use super::{arp, ndisc};
use crate::ids::Timestamp;

/// The neighbour cache of one port.
///
/// Methods by kind; after any call of the first two, drain the third:
///
/// | input | time | output |
/// |---|---|---|
/// | [`resolve`](Self::resolve), [`keep`](Self::keep), [`confirm`](Self::confirm), [`handle_frame`](Self::handle_frame), [`set_config`](Self::set_config), [`announce`](Self::announce) | [`handle_timeout`](Self::handle_timeout) when [`poll_timeout`](Self::poll_timeout) is reached | [`poll_event`](Self::poll_event), [`poll_transmit`](Self::poll_transmit) |
///
/// `now` must never go back.
///
/// Entries are made by `resolve` and `keep` alone, at most [`Config::max_entries`]; frames
/// change only what is there. When the cache is full, see [`Refused::CacheFull`]: FAILED
/// entries give way first, then those that traffic has not asked for longest; at most half
/// of the entries may be INCOMPLETE or FAILED on behalf of traffic; next hops of routes
/// stay.
#[derive(Debug)]
pub struct Cache {
    config: Config,
    own: OwnAddresses,
    table: Table,
    timers: TimerQueue<Timer>,
    outbox: Outbox,
    events: VecDeque<Event>,
    random: Random,
    counters: Counters,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Neighbor(IpAddr),
    Announce(IpAddr),
}

impl Cache {
    /// An empty cache. Nothing is announced before [`Self::announce`]. `seed` decides the
    /// random part of the timers.
    ///
    /// # Errors
    /// The fault of `config`.
    pub fn new(config: Config, seed: u64) -> Result<Cache, ConfigError> {
        config.validate()?;
        Ok(Cache {
            own: OwnAddresses::new(&config),
            config,
            table: Table::new(),
            timers: TimerQueue::new(),
            outbox: Outbox::new(),
            events: VecDeque::new(),
            random: Random::new(seed),
            counters: Counters::default(),
        })
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Takes over another configuration. New addresses are announced, all of them if the
    /// MAC address is another. Neighbours in no connected prefix any more are removed,
    /// also next hops of routes: [`Self::keep`] them again when their prefix is back.
    ///
    /// # Errors
    /// The fault of `config`; the old one stays in force.
    pub fn set_config(&mut self, config: Config, now: Timestamp) -> Result<(), ConfigError> {
        config.validate()?;
        let is_new_mac = config.mac != self.config.mac;
        let (gone, added) = self.own.replace(&config);
        self.config = config;
        for address in gone {
            self.timers.cancel(Timer::Announce(address));
        }
        if is_new_mac {
            self.announce(now);
        } else {
            for address in added {
                self.start_announcing(address, now);
            }
        }
        let unconnected: Vec<IpAddr> = self
            .table
            .iter()
            .map(|(address, _)| address)
            .filter(|&address| self.own.source_for(address).is_err())
            .collect();
        for address in unconnected {
            self.forget(address);
        }
        Ok(())
    }

    /// Tells all stations of the link where the port's addresses are: to be called when
    /// the machine takes over the port, and when the link comes up.
    pub fn announce(&mut self, now: Timestamp) {
        let addresses: Vec<IpAddr> = self.own.addresses().collect();
        for address in addresses {
            self.start_announcing(address, now);
        }
    }

    /// Traffic waits for `address`. [`Event::Resolved`], [`Event::Failed`] or
    /// [`Event::Removed`] follows; at once, if the cache knows already.
    ///
    /// The packet path forwards without asking here, so a neighbour counts as used for
    /// [`Config::gc`] after each call, and is kept checked in that time. Call it also now
    /// and then for neighbours whose traffic counters move.
    ///
    /// # Errors
    /// Why there is no use in asking; nothing follows then.
    pub fn resolve(&mut self, address: IpAddr, now: Timestamp) -> Result<(), Refused> {
        self.want(address, false, now)?;
        self.table.update(address, |neighbor| {
            neighbor.used = true;
            neighbor.touched = now;
        });
        self.step(address, Input::Use, None, now);
        Ok(())
    }

    /// `keep`: `address` is the next hop of a route, to be known and checked without any
    /// traffic, and asked for again whenever it failed. Events follow as for
    /// [`Self::resolve`]. Not `keep`: no longer so; without traffic the entry is checked
    /// no more and forgotten after [`Config::gc`].
    ///
    /// # Errors
    /// As for [`Self::resolve`], never without `keep`.
    pub fn keep(&mut self, address: IpAddr, keep: bool, now: Timestamp) -> Result<(), Refused> {
        if keep {
            self.want(address, true, now)?;
            self.table.update(address, |neighbor| neighbor.keep = true);
            self.step(address, Input::Use, None, now);
        } else {
            self.table.update(address, |neighbor| {
                if neighbor.keep {
                    neighbor.keep = false;
                    neighbor.touched = now;
                }
            });
        }
        Ok(())
    }

    /// An upper layer knows that `address` receives what we send (RFC 4861 §7.3.1): an
    /// acknowledged segment, a routing protocol's answer.
    pub fn confirm(&mut self, address: IpAddr, now: Timestamp) {
        self.step(address, Input::Confirm, None, now);
    }

    /// Takes a received frame, from the Ethernet header on, without VLAN tag: ARP, or
    /// IPv6 with neighbour discovery.
    ///
    /// # Errors
    /// Why the frame changed nothing and got no answer; counted.
    pub fn handle_frame(&mut self, frame: &[u8], now: Timestamp) -> Result<(), Ignored> {
        let outcome = self.receive(frame, now);
        self.counters.ignored += u64::from(outcome.is_err());
        self.counters.malformed += u64::from(matches!(outcome, Err(Ignored::Malformed(_))));
        outcome
    }

    /// Lets time pass: to be called when [`Self::poll_timeout`] is reached; earlier or
    /// later does no harm.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        while let Some(timer) = self.timers.expire(now) {
            match timer {
                Timer::Announce(address) => self.announce_once(address, now),
                Timer::Neighbor(address) => {
                    let Some(neighbor) = self.table.get(address) else {
                        continue;
                    };
                    let most = match neighbor.state {
                        State::Probe => self.config.unicast_solicits,
                        _ => self.config.multicast_solicits,
                    };
                    let input = Input::Timeout {
                        left: neighbor.questions < most,
                        demand: neighbor.demand(self.config.gc, now),
                    };
                    self.step(address, input, None, now);
                }
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called next.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Writes the next frame to be sent on this port into `out`, from the Ethernet header
    /// on, and returns its length.
    ///
    /// `out` must hold [`MAX_FRAME_LEN`] bytes: into less nothing is written, and the
    /// frame goes on waiting.
    pub fn poll_transmit(&mut self, out: &mut [u8]) -> Option<usize> {
        let out = out.first_chunk_mut::<MAX_FRAME_LEN>()?;
        let mac = self.config.mac;
        while let Some(transmit) = self.outbox.pop() {
            let len = match transmit {
                Transmit::Question(address) => self.write_question(address, out),
                Transmit::Answer(answer) => {
                    self.own.contains(answer.own).then(|| outbox::write_answer(out, mac, &answer))
                }
                Transmit::Announcement(own) => {
                    self.own.contains(own).then(|| outbox::write_announcement(out, mac, own))
                }
            };
            if len.is_some() {
                return len;
            }
        }
        None
    }

    /// The next thing the dataplane must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// All neighbours, by address.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.table.iter().map(|(address, neighbor)| neighbor.show(address))
    }

    /// One neighbour.
    pub fn entry(&self, address: IpAddr) -> Option<Entry> {
        self.table.get(address).map(|neighbor| neighbor.show(address))
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Makes the entry for `address`, or repeats what was last said of it.
    fn want(&mut self, address: IpAddr, for_route: bool, now: Timestamp) -> Result<(), Refused> {
        if let Some(neighbor) = self.table.get(address) {
            self.events.extend(neighbor.told);
            return Ok(());
        }
        self.own.source_for(address)?;
        while let Some(victim) = self
            .table
            .room_for_one(self.config.max_entries, for_route, self.config.retrans, now)
            .map_err(|_| {
                self.counters.cache_full += 1;
                Refused::CacheFull
            })?
        {
            self.counters.evicted += 1;
            self.forget(victim);
        }
        self.table.insert(address, Neighbor::new(now));
        self.enter(address, State::Incomplete, None, now);
        Ok(())
    }

    /// Reads a frame and acts on it.
    fn receive(&mut self, frame: &[u8], now: Timestamp) -> Result<(), Ignored> {
        let ethernet = Ethernet::new_checked(frame)?;
        if ethernet.src() == self.config.mac {
            return Err(Ignored::Own);
        }
        if !ethernet.src().is_unicast() {
            return Err(Ignored::BadSender);
        }
        if ethernet.dst() != self.config.mac && !ethernet.dst().is_multicast() {
            return Err(Ignored::OtherStation);
        }
        let heard = match ethernet.ethertype() {
            EtherType::ARP => arp::hear(ethernet.dst(), ethernet.payload(), &self.own)?,
            EtherType::IPV6 => ndisc::hear(ethernet.src(), ethernet.payload())?,
            _ => return Err(Ignored::OtherProtocol),
        };
        self.hear(&heard, now)
    }

    /// Acts on a message, of whichever family.
    fn hear(&mut self, heard: &Heard, now: Timestamp) -> Result<(), Ignored> {
        let claimant = heard.offered.unwrap_or(heard.sender);
        if claimant == self.config.mac {
            return Err(Ignored::Own);
        }
        if let Some(address) = heard.about.filter(|&about| self.own.contains(about)) {
            self.conflict(address, claimant, now);
            return Err(Ignored::Conflict);
        }
        let known = heard.about.and_then(|about| Some((about, self.table.get(about)?.offer(heard.offered))));
        if let Some((address, offer)) = known {
            let input = match heard.kind {
                Kind::Claim => Input::Claim(offer),
                Kind::Advert { solicited, override_ } => Input::Advert { offer, solicited, override_ },
            };
            self.step(address, input, heard.offered, now);
        }
        match heard.asks.filter(|&asked| self.own.contains(asked)) {
            Some(own) => {
                let answer = Answer { own, asker: heard.about, asker_mac: claimant };
                let queued = self.outbox.answer(answer);
                self.counters.answers_dropped += u64::from(queued.is_err());
                queued
            }
            None if known.is_some() => Ok(()),
            None => Err(Ignored::NotForUs),
        }
    }

    fn conflict(&mut self, address: IpAddr, mac: MacAddr, now: Timestamp) {
        self.counters.conflicts += 1;
        if self.own.defend(address, now) {
            self.outbox.announce(address);
            self.events.push_back(Event::Conflict { address, mac });
        }
    }

    fn start_announcing(&mut self, address: IpAddr, now: Timestamp) {
        self.own.start_announcing(address);
        self.announce_once(address, now);
    }

    fn announce_once(&mut self, address: IpAddr, now: Timestamp) {
        self.outbox.announce(address);
        if let Some(pause) = self.own.count_announcement(address) {
            self.timers.arm(Timer::Announce(address), now.after(pause));
        }
    }

    /// Feeds the state machine.
    fn step(&mut self, address: IpAddr, input: Input, offered: Option<MacAddr>, now: Timestamp) {
        let Some(neighbor) = self.table.get(address) else {
            return;
        };
        match state::next(neighbor.state, input) {
            Next::Stay => {}
            Next::Enter(state) => self.enter(address, state, None, now),
            Next::Learn(state) => self.enter(address, state, offered, now),
            Next::Forget => self.forget(address),
        }
    }

    /// Enters `state`: starts its timer, asks, tells the dataplane.
    fn enter(&mut self, address: IpAddr, state: State, learned: Option<MacAddr>, now: Timestamp) {
        let config = &self.config;
        let random = &mut self.random;
        let entered = self.table.update(address, |neighbor| {
            if state != neighbor.state {
                neighbor.state = state;
                neighbor.since = now;
                neighbor.questions = 0;
            }
            neighbor.mac = learned.or(neighbor.mac);
            let asks = matches!(state, State::Incomplete | State::Probe);
            let queue_question = asks && !neighbor.question_waits;
            if asks {
                neighbor.questions += 1;
                neighbor.question_waits = true;
            }
            if state == State::Incomplete {
                neighbor.asked_all = now;
            }
            let told = match (state, neighbor.mac) {
                (State::Failed, _) => Some(Event::Failed { address }),
                (State::Incomplete, _) => None,
                (_, mac) => mac.map(|mac| Event::Resolved { address, mac }),
            };
            let news = told.filter(|_| told != neighbor.told);
            neighbor.told = told.or(neighbor.told);
            if state == State::Failed {
                neighbor.mac = None;
            }
            let deadline = match state {
                State::Incomplete | State::Probe => now.after(config.retrans),
                State::Reachable => now.after(random.around(config.reachable)),
                State::Stale => neighbor.touched.after(config.gc),
                State::Delay => now.after(config.delay),
                State::Failed => now.after(config.failed_hold),
            };
            let is_wanted = neighbor.demand(config.gc, now) != Demand::Nobody;
            (queue_question, news, deadline, is_wanted)
        });
        let Some((queue_question, news, deadline, is_wanted)) = entered else {
            return;
        };
        self.timers.arm(Timer::Neighbor(address), deadline);
        self.events.extend(news);
        if queue_question {
            self.outbox.ask(address);
        }
        if state == State::Stale && is_wanted {
            self.step(address, Input::Use, None, now);
        }
    }

    fn forget(&mut self, address: IpAddr) {
        if self.table.remove(address).is_some() {
            self.timers.cancel(Timer::Neighbor(address));
            self.events.push_back(Event::Removed { address });
        }
    }

    /// Writes the question that waits for `address`, if there is still something to ask.
    fn write_question(&mut self, address: IpAddr, out: &mut [u8; MAX_FRAME_LEN]) -> Option<usize> {
        let to = self.table.update(address, |neighbor| {
            let waits = std::mem::take(&mut neighbor.question_waits);
            match neighbor.state {
                State::Incomplete if waits => Some(None),
                State::Probe if waits => neighbor.mac.map(Some),
                _ => None,
            }
        })??;
        let own = self.own.source_for(address).ok()?;
        outbox::write_question(out, self.config.mac, own, address, to)
    }
}
