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

    /// Returns where in the chain it stands.
    pub fn mark(&self) -> AuditMark {
        AuditMark { seq: self.seq, hash: self.hash }
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

/// A place in the chain: a line's number and hash. The default is the place before the first line ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditMark {
    /// The line's number.
    pub seq: u64,
    /// The line's hash.
    pub hash: [u8; 32],
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

/// The action of the line that says that older ones were forgotten.
pub(super) const FORGOTTEN: &str = "audit.forgotten";
/// Who writes the lines that nobody asked for.
pub(super) const OURSELVES: &str = "portcullis";

/// Returns the line that says that every line up to `last` was forgotten.
pub(super) fn forgotten_up_to(last: AuditMark, at: Timestamp) -> AuditEntry {
    AuditEntry {
        at,
        who: OURSELVES.to_owned(),
        from: "retention".to_owned(),
        action: FORGOTTEN.to_owned(),
        target: last.seq.to_string(),
        detail: detail_of_forgotten(last),
    }
}

fn detail_of_forgotten(last: AuditMark) -> String {
    let hash: String = last.hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("lines up to {} were forgotten, their time was over; the last had the hash {hash}", last.seq)
}

/// Looks through a chain, line by line.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The last line that was forgotten, as the store keeps it.
    anchor: AuditMark,
    /// The last line that was seen, or the anchor.
    last: AuditMark,
    /// What the newest line about forgetting says that was forgotten.
    said: Option<(u64, AuditEntry)>,
    lines: u64,
    first_seq: Option<u64>,
    broken: Option<AuditBreak>,
}

impl Verifier {
    /// Begins behind the lines that were forgotten.
    pub(super) fn behind(anchor: Option<AuditMark>) -> Self {
        let anchor = anchor.unwrap_or_default();
        Self { anchor, last: anchor, said: None, lines: 0, first_seq: None, broken: None }
    }

    /// Looks at the next line.
    pub(super) fn see(&mut self, line: &AuditLine) {
        let (expected, seq) = (self.last.seq + 1, line.seq);
        if seq != expected {
            let missing = if seq == expected + 1 {
                format!("line {expected} is missing")
            } else {
                format!("lines {expected} to {} are missing", seq.saturating_sub(1))
            };
            self.break_at(expected, if seq > expected { missing } else { format!("line {seq} stands where line {expected} should") });
        } else if !line.is_intact() {
            self.break_at(seq, format!("line {seq} was changed: it is not what its hash was made of"));
        } else if line.previous != self.last.hash {
            self.break_at(seq, format!("line {seq} does not follow the line before it: one of them was replaced or moved"));
        }
        if line.entry.action == FORGOTTEN && line.entry.who == OURSELVES {
            self.said = Some((seq, line.entry.clone()));
        }
        self.lines += 1;
        self.first_seq.get_or_insert(seq);
        self.last = line.mark();
    }

    /// Compares with the place where the chain should end.
    pub(super) fn finish(mut self, head: Option<AuditMark>) -> AuditVerdict {
        let head = head.unwrap_or_default();
        if head.seq > self.last.seq {
            self.break_at(
                self.last.seq + 1,
                format!("the end is missing: line {} was written, the last one here is {}", head.seq, self.last.seq),
            );
        } else if head != self.last {
            self.break_at(self.last.seq, format!("line {} is not the one that was written last", self.last.seq));
        }
        match &self.said {
            Some((_, entry)) if entry.target == self.anchor.seq.to_string() && entry.detail == detail_of_forgotten(self.anchor) => {}
            Some((seq, entry)) => {
                let (seq, told) = (*seq, entry.target.clone());
                self.break_at(
                    seq,
                    format!("line {seq} says that lines up to {told} were forgotten, but the log begins behind line {}", self.anchor.seq),
                );
            }
            None if self.anchor != AuditMark::default() => {
                self.break_at(
                    self.anchor.seq,
                    format!("lines up to {} are gone, and no line says that they were forgotten", self.anchor.seq),
                );
            }
            None => {}
        }
        let head = self.first_seq.map(|_| (self.last.seq, self.last.hash));
        AuditVerdict { lines: self.lines, first_seq: self.first_seq, head, broken: self.broken }
    }

    /// Keeps the first break.
    fn break_at(&mut self, seq: u64, sentence: String) {
        self.broken.get_or_insert(AuditBreak { seq, sentence });
    }
}

#[cfg(test)]
mod tests;
