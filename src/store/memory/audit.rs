//! The audit log.

use crate::share::Timestamp;
use crate::store::audit::{AuditEntry, AuditLine, AuditMark, AuditVerdict, FORGOTTEN, Verifier, forgotten_up_to};
use crate::store::page_limit;

/// Its lines, and where they begin and end.
#[derive(Debug, Default)]
pub(super) struct AuditLog {
    lines: Vec<AuditLine>,
    head: AuditMark,
    anchor: AuditMark,
}

impl AuditLog {
    pub(super) fn append(&mut self, entry: AuditEntry) -> AuditLine {
        let line = AuditLine::following(self.head.seq + 1, self.head.hash, entry);
        self.head = line.mark();
        self.lines.push(line.clone());
        line
    }

    pub(super) fn page(&self, before: Option<u64>, limit: usize) -> Vec<AuditLine> {
        let wanted = self.lines.iter().rev().filter(|line| before.is_none_or(|before| line.seq < before));
        wanted.take(page_limit(limit)).cloned().collect()
    }

    /// Forgets the lines at the beginning that were written before a time. Returns how many.
    pub(super) fn forget(&mut self, before: Timestamp) -> u64 {
        let old = self.lines.iter().take_while(|line| line.entry.at < before).count();
        if self.lines[..old].iter().all(|line| line.entry.action == FORGOTTEN) {
            return 0;
        }
        let newest = self.lines.last().map_or(before, |line| line.entry.at);
        if let Some(last) = self.lines.drain(..old).next_back() {
            self.anchor = last.mark();
        }
        self.append(forgotten_up_to(self.anchor, newest.max(before)));
        old as u64
    }

    pub(super) fn verify(&self) -> AuditVerdict {
        let mut verifier = Verifier::behind(Some(self.anchor));
        self.lines.iter().for_each(|line| verifier.see(line));
        verifier.finish(Some(self.head))
    }
}
