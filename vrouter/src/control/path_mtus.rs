//! How long outer packets may be on the paths of tunnels, as routers there have told (RFC 1191).
//!
//! A report only ever shortens. What was learned is forgotten ten minutes after it was heard the
//! last time (RFC 1191 section 6.3): the path may have become wider, and if it has not, the next
//! long packet brings another report.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeMap;

use crate::ids::Timestamp;

/// How long a path's MTU is believed.
const AGE: Duration = Duration::from_secs(600);
/// What no path is believed to be below, as Linux has it (`net.ipv4.route.min_pmtu`): links below
/// are hardly found, and reports of such are how a sender is made to send tiny packets.
pub const LEAST: u32 = 552;

/// The two ends of a tunnel: ours, the remote one.
pub type Ends = (Ipv4Addr, Ipv4Addr);

/// What was learned of paths.
#[derive(Debug, Default)]
pub struct PathMtus {
    learned: BTreeMap<Ends, (u32, Timestamp)>,
}

impl PathMtus {
    /// Takes a report of `mtu` bytes, where the first link takes `link`. Whether it changes how
    /// long packets of the tunnel may be.
    pub fn hear(&mut self, ends: Ends, mtu: u32, link: u32, now: Timestamp) -> bool {
        let present = self.get(ends).unwrap_or(link);
        if mtu < LEAST || mtu >= link || mtu > present {
            return false;
        }
        self.learned.insert(ends, (mtu, now.after(AGE)));
        mtu < present
    }

    /// The longest outer packet of a tunnel, if a router has told.
    pub fn get(&self, ends: Ends) -> Option<u32> {
        self.learned.get(&ends).map(|(mtu, _)| *mtu)
    }

    /// Until when that is believed.
    pub fn until(&self, ends: Ends) -> Option<Timestamp> {
        self.learned.get(&ends).map(|(_, until)| *until)
    }

    /// Forgets what has been believed for long enough; of which tunnels.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Ends> {
        let over = |until: &Timestamp| *until <= now;
        let ended = self.learned.iter().filter(|(_, (_, until))| over(until));
        let ended: Vec<Ends> = ended.map(|(ends, _)| *ends).collect();
        self.learned.retain(|_, (_, until)| !over(until));
        ended
    }

    /// Forgets the paths of tunnels that are no more.
    pub fn retain(&mut self, used: impl Fn(&Ends) -> bool) {
        self.learned.retain(|ends, _| used(ends));
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.learned.values().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_shorten_and_are_forgotten() {
        let ends = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1000);
        let mut paths = PathMtus::default();
        assert!(paths.hear(ends, 1400, 1500, at(0)));
        assert!(!paths.hear(ends, 1450, 1500, at(1)), "never up by a report");
        assert!(!paths.hear(ends, 1500, 1500, at(1)) && !paths.hear(ends, 551, 1500, at(1)));
        assert_eq!((paths.get(ends), paths.until(ends)), (Some(1400), Some(at(600))));
        assert!(!paths.hear(ends, 1400, 1500, at(100)), "no change, but young again");
        assert!(paths.expire(at(699)).is_empty());
        assert!(paths.hear(ends, 1300, 1500, at(699)));
        assert_eq!(paths.next_deadline(), Some(at(1299)));
        assert_eq!(paths.expire(at(1299)), [ends]);
        assert_eq!((paths.get(ends), paths.next_deadline()), (None, None));
    }
}
