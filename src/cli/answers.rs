//! What the owner API answers, as far as the commands need it. Fields that are not named here are let through.

use std::collections::BTreeMap;

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
    pub(super) path: String,
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) sha256: Option<String>,
    #[serde(default)]
    pub(super) clamped: Vec<String>,
    pub(super) url: Option<String>,
    pub(super) curl: Option<String>,
    pub(super) policy: Policy,
    /// The whole policy as a sentence.
    pub(super) policy_text: Option<String>,
    #[serde(default)]
    pub(super) tunnel: Tunnel,
    pub(super) progress: Progress,
    pub(super) created_at: String,
    pub(super) expires_at: String,
    pub(super) closed_at: Option<String>,
    pub(super) note: Option<String>,
    pub(super) message: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Policy {
    /// `None`: as many as come until it expires.
    pub(super) max_downloads: Option<u64>,
    pub(super) expires_in_seconds: u64,
}

/// The way in; of one that nobody looks at from the internet nothing is said.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Tunnel {
    pub(super) reachable: Option<String>,
    pub(super) reach_problem: Option<String>,
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

/// One recipient's exercise of a link.
#[derive(Debug, Deserialize)]
pub(super) struct Transfer {
    pub(super) state: String,
    pub(super) agent: String,
    pub(super) address: Option<String>,
    pub(super) delivered_bytes: u64,
    pub(super) percent: u8,
    #[serde(default)]
    pub(super) bytes_per_second: u64,
    pub(super) redeemed_at: String,
    pub(super) ended_at: Option<String>,
    #[serde(default)]
    pub(super) given_back: bool,
}

/// What came of each file of a batch.
#[derive(Debug, Deserialize)]
pub(super) struct Batch {
    pub(super) results: Vec<BatchResult>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BatchResult {
    pub(super) path: String,
    pub(super) share: Option<Value>,
    pub(super) problem: Option<Problem>,
}

/// What of the catalog was found.
#[derive(Debug, Deserialize)]
pub(super) struct Files {
    pub(super) entries: Vec<Value>,
    pub(super) next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) size_bytes: u64,
    pub(super) modified: String,
}

/// What happened over days.
#[derive(Debug, Deserialize)]
pub(super) struct Stats {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) shares: ShareStats,
    pub(super) transfers: TransferStats,
    pub(super) days: Vec<Day>,
    pub(super) top_files: Vec<TopFile>,
    pub(super) networks: Vec<Network>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShareStats {
    pub(super) made: u64,
    pub(super) closed: u64,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) success_percent: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TransferStats {
    pub(super) redeemed: u64,
    pub(super) completed: u64,
    pub(super) given_back: u64,
    pub(super) delivered_bytes: u64,
    pub(super) median_bytes_per_second: Option<u64>,
    pub(super) p95_bytes_per_second: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Day {
    pub(super) day: String,
    pub(super) completed: u64,
    pub(super) delivered_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct TopFile {
    pub(super) path: String,
    pub(super) downloads: u64,
    pub(super) delivered_bytes: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Network {
    pub(super) network: String,
    pub(super) downloads: u64,
    pub(super) delivered_bytes: u64,
}

/// A credential for a script; its secret stands here once, when it was made.
#[derive(Debug, Deserialize)]
pub(super) struct ApiToken {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) scope: String,
    pub(super) token: Option<String>,
    pub(super) created_at: String,
    pub(super) expires_at: Option<String>,
    pub(super) last_used_at: Option<String>,
}

/// A signed-in browser.
#[derive(Debug, Deserialize)]
pub(super) struct Browser {
    pub(super) id: String,
    pub(super) last_seen_at: String,
    pub(super) expires_at: String,
    pub(super) address: Option<String>,
    pub(super) agent: String,
    #[serde(default)]
    pub(super) is_current: bool,
}

/// A line of the audit log.
#[derive(Debug, Deserialize)]
pub(super) struct AuditLine {
    pub(super) seq: u64,
    pub(super) at: String,
    pub(super) who: String,
    pub(super) from: String,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) detail: String,
    pub(super) hash: String,
}

/// What came of looking through the audit log.
#[derive(Debug, Deserialize)]
pub(super) struct AuditVerdict {
    pub(super) lines: u64,
    pub(super) first_seq: Option<u64>,
    pub(super) head: Option<AuditHead>,
    pub(super) broken: Option<AuditBreak>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AuditHead {
    pub(super) seq: u64,
    pub(super) hash: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct AuditBreak {
    pub(super) seq: u64,
    pub(super) sentence: String,
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

/// An answer that refuses (RFC 9457), or says that the server is not well.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    pub(super) detail: String,
    pub(super) code: String,
    checks: BTreeMap<String, Check>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Check {
    status: String,
    reason: Option<String>,
}

impl Problem {
    /// Returns the checks that fail with their reasons; empty where the answer tells of none.
    pub(super) fn failing(&self) -> String {
        let failing = self.checks.iter().filter(|(_, check)| check.status == "failing");
        let said = failing.map(|(name, check)| format!("{name} ({})", check.reason.as_deref().unwrap_or("no reason given")));
        said.collect::<Vec<_>>().join(", ")
    }
}

impl TryFrom<Value> for Answered {
    type Error = serde_json::Error;

    fn try_from(json: Value) -> Result<Self, Self::Error> {
        Ok(Self { share: Share::deserialize(&json)?, json })
    }
}
