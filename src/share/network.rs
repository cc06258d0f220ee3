//! Networks of recipients: those that a link is for, and those that deliveries are counted by.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network of addresses, as `203.0.113.0/24`; one address is a network too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Says that a text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no address and no network; write them as 10.0.0.1 or 10.0.0.0/8")]
pub struct InvalidNetwork;

impl Network {
    /// Returns whether an address lies in it. An IPv4 address that comes as IPv6 (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && masked(address, self.prefix) == self.first
    }
}

/// Reads `address/prefix` or an address alone. Bits behind the prefix are cleared: `10.1.2.3/8` is `10.0.0.0/8`.
impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        // One spelling: no sign, no leading zero.
        let number = |prefix: &str| prefix.parse::<u8>().ok().filter(|bits| bits.to_string() == prefix);
        let prefix = prefix.map_or(Some(bits), number).filter(|prefix| *prefix <= bits).ok_or(InvalidNetwork)?;
        let canonical = address.to_canonical();
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`; with a shorter prefix it would hold more than IPv4 has.
        let prefix = if canonical.is_ipv4() && bits == 128 { prefix.checked_sub(96).ok_or(InvalidNetwork)? } else { prefix };
        Ok(Self { first: masked(canonical, prefix), prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl TryFrom<String> for Network {
    type Error = InvalidNetwork;

    fn try_from(text: String) -> Result<Self, InvalidNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// Returns the network that an address is counted for, as `203.0.113.0/24` or `2001:db8:1::/48`: what a household or an
/// office has, and no single person. `None` where the text is no address.
pub(super) fn network_of(address: &str) -> Option<String> {
    Some(match address.parse::<IpAddr>().ok()?.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    })
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_counted_for_its_network() {
        for (address, network) in [
            ("203.0.113.7", Some("203.0.113.0/24")),
            ("::ffff:203.0.113.7", Some("203.0.113.0/24")),
            ("2001:db8:1:2::3", Some("2001:db8:1::/48")),
            ("::1", Some("::/48")),
            ("nobody", None),
        ] {
            assert_eq!(network_of(address).as_deref(), network, "{address}");
        }
    }

    #[test]
    fn a_network_has_one_spelling_and_reads_back() {
        for (text, shown) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:DB8:1:2::3/48", "2001:db8:1::/48"),
            ("::/0", "::/0"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8"),
        ] {
            let network: Network = text.parse().unwrap();
            assert_eq!(network.to_string(), shown, "{text}");
            let json = serde_json::to_string(&network).unwrap();
            assert_eq!(json, format!("{shown:?}"));
            assert_eq!(serde_json::from_str::<Network>(&json).unwrap(), network);
        }
        for wrong in
            ["", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08", "10.0.0.0/+8", "::/129", "::ffff:10.0.0.0/95", "a", " 10.0.0.1"]
        {
            assert_eq!(wrong.parse::<Network>(), Err(InvalidNetwork), "{wrong}");
        }
    }

    #[test]
    fn an_address_lies_in_a_network_or_does_not() {
        let contains = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
        assert!(contains("203.0.113.0/24", "203.0.113.255") && !contains("203.0.113.0/24", "203.0.114.0"));
        assert!(contains("203.0.113.0/24", "::ffff:203.0.113.1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::"));
        assert!(contains("0.0.0.0/0", "255.255.255.255") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "::1") && !contains("::/0", "10.0.0.1"));
    }
}
