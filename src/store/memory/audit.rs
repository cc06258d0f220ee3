//! The audit log.

use crate::store::audit::{AuditEntry, AuditLine, AuditMark, AuditVerdict, Verifier};
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

    pub(super) fn verify(&self) -> AuditVerdict {
        let mut verifier = Verifier::behind(Some(self.anchor));
        self.lines.iter().for_each(|line| verifier.see(line));
        verifier.finish(Some(self.head))
    }
}
