//! The audit log: who did what, from where. A line is on disk before what it tells of happens.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use utoipa::ToSchema;

use super::OwnerSide;
use super::openapi::schema;
use super::query::{bad, given, limit};
use super::wire::{hex, time};
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::store::MAX_PAGE;
use crate::store::audit::{AuditBreak, AuditEntry, AuditLine, AuditVerdict};

/// How many lines a page has where it is not said.
const DEFAULT_LINES: usize = 100;

impl OwnerSide {
    /// Writes down what an owner is about to do. Where that cannot be written, it is not done.
    ///
    /// # Errors
    /// `store_unavailable`.
    pub(in crate::http) async fn audit(&self, caller: &Caller, action: &str, target: &str, detail: &str) -> Result<(), Problem> {
        self.store.append_audit(self.entry(&caller.who, &caller.from, action, target, detail)).await?;
        let Caller { who, from, .. } = caller;
        info!(audit.action = action, audit.target = target, audit.who = who, audit.from = from, "An owner does {action}");
        Ok(())
    }

    /// Writes down what somebody asked for and was refused.
    pub(in crate::http) async fn audit_refused(&self, who: &str, from: &str, action: &str, target: &str, code: &str) {
        info!(audit.action = action, audit.target = target, audit.who = who, audit.from = from, problem.code = code, "Refused {action}");
        let entry = self.entry(who, from, action, target, &format!("refused: {code}"));
        if let Err(error) = self.store.append_audit(entry).await {
            warn!(%error, "The audit log could not take a line about a refusal");
        }
    }

    fn entry(&self, who: &str, from: &str, action: &str, target: &str, detail: &str) -> AuditEntry {
        let [who, from, action, target, detail] = [who, from, action, target, detail].map(str::to_owned);
        AuditEntry { at: self.clock.now().wall, who, from, action, target, detail }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Params {
    cursor: Option<String>,
    limit: Option<String>,
}

/// A page of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Audit)]
pub(super) struct AuditJson {
    /// The newest first.
    lines: Vec<AuditLineJson>,
    next_cursor: Option<String>,
}

/// A line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditLine)]
struct AuditLineJson {
    seq: u64,
    #[schema(format = "date-time")]
    at: String,
    who: String,
    from: String,
    action: String,
    target: String,
    detail: String,
    hash: String,
}

impl AuditLineJson {
    fn new(AuditLine { seq, entry, hash, .. }: AuditLine) -> Self {
        let AuditEntry { at, who, from, action, target, detail } = entry;
        Self { seq, at: time(at), who, from, action, target, detail, hash: hex(&hash) }
    }
}

/// Answers `GET /api/v1/audit`, newest first. A cursor is the number of a line: the page holds what came before it.
pub(super) async fn list(State(side): State<Arc<OwnerSide>>, Query(params): Query<Params>) -> Result<Json<AuditJson>, Problem> {
    let before = match given(&params.cursor) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| bad("cursor must be the next_cursor of the page before."))?),
    };
    let limit = limit(params.limit.as_deref(), DEFAULT_LINES, MAX_PAGE)?;
    let lines = side.store.audit_lines(before, limit).await?;
    let next_cursor = lines.last().filter(|last| lines.len() == limit && last.seq > 1).map(|last| last.seq.to_string());
    Ok(Json(AuditJson { lines: lines.into_iter().map(AuditLineJson::new).collect(), next_cursor }))
}

/// What came of looking through the chain of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditVerdict)]
pub(super) struct VerdictJson {
    is_intact: bool,
    lines: u64,
    first_seq: Option<u64>,
    /// The last line: whoever notes it elsewhere finds also a log that was cut at its end.
    head: Option<HeadJson>,
    /// The first thing that is wrong.
    #[schema(schema_with = schema::audit_break_or_null)]
    broken: Option<AuditBreak>,
}

/// The last line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditHead)]
struct HeadJson {
    seq: u64,
    hash: String,
}

/// Answers `GET /api/v1/audit/verify`.
pub(super) async fn verify(State(side): State<Arc<OwnerSide>>) -> Result<Json<VerdictJson>, Problem> {
    let AuditVerdict { lines, first_seq, head, broken } = side.store.verify_audit().await?;
    let head = head.map(|(seq, hash)| HeadJson { seq, hash: hex(&hash) });
    Ok(Json(VerdictJson { is_intact: broken.is_none(), lines, first_seq, head, broken }))
}
