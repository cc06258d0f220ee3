//! The audit log: a stream whose ids are the numbers of its lines.

use redis::{cmd, pipe};

use super::{CHUNK, RedisStore, reply};
use crate::store::audit::{AuditLine, AuditMark, AuditVerdict, Verifier};
use crate::store::{StoreError, page_limit};

impl RedisStore {
    pub(super) async fn page_of_audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        let last = match before {
            None => "+".to_owned(),
            Some(0) => return Ok(Vec::new()),
            Some(before) => format!("{}-0", before - 1),
        };
        let mut page = cmd("XREVRANGE");
        page.arg(self.keys.of("audit")).arg(last).arg("-").arg("COUNT").arg(page_limit(limit));
        reply::list(self.ask_one(page).await?).into_iter().map(reply::line).collect()
    }

    /// Returns lines behind a number, in order.
    pub(super) async fn audit_behind(&self, seq: u64, limit: usize) -> Result<Vec<AuditLine>, StoreError> {
        let mut part = cmd("XRANGE");
        part.arg(self.keys.of("audit")).arg(format!("{}-0", seq + 1)).arg("+").arg("COUNT").arg(limit);
        reply::list(self.ask_one(part).await?).into_iter().map(reply::line).collect()
    }

    /// Returns where the log begins and ends, as it is noted.
    pub(super) async fn audit_marks(&self) -> Result<(Option<AuditMark>, Option<AuditMark>), StoreError> {
        let mut pipe = pipe();
        pipe.cmd("HMGET").arg(self.keys.of("marks")).arg("anchor").arg("head");
        let marks = reply::list(self.ask(&pipe).await?.pop().ok_or_else(reply::strange)?);
        Ok((marks.first().and_then(reply::mark), marks.get(1).and_then(reply::mark)))
    }

    /// Looks through the whole chain, up to where it ends as this begins: lines that come meanwhile are not looked at.
    pub(super) async fn verify(&self) -> Result<AuditVerdict, StoreError> {
        loop {
            let (anchor, verdict) = self.verify_once().await?;
            // Where its beginning was forgotten meanwhile, what was seen is not what there is. That happens once an hour.
            if verdict.broken.is_none() || self.audit_marks().await?.0 == anchor {
                return Ok(verdict);
            }
        }
    }

    async fn verify_once(&self) -> Result<(Option<AuditMark>, AuditVerdict), StoreError> {
        let (anchor, head) = self.audit_marks().await?;
        let mut verifier = Verifier::behind(anchor);
        let (mut last, end) = (0, head.unwrap_or_default().seq);
        loop {
            let lines = self.audit_behind(last, CHUNK).await?;
            let Some(newest) = lines.last() else { break };
            last = newest.seq;
            // Lines behind the noted end are somebody else's work where they stood there before; those that came since are not.
            lines.iter().filter(|line| line.seq <= end).for_each(|line| verifier.see(line));
            if last >= end {
                break;
            }
        }
        Ok((anchor, verifier.finish(head)))
    }
}
