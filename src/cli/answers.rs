//! What the owner API answers, as far as the commands need it. Fields that are not named here are let through.

use serde::Deserialize;
use serde_json::Value;

/// A share, with the JSON that it came as.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) json: Value,
    pub(super) share: Share,
}

/// A share.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Share {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) state_text: String,
    pub(super) outcome: Option<String>,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    #[serde(default)]
    pub(super) clamped: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) policy: Policy,
    pub(super) progress: Progress,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Policy {
    pub(super) max_downloads: u64,
    pub(super) expires_in_seconds: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Progress {
    pub(super) delivered_bytes: u64,
}

/// A page of shares.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) shares: Vec<Value>,
    pub(super) next_cursor: Option<String>,
}

/// What the server says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Session {
    pub(super) version: String,
    pub(super) root: String,
}

/// A sign-in link.
#[derive(Debug, Deserialize)]
pub(super) struct SignInLink {
    pub(super) url: String,
}

/// An answer that refuses (RFC 9457).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) detail: String,
    pub(super) code: String,
}

impl TryFrom<Value> for Answered {
    type Error = serde_json::Error;

    fn try_from(json: Value) -> Result<Self, Self::Error> {
        Ok(Self { share: Share::deserialize(&json)?, json })
    }
}
