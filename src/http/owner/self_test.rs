//! The try of the whole way.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;

use super::OwnerSide;
use super::body::{OptionalJson, StrictJson};
use crate::http::auth::Caller;
use crate::http::problem::Problem;
use crate::self_test::Verdict;
use crate::token::random;

/// What the audit log calls it.
pub(super) const ACTION: &str = "self_test.run";

/// Answers `POST /api/v1/self-test`: tries the whole way, once at a time. Whoever hangs up meanwhile stops nothing: what was opened is closed.
pub(super) async fn run(
    State(side): State<Arc<OwnerSide>>,
    Extension(caller): Extension<Caller>,
    OptionalJson(StrictJson { object, .. }): OptionalJson,
) -> Result<Json<Verdict>, Problem> {
    object.finish()?;
    let turn = side.settings.self_test.begin().ok_or_else(|| {
        Problem::new(StatusCode::CONFLICT, "self_test_running", "A self-test is running already; its answer comes within half a minute.")
    })?;
    let id = random::share_id();
    let line = side.audit_line(&caller, ACTION, id.as_str(), "");
    let test = side.settings.self_test.clone();
    side.once.to_its_end(async move { Ok(Json(test.run(turn, id, line).await)) }).await
}
