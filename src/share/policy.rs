//! What an owner may ask for, and what they get.

use core::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moment, Network, Timestamp};

/// The most downloads one share may have: more is a public file, which is not what this is for; and each use is a
/// transfer that we keep.
pub const MAX_DOWNLOADS: u32 = 1000;
/// What the ledger has for a link without a limit: so many that nobody gets there within any expiry.
pub const UNLIMITED_USES: u32 = u32::MAX;
/// The most networks that one link is for: an owner writes down a few offices, not the internet; each is looked at by
/// every request.
pub const MAX_NETWORKS: usize = 16;
/// The slowest that a transfer may be made: below it the browser's own patience and not the limit ends the download.
pub const MIN_BYTES_PER_SECOND: u64 = 16 * 1024;
/// How far ahead a share may begin.
pub const MAX_START_DELAY: Duration = Duration::from_secs(365 * 24 * 3600);

/// What happens to the use of a transfer that stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStall {
    /// The use stays spent; when nothing else runs and no use is left, the share closes as `stalled`.
    #[default]
    Close,
    /// The use is given back: the link can be redeemed again.
    Reopen,
}

/// The bounds that the operator set, fixed for a share when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest time from opening to expiry, and again the longest that a moving transfer may overrun the expiry.
    pub max_tunnel: Duration,
    /// How long a transfer may go without a byte arriving.
    pub stall_timeout: Duration,
    /// How long after delivery the same transfers may fetch again.
    pub grace_period: Duration,
}

impl Limits {
    /// How long a link that was redeemed may wait for its first byte before the use is given back, at the most.
    const MAX_FIRST_BYTE: Duration = Duration::from_secs(60);

    /// Returns how long a link that was redeemed may wait for its first request before the use is given back.
    ///
    /// A browser asks within a second of its redirect; a minute forgives a train tunnel.
    pub fn first_request_timeout(&self) -> Duration {
        self.stall_timeout.min(Self::MAX_FIRST_BYTE)
    }
}

/// What an owner asked for; every field may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRequest {
    /// How many people may download it.
    pub max_downloads: Option<u64>,
    /// Whether anybody may download it, as often as they like, until it ends; not together with `max_downloads`.
    pub unlimited_downloads: bool,
    /// How long the link may be redeemed, from its start.
    pub expires_in_seconds: Option<u64>,
    /// When the link begins to work; now if left out.
    pub starts_at: Option<Timestamp>,
    /// What a stall does.
    pub on_stall: Option<OnStall>,
    /// From which networks it may be downloaded; from everywhere if left empty.
    pub allowed_networks: Vec<Network>,
    /// How fast each transfer may go.
    pub max_bytes_per_second: Option<u64>,
}

/// What was asked for and could not be had in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clamped {
    /// The expiry was shortened to `max_tunnel`.
    ExpiresInSeconds,
}

impl Clamped {
    /// Says what of a wish for `expires_in` cannot be had within `limits`.
    pub(super) fn of(expires_in: Duration, limits: &Limits) -> Vec<Self> {
        if expires_in > limits.max_tunnel { vec![Self::ExpiresInSeconds] } else { Vec::new() }
    }
}

/// Says what is wrong with a policy, as a sentence for the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No download, or too many.
    #[error("max_downloads must be from 1 to {MAX_DOWNLOADS}")]
    MaxDownloads,
    /// A limit and none.
    #[error("max_downloads and unlimited_downloads exclude each other; send one of them")]
    LimitedAndUnlimited,
    /// More networks than anybody can oversee.
    #[error("allowed_networks may hold at most {MAX_NETWORKS} networks")]
    TooManyNetworks,
    /// Slower than any client waits for.
    #[error("max_bytes_per_second must be {MIN_BYTES_PER_SECOND} or more")]
    TooSlow,
    /// It would be over before it began.
    #[error("expires_in_seconds must be 1 or more")]
    Expiry,
    /// It begins too far ahead.
    #[error("starts_at may lie at most a year ahead")]
    StartsTooLate,
}

/// The rules of one share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How many people may download it: 1 to [`MAX_DOWNLOADS`]; `None`: as many as come until it ends.
    pub max_downloads: Option<u32>,
    /// How long the link may be redeemed, from its start: 1 second to `limits.max_tunnel`.
    pub expires_in: Duration,
    /// When the link begins to work; `None`: at once.
    pub starts: Option<Moment>,
    /// What a stall does.
    pub on_stall: OnStall,
    /// From which networks it may be downloaded, at most [`MAX_NETWORKS`]; from everywhere where there is none.
    #[serde(default)]
    pub allowed_networks: Vec<Network>,
    /// How fast each transfer may go over all its connections: [`MIN_BYTES_PER_SECOND`] or more; `None`: as fast as it can.
    #[serde(default)]
    pub max_bytes_per_second: Option<u64>,
    /// The operator's bounds.
    pub limits: Limits,
    /// What was asked for and could not be had.
    pub clamped: Vec<Clamped>,
}

impl Policy {
    /// What a link lives for when its owner does not say.
    const DEFAULT_EXPIRY: Duration = Duration::from_secs(3600);

    /// Turns a wish into rules within `limits`. An expiry beyond the ceiling is shortened and the policy says so.
    ///
    /// # Errors
    /// [`PolicyError`] where the wish makes no sense.
    pub fn new(request: PolicyRequest, limits: Limits, now: Moment) -> Result<Self, PolicyError> {
        let max_downloads = match (request.max_downloads, request.unlimited_downloads) {
            (None, true) => None,
            (Some(_), true) => return Err(PolicyError::LimitedAndUnlimited),
            (None, false) => Some(1),
            (Some(n), false) => {
                let n = u32::try_from(n).ok().filter(|n| (1..=MAX_DOWNLOADS).contains(n));
                Some(n.ok_or(PolicyError::MaxDownloads)?)
            }
        };
        if request.allowed_networks.len() > MAX_NETWORKS {
            return Err(PolicyError::TooManyNetworks);
        }
        if request.max_bytes_per_second.is_some_and(|limit| limit < MIN_BYTES_PER_SECOND) {
            return Err(PolicyError::TooSlow);
        }
        let wanted = match request.expires_in_seconds {
            None => Self::DEFAULT_EXPIRY.min(limits.max_tunnel),
            Some(0) => return Err(PolicyError::Expiry),
            Some(seconds) => Duration::from_secs(seconds),
        };
        let starts = match request.starts_at {
            None => None,
            Some(at) if at <= now.wall => None,
            Some(at) => {
                let delay = Duration::from_millis(at.0.abs_diff(now.wall.0));
                if delay > MAX_START_DELAY {
                    return Err(PolicyError::StartsTooLate);
                }
                Some(now.plus(delay))
            }
        };
        let clamped = Clamped::of(wanted, &limits);
        Ok(Self {
            max_downloads,
            expires_in: wanted.min(limits.max_tunnel),
            starts,
            on_stall: request.on_stall.unwrap_or_default(),
            allowed_networks: request.allowed_networks,
            max_bytes_per_second: request.max_bytes_per_second,
            limits,
            clamped,
        })
    }

    /// Returns how many uses the ledger gives its link.
    pub fn uses_max(&self) -> u32 {
        self.max_downloads.unwrap_or(UNLIMITED_USES)
    }

    /// Returns whether a recipient at `address` may have the file. Where networks are named, an address that is not known
    /// lies in none of them.
    pub fn allows(&self, address: Option<IpAddr>) -> bool {
        self.allowed_networks.is_empty() || address.is_some_and(|address| self.allowed_networks.iter().any(|n| n.contains(address)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { max_tunnel: Duration::from_secs(3600), stall_timeout: Duration::from_secs(300), grace_period: Duration::from_secs(60) };

    fn policy(request: PolicyRequest) -> Result<Policy, PolicyError> {
        Policy::new(request, LIMITS, Moment::default())
    }

    #[test]
    fn a_longer_expiry_is_clamped_and_says_so() {
        let long = policy(PolicyRequest { expires_in_seconds: Some(u64::MAX), ..Default::default() }).unwrap();
        assert_eq!((long.expires_in, &long.clamped[..]), (LIMITS.max_tunnel, &[Clamped::ExpiresInSeconds][..]));
        let short = policy(PolicyRequest { expires_in_seconds: Some(1), ..Default::default() }).unwrap();
        assert_eq!((short.expires_in, &short.clamped[..]), (Duration::from_secs(1), &[][..]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(policy(PolicyRequest { expires_in_seconds: Some(0), ..Default::default() }), Err(PolicyError::Expiry));
        for n in [0, 1001, u64::MAX] {
            assert_eq!(policy(PolicyRequest { max_downloads: Some(n), ..Default::default() }), Err(PolicyError::MaxDownloads));
        }
        let far = PolicyRequest { starts_at: Some(Timestamp(i64::MAX)), ..Default::default() };
        assert_eq!(policy(far), Err(PolicyError::StartsTooLate));
    }

    #[test]
    fn a_limit_of_downloads_or_none_but_not_both() {
        let unlimited = PolicyRequest { unlimited_downloads: true, ..Default::default() };
        let policy_of = policy(unlimited.clone()).unwrap();
        assert_eq!((policy_of.max_downloads, policy_of.uses_max()), (None, UNLIMITED_USES));
        let both = PolicyRequest { max_downloads: Some(2), ..unlimited };
        assert_eq!(policy(both), Err(PolicyError::LimitedAndUnlimited));
        assert_eq!(policy(PolicyRequest::default()).unwrap().max_downloads, Some(1));
    }

    #[test]
    fn networks_and_speeds_have_their_bounds() {
        let network: Network = "10.0.0.0/8".parse().unwrap();
        let networks = |n| PolicyRequest { allowed_networks: vec![network; n], ..Default::default() };
        assert!(policy(networks(MAX_NETWORKS)).is_ok());
        assert_eq!(policy(networks(MAX_NETWORKS + 1)), Err(PolicyError::TooManyNetworks));
        let slow = |limit| PolicyRequest { max_bytes_per_second: Some(limit), ..Default::default() };
        assert_eq!(policy(slow(MIN_BYTES_PER_SECOND)).unwrap().max_bytes_per_second, Some(MIN_BYTES_PER_SECOND));
        assert_eq!(policy(slow(MIN_BYTES_PER_SECOND - 1)), Err(PolicyError::TooSlow));
    }

    #[test]
    fn who_may_have_it_is_decided_by_their_address() {
        let (inside, outside) = ("10.1.2.3".parse().unwrap(), "203.0.113.7".parse().unwrap());
        let everywhere = policy(PolicyRequest::default()).unwrap();
        assert!(everywhere.allows(None) && everywhere.allows(Some(outside)));
        let allowed_networks = vec!["192.168.0.0/16".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        let offices = policy(PolicyRequest { allowed_networks, ..Default::default() }).unwrap();
        assert!(offices.allows(Some(inside)) && !offices.allows(Some(outside)) && !offices.allows(None));
    }

    #[test]
    fn rules_that_an_older_version_saved_are_read() {
        let old = r#"{"max_downloads":1,"expires_in":{"secs":3600,"nanos":0},"starts":null,"on_stall":"close",
            "limits":{"max_tunnel":{"secs":3600,"nanos":0},"stall_timeout":{"secs":300,"nanos":0},"grace_period":{"secs":60,"nanos":0}},
            "clamped":[]}"#;
        assert_eq!(serde_json::from_str::<Policy>(old).unwrap(), policy(PolicyRequest::default()).unwrap());
    }

    #[test]
    fn a_start_in_the_past_is_now() {
        let past = PolicyRequest { starts_at: Some(Timestamp(i64::MIN)), ..Default::default() };
        assert_eq!(policy(past).unwrap().starts, None);
    }
}
