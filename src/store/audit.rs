//! The audit log: one line for each action of an owner, with who and from where, chained by hashes.
//!
//! Each line's hash covers the hash of the line before it, so a line that is changed, removed or moved breaks the chain
//! from there on. What it cannot show by itself is a log that was cut at its end or written anew from the start; whoever
//! notes the head (number and hash) elsewhere finds that too.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::share::Timestamp;

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, by the wall clock.
    pub at: Timestamp,
    /// Who: `owner token`, `browser 3f9a…`, `token 4k2m9x (backup script)`, `local user 1000`, `portcullis`.
    pub who: String,
    /// From where: an address, or `local socket`.
    pub from: String,
    /// What was done, as `share.create`.
    pub action: String,
    /// To what, as a share's id; may be empty.
    pub target: String,
    /// What else is worth knowing, as a path or why it was refused; may be empty.
    pub detail: String,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// What it says.
    pub entry: AuditEntry,
    /// The hash of the line before it; zeros for the first line ever.
    pub previous: [u8; 32],
    /// Its own hash.
    pub hash: [u8; 32],
}

impl AuditLine {
    /// Writes the line that follows `previous`.
    pub fn following(seq: u64, previous: [u8; 32], entry: AuditEntry) -> Self {
        let hash = hash_of(seq, &previous, &entry);
        Self { seq, entry, previous, hash }
    }

    /// Returns whether the line says what its hash covers.
    pub fn is_intact(&self) -> bool {
        self.hash == hash_of(self.seq, &self.previous, &self.entry)
    }
}

/// Hashes a line. Each field goes in with its length, so that no two lines have the same bytes.
fn hash_of(seq: u64, previous: &[u8; 32], entry: &AuditEntry) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"portcullis audit 1");
    digest.update(seq.to_le_bytes());
    digest.update(previous);
    digest.update(entry.at.0.to_le_bytes());
    for field in [&entry.who, &entry.from, &entry.action, &entry.target, &entry.detail] {
        digest.update((field.len() as u64).to_le_bytes());
        digest.update(field);
    }
    digest.finalize().into()
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditBreak {
    /// At which line.
    pub seq: u64,
    /// What, as a sentence.
    pub sentence: String,
}

/// What came of looking through the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditVerdict {
    /// How many lines were looked at.
    pub lines: u64,
    /// The first line that is kept; older ones were forgotten when their time was over.
    pub first_seq: Option<u64>,
    /// The number and hash of the last line.
    pub head: Option<(u64, [u8; 32])>,
    /// The first thing that is wrong.
    pub broken: Option<AuditBreak>,
}
