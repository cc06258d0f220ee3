//! How often a wrong secret may be tried: a token bucket for each address and one for all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use crate::share::Steady;

/// Wrong tries that one address has at once; a person mistypes a few times, a script with an old token polls.
const TRIES_PER_ADDRESS: u32 = 10;
/// How long until an address has one more.
const REFILL_PER_ADDRESS: Duration = Duration::from_secs(6);
/// Wrong tries that all addresses together have at once.
const TRIES_OVERALL: u32 = 100;
/// How long until they have one more: 86 400 guesses a day, against 128 bits or more.
const REFILL_OVERALL: Duration = Duration::from_secs(1);
/// How many addresses are remembered; about 200 kB. With more than this guessing at once the overall bucket is what holds.
const MAX_ADDRESSES: usize = 4096;

/// Counts wrong tries.
#[derive(Debug)]
pub(super) struct Guesses(Mutex<Table>);

#[derive(Debug)]
struct Table {
    overall: Bucket,
    addresses: HashMap<IpAddr, Bucket>,
}

/// Says that no further try is looked at for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) wait: Duration,
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Table { overall: Bucket::full(), addresses: HashMap::new() }))
    }

    /// Judges a try. A wrong one costs; where nothing is left, not even a right one counts, or guessing would go on unhindered.
    pub(super) fn judge(&self, address: Option<IpAddr>, now: Steady, is_right: bool) -> Result<bool, TooMany> {
        let address = network_of(address.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)));
        let mut table = self.0.lock().expect("nobody panics while holding the table of guesses");
        let Table { overall, addresses } = &mut *table;
        let wait_overall = overall.wait(now, TRIES_OVERALL, REFILL_OVERALL);
        let wait_here = addresses.get(&address).map_or(Duration::ZERO, |bucket| bucket.wait(now, TRIES_PER_ADDRESS, REFILL_PER_ADDRESS));
        let wait = wait_overall.max(wait_here);
        if !wait.is_zero() {
            return Err(TooMany { wait });
        }
        if !is_right {
            overall.take(now, REFILL_OVERALL);
            if !addresses.contains_key(&address) && addresses.len() >= MAX_ADDRESSES {
                make_room(addresses, now);
            }
            addresses.entry(address).or_insert_with(Bucket::full).take(now, REFILL_PER_ADDRESS);
        }
        Ok(is_right)
    }
}

/// One household or one machine has a whole /64 of IPv6; it counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::V6(octets.into())
        }
        v4 => v4,
    }
}

/// Forgets those who have all their tries again; where there are none, the one who has been quiet longest.
fn make_room(addresses: &mut HashMap<IpAddr, Bucket>, now: Steady) {
    addresses.retain(|_, bucket| bucket.full_at > now);
    if addresses.len() >= MAX_ADDRESSES
        && let Some(quietest) = addresses.iter().min_by_key(|(_, bucket)| bucket.full_at).map(|(address, _)| *address)
    {
        addresses.remove(&quietest);
    }
}

/// A token bucket, as the instant at which it is full again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    full_at: Steady,
}

impl Bucket {
    fn full() -> Self {
        Self { full_at: Steady(i64::MIN) }
    }

    /// Returns how long until it holds a token.
    fn wait(self, now: Steady, tries: u32, refill: Duration) -> Duration {
        self.full_at.since(now).saturating_sub(refill * (tries - 1))
    }

    fn take(&mut self, now: Steady, refill: Duration) {
        self.full_at = self.full_at.max(now).plus(refill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 7)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 0, 8)));

    #[test]
    fn ten_wrong_tries_block_the_address_and_no_other() {
        let guesses = Guesses::new();
        let now = Steady(1_000_000);
        for _ in 0..TRIES_PER_ADDRESS {
            assert_eq!(guesses.judge(HERE, now, false), Ok(false));
        }
        assert_eq!(guesses.judge(HERE, now, true), Err(TooMany { wait: REFILL_PER_ADDRESS }));
        assert_eq!(guesses.judge(THERE, now, true), Ok(true));
        assert_eq!(guesses.judge(HERE, now.plus(REFILL_PER_ADDRESS), true), Ok(true));
    }

    #[test]
    fn right_tries_cost_nothing() {
        let guesses = Guesses::new();
        for _ in 0..10 * TRIES_OVERALL {
            assert_eq!(guesses.judge(HERE, Steady(0), true), Ok(true));
        }
    }

    #[test]
    fn many_addresses_together_are_bounded_and_so_is_the_table() {
        let guesses = Guesses::new();
        let now = Steady(0);
        let address = |n: u32| Some(IpAddr::V4(n.into()));
        let judged = (0..2 * TRIES_OVERALL).filter(|n| guesses.judge(address(*n), now, false).is_ok()).count();
        assert_eq!(judged, TRIES_OVERALL as usize);
        for n in 0..2 * MAX_ADDRESSES as u32 {
            let later = now.plus(Duration::from_secs(200 + u64::from(n)));
            let _ = guesses.judge(address(n), later, false);
        }
        assert!(guesses.0.lock().unwrap().addresses.len() <= MAX_ADDRESSES);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let guesses = Guesses::new();
        for n in 0..TRIES_PER_ADDRESS {
            let address = Some(format!("2001:db8::{n:x}").parse().unwrap());
            assert!(guesses.judge(address, Steady(0), false).is_ok());
        }
        assert!(guesses.judge(Some("2001:db8::ffff".parse().unwrap()), Steady(0), true).is_err());
        assert!(guesses.judge(Some("2001:db8:0:1::1".parse().unwrap()), Steady(0), true).is_ok());
    }
}
