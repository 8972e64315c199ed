//! Wrong keys, counted by the address that they come from.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong keys from one address in a window, after which it has to wait for the next one.
pub(super) const MOST: u32 = 20;

/// How long wrong keys are remembered.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Most addresses that are counted in a window; some 400 KB. Others can guess uncounted, which takes ten
/// thousand addresses and leaves a key of 256 bits where it was.
const ADDRESSES: usize = 10_000;

/// The wrong keys of the running window.
#[derive(Debug)]
pub(super) struct Guesses {
    began: Instant,
    counts: HashMap<IpAddr, u32>,
}

impl Guesses {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, counts: HashMap::new() }
    }

    /// How long this address has to wait, if it has to.
    pub(super) fn blocked(&mut self, from: IpAddr, now: Instant) -> Option<Duration> {
        self.turn(now);
        let count = self.counts.get(&network(from)).copied().unwrap_or_default();
        (count >= MOST).then(|| (self.began + WINDOW).saturating_duration_since(now))
    }

    /// A wrong key came from this address.
    pub(super) fn wrong(&mut self, from: IpAddr, now: Instant) {
        self.turn(now);
        let from = network(from);
        if self.counts.len() < ADDRESSES || self.counts.contains_key(&from) {
            *self.counts.entry(from).or_default() += 1;
        }
    }

    /// Begins a new window when the old one is over.
    fn turn(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= WINDOW {
            *self = Self::new(now);
        }
    }
}

/// Who has one IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets() {
        let now = Instant::now();
        let (mut guesses, from) = (Guesses::new(now), IpAddr::from([1, 2, 3, 4]));
        let later = now + Duration::from_secs(50);
        for _ in 0..MOST {
            assert_eq!(guesses.blocked(from, later), None);
            guesses.wrong(from, later);
        }
        assert_eq!(guesses.blocked(from, later), Some(Duration::from_secs(10)));
        assert_eq!(guesses.blocked(from, now + WINDOW), None);
    }

    #[test]
    fn the_table_is_bounded() {
        let now = Instant::now();
        let mut guesses = Guesses::new(now);
        for n in 0..2 * ADDRESSES as u32 {
            guesses.wrong(IpAddr::from(n.to_be_bytes()), now);
        }
        assert_eq!(guesses.counts.len(), ADDRESSES);
        for _ in 0..MOST {
            guesses.wrong(IpAddr::from([0, 0, 0, 1]), now);
        }
        assert!(guesses.blocked(IpAddr::from([0, 0, 0, 1]), now).is_some(), "known ones are still counted");
    }

    #[test]
    fn networks() {
        let address = |text: &str| network(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:1.2.3.4"), address("1.2.3.4"));
        assert_ne!(address("1.2.3.4"), address("1.2.3.5"));
    }
}
