//! What an owner may ask for, and what they get.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Moment, Timestamp};

/// The most downloads one share may have: more is a public file, which is not what this is for; and each use is a
/// transfer that we keep.
pub const MAX_DOWNLOADS: u32 = 1000;
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicyRequest {
    /// How many people may download it.
    pub max_downloads: Option<u64>,
    /// How long the link may be redeemed, from its start.
    pub expires_in_seconds: Option<u64>,
    /// When the link begins to work; now if left out.
    pub starts_at: Option<Timestamp>,
    /// What a stall does.
    pub on_stall: Option<OnStall>,
}

/// What was asked for and could not be had in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clamped {
    /// The expiry was shortened to `max_tunnel`.
    ExpiresInSeconds,
}

/// Says what is wrong with a policy, as a sentence for the owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// No download, or too many.
    #[error("max_downloads must be from 1 to {MAX_DOWNLOADS}")]
    MaxDownloads,
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
    /// How many people may download it: 1 to [`MAX_DOWNLOADS`].
    pub max_downloads: u32,
    /// How long the link may be redeemed, from its start: 1 second to `limits.max_tunnel`.
    pub expires_in: Duration,
    /// When the link begins to work; `None`: at once.
    pub starts: Option<Moment>,
    /// What a stall does.
    pub on_stall: OnStall,
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
        let max_downloads = match request.max_downloads {
            None => 1,
            Some(n) => u32::try_from(n).ok().filter(|n| (1..=MAX_DOWNLOADS).contains(n)).ok_or(PolicyError::MaxDownloads)?,
        };
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
        let clamped = if wanted > limits.max_tunnel { vec![Clamped::ExpiresInSeconds] } else { Vec::new() };
        Ok(Self {
            max_downloads,
            expires_in: wanted.min(limits.max_tunnel),
            starts,
            on_stall: request.on_stall.unwrap_or_default(),
            limits,
            clamped,
        })
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
    fn a_start_in_the_past_is_now() {
        let past = PolicyRequest { starts_at: Some(Timestamp(i64::MIN)), ..Default::default() };
        assert_eq!(policy(past).unwrap().starts, None);
    }
}
