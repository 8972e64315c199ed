//! Who may connect: how many in all, how many from one address, how many a second.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anser_wire::time::Instant;

/// Why a connection was closed as soon as it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many as allowed are open.
    Full,
    /// As many as allowed are open from this address.
    FullForAddress,
}

/// Counts open connections. The lock is taken when one opens or closes.
#[derive(Debug)]
pub(crate) struct Admission {
    max: usize,
    max_per_ip: usize,
    open: AtomicUsize,
    by_ip: Mutex<HashMap<IpAddr, u32>>,
}

impl Admission {
    /// `max_per_ip` 0 means no limit.
    pub(crate) fn new(max: usize, max_per_ip: usize) -> Self {
        Self { max, max_per_ip, open: AtomicUsize::new(0), by_ip: Mutex::default() }
    }

    fn by_ip(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection in, or says why not.
    pub(crate) fn enter(&self, ip: IpAddr) -> Result<(), Refusal> {
        let ip = network(ip);
        let mut by_ip = self.by_ip();
        if self.open.load(Ordering::Relaxed) >= self.max {
            return Err(Refusal::Full);
        }
        let count = by_ip.entry(ip).or_insert(0);
        if self.max_per_ip > 0 && *count as usize >= self.max_per_ip {
            return Err(Refusal::FullForAddress);
        }
        *count += 1;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, ip: IpAddr) {
        let ip = network(ip);
        let mut by_ip = self.by_ip();
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(count) = by_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&ip);
            }
        }
    }

    /// Addresses that connections come from.
    pub(crate) fn addresses(&self) -> usize {
        self.by_ip().len()
    }

    /// Connections that are open, authenticated or not.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// What counts as one address: over IPv6 the /64, as every customer has one to choose from.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        ip @ IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// A token bucket: so many a second, and at once as many as a tenth of a second brings.
#[derive(Debug)]
pub(crate) struct Rate {
    per_second: u32,
    /// Thousandths of a token.
    tokens: u64,
    at: Instant,
}

impl Rate {
    /// `per_second` 0 means no limit.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, tokens: Self::burst(per_second), at: now }
    }

    fn burst(per_second: u32) -> u64 {
        (u64::from(per_second) * 100).max(1000)
    }

    /// Whether there is one to [take](Self::take), or in how many milliseconds there will be.
    pub(crate) fn look(&mut self, now: Instant) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let rate = u64::from(self.per_second);
        let passed = now.0.saturating_sub(self.at.0);
        self.at = now;
        self.tokens =
            passed.saturating_mul(rate).saturating_add(self.tokens).min(Self::burst(self.per_second));
        if self.tokens < 1000 {
            return Err((1000 - self.tokens).div_ceil(rate));
        }
        Ok(())
    }

    /// Takes one that is there.
    pub(crate) fn take(&mut self) {
        self.tokens = self.tokens.saturating_sub(1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_and_out() {
        let a = IpAddr::from([127, 0, 0, 1]);
        let b = IpAddr::from([127, 0, 0, 2]);
        let c = IpAddr::from([127, 0, 0, 3]);
        let admission = Admission::new(3, 2);
        assert_eq!(admission.enter(a), Ok(()));
        assert_eq!(admission.enter(a), Ok(()));
        assert_eq!(admission.enter(a), Err(Refusal::FullForAddress));
        assert_eq!(admission.enter(b), Ok(()));
        assert_eq!(admission.enter(c), Err(Refusal::Full));
        admission.leave(a);
        assert_eq!(admission.enter(a), Ok(()));
        assert_eq!(admission.open(), 3);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let admission = Admission::new(9, 1);
        let enter = |ip: &str| admission.enter(ip.parse().unwrap());
        assert_eq!(enter("2001:db8:0:1::1"), Ok(()));
        assert_eq!(enter("2001:db8:0:1:ffff::2"), Err(Refusal::FullForAddress));
        assert_eq!(enter("2001:db8:0:2::1"), Ok(()));
        admission.leave("2001:db8:0:1:9::9".parse().unwrap());
        assert_eq!(enter("2001:db8:0:1::3"), Ok(()));
        // IPv4 stays IPv4, however it is written.
        assert_eq!(enter("::ffff:192.0.2.1"), Ok(()));
        assert_eq!(enter("::ffff:192.0.2.2"), Ok(()));
        assert_eq!(enter("192.0.2.1"), Err(Refusal::FullForAddress));
    }

    #[test]
    fn a_rate_is_kept_over_a_second() {
        let mut rate = Rate::new(100, Instant::ZERO);
        let mut taken = 0;
        let mut now = 0;
        while now < 1000 {
            match rate.look(Instant(now)) {
                Ok(()) => {
                    rate.take();
                    taken += 1;
                }
                Err(wait) => now += wait,
            }
        }
        assert_eq!(taken, 100 + 9, "a second's worth, and the burst less the one that lies at its end");
    }
}
