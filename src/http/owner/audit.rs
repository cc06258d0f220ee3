//! The audit log: who did what, from where. A line is on disk before what it tells of happens.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use utoipa::ToSchema;

use super::OwnerSide;
use super::openapi::schema;
use super::query::{bad, given, limit};
use super::wire::{hex, time};
use crate::causes::Causes;
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::share::Steady;
use crate::store::MAX_PAGE;
use crate::store::audit::{AuditBreak, AuditEntry, AuditLine, AuditVerdict};

/// How many lines a page has where it is not said.
const DEFAULT_LINES: usize = 100;
/// How many lines about refusals are written at once, and how long until there may be one more. Whoever may only look, or
/// guesses, can be refused thousands of times a second: 1440 lines a day are half a megabyte, and a disk that is full would
/// stop everything, since no line means no action.
const REFUSALS: u32 = 200;
const REFUSAL_EVERY: Duration = Duration::from_secs(60);

/// How long who is refused waits for the line about that; a disk that is well takes milliseconds.
const REFUSED_WITHIN: Duration = Duration::from_millis(200);

/// Bounds the lines about refusals. What was done is always written down.
#[derive(Debug)]
pub(super) struct Refusals(Mutex<Spent>);

#[derive(Debug)]
struct Spent {
    /// When all of [`REFUSALS`] are there again.
    full_at: Steady,
    /// How many were left out since the last line.
    left_out: u64,
}

impl Default for Refusals {
    fn default() -> Self {
        Self(Mutex::new(Spent { full_at: Steady(i64::MIN), left_out: 0 }))
    }
}

impl Refusals {
    /// Returns whether a line may be written, and how many were left out before it.
    fn take(&self, now: Steady) -> Option<u64> {
        let mut spent = self.0.lock().expect("nobody panics while counting refusals");
        if spent.full_at.since(now) > REFUSAL_EVERY * (REFUSALS - 1) {
            spent.left_out += 1;
            return None;
        }
        spent.full_at = spent.full_at.max(now).plus(REFUSAL_EVERY);
        Some(std::mem::take(&mut spent.left_out))
    }
}

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

    /// Returns the line of what an owner is about to do, for whoever writes it together with what it tells of.
    pub(super) fn audit_line(&self, caller: &Caller, action: &str, target: &str, detail: &str) -> AuditEntry {
        let Caller { who, from, .. } = caller;
        info!(audit.action = action, audit.target = target, audit.who = who, audit.from = from, "An owner does {action}");
        self.entry(who, from, action, target, detail)
    }

    /// Writes down what somebody asked for and was refused, as often as [`REFUSALS`] says; the log has all of it.
    pub(in crate::http) async fn audit_refused(&self, who: &str, from: &str, action: &str, target: &str, code: &str) {
        info!(audit.action = action, audit.target = target, audit.who = who, audit.from = from, problem.code = code, "Refused {action}");
        let Some(left_out) = self.refusals.take(self.clock.now().steady) else { return };
        let missing = if left_out > 0 { format!("; {left_out} refusals before it were not written down") } else { String::new() };
        let entry = self.entry(who, from, action, target, &format!("refused: {code}{missing}"));
        // It is written all the same where nobody waits for it: what is refused needs no disk to be refused.
        match timeout(REFUSED_WITHIN, self.store.append_audit(entry)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(error = %Causes(&error), "The audit log could not take a line about a refusal"),
            Err(_) => debug!("A refusal is written down later"),
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
