//! The clock of the daemon. Everything below takes the time as an argument.

use crate::ids::Timestamp;

/// Monotonic time since boot. Costs about 20 ns: once a burst, not once a packet.
#[inline]
pub fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Timestamp(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
