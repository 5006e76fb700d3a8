//! What a worker does when there is nothing to do.
//!
//! | mode      | without work                                                   |
//! |-----------|----------------------------------------------------------------|
//! | poll      | spins for ever: lowest latency, a whole core                   |
//! | adaptive  | spins [`SPIN`], then blocks until something arrives; blocks at once while spinning has not paid lately |
//! | interrupt | blocks at once                                                 |
//!
//! Spinning does not pay where packets are far apart, and where the kernel's receive
//! processing runs on the worker's own core: it cannot run while the worker spins. So
//! after [`FRUITLESS`] spins that ended in a block, adaptive mode spins only now and then,
//! to see whether it pays again.
//!
//! Blocking ends by a packet, a command or another worker's hand-off. Queues that
//! cannot be waited on (memory ports) turn blocking into naps of [`NAP`].

use core::time::Duration;

use crate::ids::Timestamp;

/// How long adaptive mode spins after the last packet. Two routers on one core must
/// both make progress, so it is short.
pub const SPIN: Duration = Duration::from_micros(30);
/// Spins in a row without a packet after which adaptive mode blocks at once.
pub const FRUITLESS: u32 = 16;
/// How often adaptive mode then tries to spin: once in so many idle times.
pub const RETRY: u32 = 64;
/// A nap where blocking is not possible.
pub const NAP: Duration = Duration::from_micros(50);
/// The longest block: an upper bound for noticing what has no wake-up.
pub const LONGEST: Duration = Duration::from_secs(1);
/// The longest block while packets wait for a neighbour: their time may run out.
pub const HOLD_TICK: Duration = Duration::from_millis(100);

/// The modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdleMode {
    /// Spin for ever.
    Poll,
    /// Spin, then block.
    #[default]
    Adaptive,
    /// Block at once.
    Interrupt,
}

impl IdleMode {
    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            IdleMode::Poll => "poll",
            IdleMode::Adaptive => "adaptive",
            IdleMode::Interrupt => "interrupt",
        }
    }
}

/// Decides between spinning and blocking.
#[derive(Debug)]
pub struct IdlePolicy {
    mode: IdleMode,
    idle_since: Option<Timestamp>,
    /// Idle times in a row that ended in a block.
    fruitless: u32,
}

impl IdlePolicy {
    /// A policy of this mode.
    pub fn new(mode: IdleMode) -> Self {
        IdlePolicy { mode, idle_since: None, fruitless: 0 }
    }

    /// A turn moved packets.
    #[inline]
    pub fn worked(&mut self) {
        if self.idle_since.take().is_some() {
            self.fruitless = 0;
        }
    }

    /// A turn at `now` moved none: how long to block, or `None` to spin.
    pub fn next(&mut self, now: Timestamp, can_block: bool) -> Option<Duration> {
        let since = *self.idle_since.get_or_insert(now);
        let block = if can_block { LONGEST } else { NAP };
        match self.mode {
            IdleMode::Poll => None,
            IdleMode::Interrupt => Some(block),
            IdleMode::Adaptive => {
                let spins = self.fruitless < FRUITLESS || self.fruitless.is_multiple_of(RETRY);
                if spins && now.since(since) < SPIN {
                    return None;
                }
                self.fruitless = self.fruitless.saturating_add(1);
                // What ends the block is not to the credit of a spin.
                self.idle_since = None;
                Some(block)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adaptive_spins_and_then_blocks_until_it_worked() {
        let mut idle = IdlePolicy::new(IdleMode::Adaptive);
        assert_eq!(idle.next(Timestamp(0), true), None);
        assert_eq!(idle.next(Timestamp(29_000), true), None);
        assert_eq!(idle.next(Timestamp(30_000), true), Some(LONGEST));
        assert_eq!(idle.next(Timestamp(31_000), true), None);
        assert_eq!(idle.next(Timestamp(61_000), false), Some(NAP));
        idle.worked();
        assert_eq!(idle.next(Timestamp(90_000), true), None);
    }

    #[test]
    fn adaptive_stops_spinning_where_it_does_not_pay_and_tries_again() {
        let mut idle = IdlePolicy::new(IdleMode::Adaptive);
        let mut now = 0;
        let mut spun = |idle: &mut IdlePolicy, packet_within_spin: bool| {
            let mut turns = 0;
            loop {
                now += 10_000;
                let blocked = idle.next(Timestamp(now), true).is_some();
                if blocked || packet_within_spin {
                    idle.worked();
                    return turns > 0 || !blocked;
                }
                turns += 1;
            }
        };
        assert!((0..FRUITLESS).all(|_| spun(&mut idle, false)));
        let spins = (FRUITLESS..10 * RETRY).filter(|_| spun(&mut idle, false)).count();
        assert_eq!(spins, 9, "one spin in {RETRY}");
        assert!(spun(&mut idle, true), "the next retry finds a packet");
        assert!((0..FRUITLESS).all(|_| spun(&mut idle, false)), "spinning is back");
    }

    #[test]
    fn poll_never_blocks_and_interrupt_always_does() {
        let far = Timestamp::from_millis(1 << 30);
        assert_eq!(IdlePolicy::new(IdleMode::Poll).next(far, true), None);
        assert_eq!(IdlePolicy::new(IdleMode::Interrupt).next(Timestamp(0), true), Some(LONGEST));
    }
}
